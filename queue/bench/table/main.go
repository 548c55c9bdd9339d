// Command table reads the results of this repository's benchmarks, in the Go benchmark
// format, and prints one table in Markdown: medians of the rounds, and ratios to the peers.
//
//	table [-all] [-into FILE] [RESULTS ...]
//
// Without RESULTS it reads standard input. -all prints, after the table, what spool is to
// reach and every other number. -into FILE puts the table between the marks in FILE instead:
//
//	<!-- table: begin --> ... <!-- table: end -->
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	all := flag.Bool("all", false, "print targets and other numbers, too")
	into := flag.String("into", "", "put the table between the marks in this `file`")
	flag.Parse()
	if err := run(flag.Args(), os.Stdin, os.Stdout, *all, *into); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(files []string, in io.Reader, out io.Writer, all bool, into string) error {
	res, err := readFiles(files, in)
	if err != nil {
		return err
	}
	table := markdown(res)
	if into != "" {
		return putInto(into, table)
	}
	fmt.Fprint(out, table)
	if all {
		return printRest(out, res)
	}
	return nil
}

// readFiles reads all files as one, or in if there is none.
func readFiles(files []string, in io.Reader) (results, error) {
	if len(files) == 0 {
		return readResults(in)
	}
	var all bytes.Buffer
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return results{}, err
		}
		all.Write(text)
	}
	return readResults(&all)
}

const (
	markBegin = "<!-- table: begin -->\n"
	markEnd   = "<!-- table: end -->\n"
)

// putInto replaces what is between the marks in a file.
func putInto(name, table string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(text, []byte(markBegin))
	_, after, ends := bytes.Cut(rest, []byte(markEnd))
	if !begins || !ends {
		return errors.New(name + " has no place marked for the table")
	}
	text = fmt.Appendf(nil, "%s%s\n%s\n%s%s", before, markBegin, table, markEnd, after)
	return os.WriteFile(name, text, 0o644)
}
