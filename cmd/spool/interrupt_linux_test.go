package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSecondInterruptEnds a command that the first did not end: one that waits for the disk.
func TestSecondInterruptEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, away, 1))
	segments, err := filepath.Glob(filepath.Join(dir, "*", "*.seg"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	if err := errors.Join(os.Remove(segments[0]), unix.Mkfifo(segments[0], 0o600)); err != nil { // opening it waits for ever
		t.Fatal(err)
	}
	cmd := command(t, "status", "--dir", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	enough := time.After(20 * time.Second)
	for {
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if st, ok := exit.Sys().(syscall.WaitStatus); !ok || st.Signal() != syscall.SIGINT {
				t.Error(err)
			}
			return
		case <-enough:
			t.Error("does not end")
			_ = cmd.Process.Kill()
			if err := <-ended; err != nil {
				t.Log(err)
			}
			return
		case <-time.After(500 * time.Millisecond):
			_ = cmd.Process.Signal(os.Interrupt)
		}
	}
}
