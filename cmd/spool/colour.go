package main

import (
	"fmt"
	"io"
	"os"
)

// colour is one of a terminal's, as its escape sequence counts them.
type colour int

const (
	red    colour = 31
	green  colour = 32
	yellow colour = 33
)

// painter returns what colours a text that is written to w: on a terminal only, and
// never with NO_COLOR (no-color.org) or a terminal that knows none.
func painter(w io.Writer) func(colour, string) string {
	if terminal(w) == nil || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return func(_ colour, text string) string { return text }
	}
	return func(c colour, text string) string { return fmt.Sprintf("\x1b[%dm%s\x1b[0m", c, text) }
}
