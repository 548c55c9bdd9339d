package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/spool"
)

// TestEnqueueLeavesOthersJobsAlone: their service may have other ideas of what is too late
// than a call by cron.
func TestEnqueueLeavesOthersJobsAlone(t *testing.T) {
	t.Parallel()
	dir, uri, addr := lateJob(t)
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	if err := c.Do(t.Context(), "CLIENT", "PAUSE", "300", "WRITE").Err(); err != nil { // leaves its replay time
		t.Fatal(err)
	}
	if code, stdout, stderr := enqueueCommand(t.Context(), dir, uri); code != exitOK {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	owners, err := spool.Inspect(dir)
	if err != nil || len(owners) == 0 || owners[0].Pending != 1 || owners[0].DeadLetters != 0 {
		t.Errorf("%+v, %v", owners, err)
	}
}

// TestEnqueueIntoALargeSpool: how large a spool may be is a matter of the service's.
func TestEnqueueIntoALargeSpool(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, "127.0.0.1:1", 1))
	owners := names(t, dir)
	large, err := os.Create(filepath.Join(owners[0], "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	if err := unix.Fallocate(int(large.Fd()), 0, 0, spool.DefaultMaxBytes); err != nil {
		t.Skip("cannot reserve a GiB:", err)
	}
	if code, stdout, stderr := enqueueCommand(t.Context(), dir, uri); code != exitOK || !strings.Contains(stdout, ": spool") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := spoolCommand(t.Context(), "drill", "--dir", dir, "--redis", uri); code != exitOK {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}
