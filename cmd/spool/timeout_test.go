package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue/redistest"
)

// TestPingTakesItsTime: what answers within --timeout is there.
func TestPingTakesItsTime(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	thaw := time.AfterFunc(probeTimeout+2*time.Second, func() { _ = r.Thaw() })
	defer thaw.Stop()
	if code, stdout, stderr := spoolCommand(t.Context(), "ping", "--redis", "redis://"+r.Addr(), "--timeout", "1m"); code != exitOK {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}

// TestDrainKeepsItsTimeout also where several processes do not answer.
func TestDrainKeepsItsTimeout(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	for _, addr := range []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"} {
		spooled(t, dir, addr, 1)
	}
	socks, err := filepath.Glob(filepath.Join(dir, "*", "sock"))
	if err != nil || len(socks) != 4 {
		t.Fatal(socks, err)
	}
	for _, sock := range socks { // one that takes calls and says nothing
		if err := os.Remove(sock); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	for _, flags := range []string{"--timeout 1s", "--timeout 1s --dry-run"} {
		began := time.Now()
		args := append([]string{"drain", "--dir", dir, "--redis", "redis://" + r.Addr()}, strings.Fields(flags)...)
		code, stdout, stderr := spoolCommand(t.Context(), args...)
		if took := time.Since(began); code != exitLeft || took > 10*time.Second || !strings.Contains(stderr, "timed out") {
			t.Errorf("%s: %v, %d\n%s%s", flags, took, code, stdout, stderr)
		}
	}
}
