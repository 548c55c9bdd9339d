package spool_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"syscall"
	"testing"
	"time"
)

const (
	// requireRoot makes a test fail that would skip itself for want of a permission.
	requireRoot = "SPOOL_TEST_REQUIRE_ROOT"

	// isolatedTimeout is when a process for one test ends with all its goroutines' stacks;
	// it is killed if it does not.
	isolatedTimeout = 3 * time.Minute
)

// isolated reports whether this process was started for the test t alone. Otherwise it
// starts one, waits for it, and lets t end as that did: what the test does to itself,
// such as a fault that nobody recovers from, is over with that process.
func isolated(t *testing.T) bool {
	t.Helper()
	return isolatedWith(t, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL})
}

// isolatedMounts is isolated with mounts of its own, which end with the process. It
// needs root, or a system that lets every user have a namespace.
func isolatedMounts(t *testing.T) bool {
	t.Helper()
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: syscall.CLONE_NEWNS}
	if uid := os.Geteuid(); uid != 0 {
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return isolatedWith(t, attr)
}

func isolatedWith(t *testing.T, attr *syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv(isolatedTest) == t.Name() {
		return true
	}
	t.Parallel()
	runtime.LockOSThread() // the process dies with its parent, which is a thread
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeout(t.Context(), 2*isolatedTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout="+isolatedTimeout.String())
	// A thread that a system call blocks keeps its P for a while; the race detector
	// sleeps a second at the end.
	cmd.Env = append(os.Environ(), isolatedTest+"="+t.Name(), "TMPDIR="+t.TempDir(), "GOMAXPROCS=4", "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	cmd.SysProcAttr = attr
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		lacking(t, err)
	}
	err := cmd.Wait()
	text := regexp.MustCompile(`(?m)^(=== (RUN|PAUSE|CONT) | *--- PASS: ).*\n`).ReplaceAll(out.Bytes(), nil)
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, text)
	case bytes.Contains(text, []byte("\n--- SKIP: ")):
		t.Skipf("\n%s", text)
	default:
		t.Logf("\n%s", text)
	}
	return false
}

// lacking skips a test for want of a permission, or fails it where that is not allowed.
func lacking(t *testing.T, err error) {
	t.Helper()
	if os.Getenv(requireRoot) != "" {
		t.Fatalf("%v, and %s is set", err, requireRoot)
	}
	t.Skipf("%v; run as root, with %s=1 to have it required", err, requireRoot)
}
