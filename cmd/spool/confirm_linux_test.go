package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// openTerminal returns both ends of a pseudo-terminal: the person's and the command's.
func openTerminal(t *testing.T) (person, command *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	command, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { command.Close() })
	return person, command
}

// atTerminal runs a command line at a terminal. When it asks, answer is called with the
// person's end.
func atTerminal(t *testing.T, answer func(person *os.File), args ...string) (stdout, stderr string, err error) {
	t.Helper()
	person, command := openTerminal(t)
	root, _ := newRootCommand()
	var out, errs bytes.Buffer
	root.SetArgs(args)
	root.SetIn(command)
	root.SetOut(&out)
	root.SetErr(asked{&errs, func() { answer(person) }})
	err = root.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

// asked calls answer once something that ends in a question was written.
type asked struct {
	to     *bytes.Buffer
	answer func()
}

func (a asked) Write(b []byte) (int, error) {
	if bytes.HasSuffix(b, []byte("? [y/N] ")) {
		defer a.answer()
	}
	return a.to.Write(b)
}

func says(t *testing.T, text string) func(*os.File) {
	t.Helper()
	return func(person *os.File) {
		if _, err := person.WriteString(text + "\n"); err != nil {
			t.Error(err)
		}
	}
}

func TestRmAsksAtATerminal(t *testing.T) {
	t.Parallel()
	const all = "old-0 old-1 old-2 new-0 new-1 new-2 img-0"
	for _, c := range []struct{ answer, left, out string }{
		{"y", "new-0 new-1 new-2 img-0", "3 pending jobs of queue mail removed\n"},
		{"YES", "new-0 new-1 new-2 img-0", "3 pending jobs of queue mail removed\n"},
		{"n", all, "0 of 3 pending jobs of queue mail removed\n"},
		{"", all, "0 of 3 pending jobs of queue mail removed\n"},
		{"yellow", all, "0 of 3 pending jobs of queue mail removed\n"},
	} {
		t.Run("answer "+c.answer, func(t *testing.T) {
			t.Parallel()
			dir := twoOwners(t, 1)
			stdout, stderr, err := atTerminal(t, says(t, c.answer), "rm", "--queue", "mail", "--dir", dir)
			if err != nil || stdout != c.out || stderr != "Remove 3 pending jobs of queue mail? [y/N] " {
				t.Errorf("%v, %q, %q", err, stdout, stderr)
			}
			wantIDs(t, c.left, "ls", "--dir", dir)
		})
	}
}

// TestRmRemovesWhatWasCounted: what is spooled while a person makes up their mind stays.
func TestRmRemovesWhatWasCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newSpooler(t, dir, away)
	spoolJobs(t, p, "before", "q", "t", 3)
	stdout, stderr, err := atTerminal(t, func(person *os.File) {
		spoolJobs(t, p, "after", "q", "t", 2)
		says(t, "y")(person)
	}, "rm", "--queue", "q", "--dir", dir)
	if err != nil || stdout != "3 pending jobs of queue q removed\n" {
		t.Errorf("%v, %q, %q", err, stdout, stderr)
	}
	wantIDs(t, "after-0 after-1", "ls", "--dir", dir)
}

// TestInterruptedQuestion removes nothing.
func TestInterruptedQuestion(t *testing.T) {
	t.Parallel()
	dir := twoOwners(t, 1)
	person, command := openTerminal(t)
	ctx, cancel := context.WithCancel(t.Context())
	root, _ := newRootCommand()
	root.SetArgs([]string{"rm", "--queue", "mail", "--dir", dir})
	root.SetIn(command)
	root.SetOut(&bytes.Buffer{})
	root.SetErr(asked{&bytes.Buffer{}, cancel})
	if err := root.ExecuteContext(ctx); !errors.As(err, new(leftError)) {
		t.Errorf("%v", err)
	}
	says(t, "y")(person) // lets the reader end
	wantIDs(t, "old-0 old-1 old-2 new-0 new-1 new-2 img-0", "ls", "--dir", dir)
}

// TestGuardCheckAsksAtATerminal says how many are missing, and sends none for a no.
func TestGuardCheckAsksAtATerminal(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	p := guardedService(t, dir, r.Addr(), "", "job", 6, queue.ReportLost)
	marked(t, r.Addr(), 1)
	lose(t, r.Addr(), "job-1", "job-4")
	spoolJobs(t, p, "next", "default", "t", 1)
	until(t, "the loss is noticed", func() bool { return p.Stats().Lost == 2 })
	for _, c := range [][2]string{
		{"n", "7 jobs compared, 2 missing in Redis, 0 sent again\n"},
		{"y", "7 jobs compared, 2 missing in Redis, 2 sent again\n"},
	} {
		stdout, stderr, err := atTerminal(t, says(t, c[0]), "guard", "--check", "--dir", dir)
		if err != nil || stdout != c[1] || stderr != "Send 2 jobs again that Redis does not hold? [y/N] " {
			t.Errorf("%v, %q, %q", err, stdout, stderr)
		}
	}
	until(t, "they are sent", func() bool { return p.Stats().Replayed == 2 })
}
