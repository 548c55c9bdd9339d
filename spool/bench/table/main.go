// Command table reads the results of this module's benchmarks, several rounds of
// them, from standard input and prints one table: the median of each, the ratios
// between spool and its peers, and what they ought to be.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	res, err := readResults(in)
	if err != nil {
		return err
	}
	return printTables(out, res)
}
