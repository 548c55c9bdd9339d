// Package crashtest kills processes for tests: a test binary runs itself again as a
// child that says what it has been promised, and the test checks, after SIGKILL, that
// every promise was kept.
package crashtest

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// errorLine begins the line with which a child says that it failed.
const errorLine = "ERROR "

// Fail prints why the child cannot go on, and ends it. The parent's test fails.
func Fail(err error) {
	_, _ = os.Stdout.WriteString(errorLine + err.Error() + "\n")
	os.Exit(1)
}

// KillAfter runs the test binary again with env added to the environment, which its
// TestMain has to recognise. It kills the child when that has printed n lines, and
// returns all the lines that it printed.
func KillAfter(tb testing.TB, n int, env ...string) []string {
	tb.Helper()
	c := Start(tb, env...)
	c.Await(n)
	return c.Kill()
}

// Child is a running child. It ends with the test at the latest. Its methods are for the
// test's goroutine.
type Child struct {
	tb      testing.TB
	cmd     *exec.Cmd
	lines   *bufio.Scanner
	printed []string
}

// Start runs the test binary again, as KillAfter does.
func Start(tb testing.TB, env ...string) *Child {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	return &Child{tb: tb, cmd: cmd, lines: bufio.NewScanner(out)}
}

// Await returns when the child has printed n lines. It fails the test if the child ends
// before.
func (c *Child) Await(n int) {
	c.tb.Helper()
	for len(c.printed) < n && c.scan() {
	}
	if len(c.printed) < n {
		c.tb.Fatalf("the child ended by itself after %d lines of %d: %v", len(c.printed), n, c.cmd.Wait())
	}
}

// Kill ends the child by SIGKILL and returns all the lines that it printed. It fails the
// test if the child has ended by itself.
func (c *Child) Kill() []string {
	c.tb.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		c.tb.Fatal(err)
	}
	for c.scan() {
	}
	if err := c.cmd.Wait(); err == nil {
		c.tb.Fatalf("the child ended by itself after %d lines", len(c.printed))
	}
	return c.printed
}

// scan reads a line. It reports false at the end.
func (c *Child) scan() bool {
	c.tb.Helper()
	if !c.lines.Scan() {
		return false
	}
	if text := c.lines.Text(); strings.HasPrefix(text, errorLine) {
		c.tb.Error("child: " + text)
	} else {
		c.printed = append(c.printed, text)
	}
	return true
}
