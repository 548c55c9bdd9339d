package queue_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool/crashtest"
)

// TestDrainOfADiskThatDoesNotAnswer: the identity of a dead owner is a pipe into which
// nobody writes. Drain says so, and all goes on once the disk answers.
func TestDrainOfADiskThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	dir := t.TempDir()
	p := newProducer(t, queue.Config{
		Redis: server(r.Addr()), SpoolDir: dir, Target: "t", Spool: queue.SpoolConfig{Timeout: 500 * time.Millisecond},
	})
	ids := enqueue(t, p, 5)
	dead := filepath.Join(dir, "20200101T000000.000-00000000")
	pipe := filepath.Join(dead, "identity")
	must(t, os.Mkdir(dead, 0o700))
	must(t, unix.Mkfifo(pipe, 0o600))
	must(t, r.Restart())
	wantWords(t, drainFor(t, p, 2*time.Second), "the disk does not answer")

	f, err := os.OpenFile(pipe, os.O_RDWR, 0) // does not wait for a reader on Linux
	must(t, err)
	must(t, os.RemoveAll(dead))
	must(t, f.Close())
	eventually(t, "the disk answers", func() bool { return !p.Stats().SpoolStalled })
	drain(t, p)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}

// TestDrainOfADiskThatFails: a process may not write to files any more when it has to
// record what it has sent. Drain says so; afterwards nothing is sent twice.
func TestDrainOfADiskThatFails(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	ids := leave(t, dir, batchOf(1200)...)
	c := crashtest.Start(t, childDrains+"=failing disk", childDir+"="+dir, childTarget+"=t", childRedis+"="+r.Addr())
	c.Await(3)
	said := c.Kill()
	for _, words := range []string{"1200 jobs left", "deadline exceeded", "settle", "file too large"} {
		wantWords(t, fmt.Errorf("%s", said[0]), words)
	}
	if said[1] != "<nil>" || said[2] != "1200 0" {
		t.Errorf("afterwards: %q", said[1:])
	}
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	if n := scriptRuns(t, r); n != len(ids) {
		t.Errorf("%d jobs were sent for %d", n, len(ids))
	}
}

// drainOnAFailingDisk prints what Drain says while nothing can be written and then.
func drainOnAFailingDisk() {
	signal.Ignore(syscall.SIGXFSZ)
	var free unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_FSIZE, &free)
	if err == nil {
		err = unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1, Max: free.Max})
	}
	cfg := childConfig()
	cfg.DrainOnly, cfg.Logger = true, slog.New(slog.DiscardHandler)
	var p *queue.Producer
	if err == nil {
		p, err = queue.New(cfg)
	}
	if err != nil {
		crashtest.Fail(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	fmt.Println(strconv.Quote(p.Drain(ctx).Error()))
	cancel()
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &free); err != nil {
		crashtest.Fail(err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), patience)
	defer cancel()
	fmt.Println(p.Drain(ctx))
	st := p.Stats()
	fmt.Println(st.Replayed, st.AlreadyThere)
	select {} // until it is killed
}

var _ = childDoes("failing disk", drainOnAFailingDisk)
