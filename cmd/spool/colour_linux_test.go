package main

import (
	"bytes"
	"os"
	"testing"
)

// TestPainter paints on one end of a pseudo terminal, and nowhere else.
func TestPainter(t *testing.T) {
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer tty.Close()
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	if got := painter(tty)(red, "fail"); got != "\x1b[31mfail\x1b[0m" {
		t.Errorf("on a terminal: %q", got)
	}
	if got := painter(&bytes.Buffer{})(red, "fail"); got != "fail" {
		t.Errorf("elsewhere: %q", got)
	}
	t.Setenv("TERM", "dumb")
	if got := painter(tty)(red, "fail"); got != "fail" {
		t.Errorf("on a dumb one: %q", got)
	}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	if got := painter(tty)(red, "fail"); got != "fail" {
		t.Errorf("with NO_COLOR: %q", got)
	}
}
