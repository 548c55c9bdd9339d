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
	cmd := exec.CommandContext(tb.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	var printed []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), errorLine) {
			tb.Error("child: " + lines.Text())
			continue
		}
		if printed = append(printed, lines.Text()); len(printed) == n {
			if err := cmd.Process.Kill(); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(printed) < n {
		tb.Fatalf("the child ended by itself after %d lines of %d: %v", len(printed), n, err)
	}
	return printed
}
