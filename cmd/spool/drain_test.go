package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool"
)

// asCommand makes the test program behave as the command itself, in a process of its own.
const asCommand = "SPOOL_TEST_AS_COMMAND"

// command returns a command line to be run in a process of its own.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return cmd
}

// living returns a Producer in whose spool n jobs lie.
func living(t *testing.T, dir, addr string, n int, cfg queue.Config) *queue.Producer {
	t.Helper()
	cfg.Redis, cfg.SpoolDir, cfg.Logger = asynq.RedisClientOpt{Addr: addr}, dir, slog.New(slog.DiscardHandler)
	p, err := queue.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	for n > 0 {
		tasks := make([]*asynq.Task, min(n, 5000))
		for i := range tasks {
			tasks[i] = asynq.NewTask("t", []byte("top secret"), asynq.Queue([]string{"low", "high"}[i%2]))
		}
		if _, err := p.EnqueueBatch(t.Context(), tasks); err != nil {
			t.Fatal(err)
		}
		n -= len(tasks)
	}
	return p
}

// inQueues counts the jobs in both queues of living, and how many of them are different.
func inQueues(t *testing.T, addr string) (n, different int) {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	seen := map[string]bool{}
	for _, queue := range []string{"low", "high"} {
		ids, err := c.LRange(t.Context(), "asynq:{"+queue+"}:pending", 0, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			n++
			seen[id] = true
		}
	}
	return n, len(seen)
}

// liveJobs was 200,000 in a run on 2026-11-25, which took 63 s on a busy machine: replay holds
// back for the calls beside it.
var liveJobs = flag.Int("drain.jobs", 40_000, "jobs in the spool of the living owner")

// TestDrainOfALivingOwnerThatGoesOnEnqueueing has a process with a full spool and its callers
// on one side, and the command on the other: all that was spooled before is sent, and every
// job is in Redis once.
func TestDrainOfALivingOwnerThatGoesOnEnqueueing(t *testing.T) {
	t.Parallel()
	spooled := *liveJobs
	r, uri := downServer(t)
	dir := t.TempDir()
	p := living(t, dir, r.Addr(), spooled, queue.Config{})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	enqueued := 0
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			if _, err := p.Enqueue(asynq.NewTask("t", nil, asynq.Queue("low"))); err != nil {
				t.Error(err)
				return
			}
			enqueued++
		}
	})
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri, "--wait")
	close(stop)
	wg.Wait()
	if code != exitOK && code != exitLeft || !strings.Contains(stderr, "draining: ") { // what is spooled meanwhile may be left
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
	if st := p.Stats(); st.Replayed < int64(spooled) || st.AlreadyThere != 0 {
		t.Errorf("%+v", st)
	}
	code, stdout, stderr = spoolCommand(t.Context(), "drain", "--dir", dir)
	if code != exitOK {
		t.Errorf("the second: %d\n%s\n%s", code, stdout, stderr)
	}
	if n, different := inQueues(t, r.Addr()); n != spooled+enqueued || different != n {
		t.Errorf("%d jobs in Redis, %d different, want %d", n, different, spooled+enqueued)
	}
}

// TestDrainOfDeadAndLivingOwners has both in one SpoolDir, the living one in another's name
// so that it does not adopt.
func TestDrainOfDeadAndLivingOwners(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	dir := t.TempDir()
	dead := living(t, dir, r.Addr(), 300, queue.Config{})
	closeProducer(t, dead)
	p := living(t, dir, r.Addr(), 200, queue.Config{Target: "other"})
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri, "--wait")
	if code != exitOK || !strings.Contains(stdout, "500 sent") && p.Stats().Replayed != 200 {
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
	if n, different := inQueues(t, r.Addr()); n != 500 || different != 500 {
		t.Errorf("%d jobs in Redis, %d different", n, different)
	}
}

func TestDrainOfSomeJobs(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	dir := t.TempDir()
	closeProducer(t, living(t, dir, r.Addr(), 100, queue.Config{}))
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		flags string
		want  int // in Redis afterwards
		says  string
		exit  int
	}{
		{"--queue high --limit 20 --dry-run", 0, "20 jobs would be sent\n  queue high, type t: 20, the oldest ", exitOK},
		{"--queue nosuch", 0, "0 sent", exitLeft},
		{"--type nosuch", 0, "0 sent", exitLeft},
		{"--queue high --limit 20", 20, "20 sent", exitLeft},
		{"--queue low --limit 10 --rate 1000", 30, "10 sent", exitLeft},
		{"--queue low --type t", 70, "40 sent", exitLeft},
		{"--max-age 1ns", 70, "jobs older than 1ns were not sent", exitLeft},
		{"--max-age 0", 100, "30 sent", exitOK},
	} {
		args := append([]string{"drain", "--dir", dir, "--redis", uri}, strings.Fields(step.flags)...)
		code, stdout, stderr := spoolCommand(t.Context(), args...)
		n, different := inQueues(t, r.Addr())
		if code != step.exit || !strings.Contains(stdout, step.says) || n != step.want || n != different {
			t.Errorf("%s: %d, %d in Redis, want %d\n%s\n%s", step.flags, code, n, step.want, stdout, stderr)
		}
	}
}

// TestDrainToAnotherRedis sends what was meant for one that is gone.
func TestDrainToAnotherRedis(t *testing.T) {
	t.Parallel()
	gone, uri := downServer(t)
	dir := t.TempDir()
	closeProducer(t, living(t, dir, gone.Addr(), 50, queue.Config{}))
	standby := redistest.Run(t, redistest.Options{})
	if code, stdout, _ := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", "redis://"+standby.Addr()); code != exitLeft || !strings.Contains(stdout, "is foreign: 50 jobs") {
		t.Errorf("%d: %s", code, stdout)
	}
	if code, _, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--to", "redis://"+standby.Addr(), "--redis", uri); code != exitUsage {
		t.Errorf("%d: %s", code, stderr)
	}
	code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--to", "redis://"+standby.Addr())
	if n, _ := inQueues(t, standby.Addr()); code != exitOK || n != 50 {
		t.Errorf("%d, %d in Redis\n%s\n%s", code, n, stdout, stderr)
	}
}

// TestDrainWaitsForTheEndOfAnOutage is run while Redis is down.
func TestDrainWaitsForTheEndOfAnOutage(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	dir := t.TempDir()
	closeProducer(t, living(t, dir, r.Addr(), 50, queue.Config{}))
	if code, _, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri, "--wait", "--timeout", "10ms"); code != exitLeft || !strings.Contains(stderr, "timed out") {
		t.Errorf("%d: %s", code, stderr)
	}
	cmd := command(t, "drain", "--dir", dir, "--redis", uri, "--wait", "--json")
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout strings.Builder
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 8)
	if _, err := io.ReadFull(said, first); err != nil || string(first) != "waiting:" {
		t.Errorf("%q, %v", first, err)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, said)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	var got drained
	if err := json.Unmarshal([]byte(stdout.String()), &got); err != nil || got.Replayed != 50 {
		t.Errorf("%v: %s", err, stdout.String())
	}
}

// TestDrainShowsABarOnATerminal runs the command on a pseudo-terminal.
func TestDrainShowsABarOnATerminal(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	dir := t.TempDir()
	closeProducer(t, living(t, dir, r.Addr(), 3000, queue.Config{}))
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, "drain", "--dir", dir, "--redis", uri, "--rate", "3000")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	shown, _ := io.ReadAll(tty) // ends with EIO
	if err := errors.Join(cmd.Wait(), tty.Close()); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"draining", "█", "100% ", "(3000/3000", "jobs/s", "3,000 sent"} {
		if !strings.Contains(string(shown), want) {
			t.Errorf("no %q in %q", want, shown)
		}
	}
}

// TestPauseAndResume are seen by the command and by a living owner.
func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	dir := t.TempDir()
	p := living(t, dir, r.Addr(), 10, queue.Config{})
	code, stdout, _ := spoolCommand(t.Context(), "pause", "--dir", dir, "--reason", "a test")
	if code != exitOK || !strings.Contains(stdout, "replay is paused since") || !strings.Contains(stdout, "(a test)") {
		t.Fatalf("%d: %s", code, stdout)
	}
	if code, stdout, _ := spoolCommand(t.Context(), "status", "--dir", dir); code != exitOK || !strings.Contains(stdout, "replay is PAUSED for 0s by ") {
		t.Errorf("%d: %s", code, stdout)
	}
	until(t, "the pause is seen", func() bool { return p.Stats().Paused != nil })
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri); code != exitError || !strings.Contains(stderr, "run 'spool resume' first") {
		t.Errorf("%d: %s", code, stderr)
	}
	for _, want := range []string{"replay goes on\n", "replay was not paused\n"} {
		if code, stdout, _ := spoolCommand(t.Context(), "resume", "--dir", dir); code != exitOK || stdout != want {
			t.Errorf("%d: %q", code, stdout)
		}
	}
	if code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri, "--wait"); code != exitOK {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if n, _ := inQueues(t, r.Addr()); n != 10 {
		t.Errorf("%d in Redis", n)
	}
	for _, line := range []string{"pause", "resume"} {
		if code, _, stderr := spoolCommand(t.Context(), line, "--dir", dir+"/typo"); code != exitError || !strings.Contains(stderr, "does not exist") {
			t.Errorf("%s: %d, %s", line, code, stderr)
		}
	}
}

// TestStatusOfALivingOwnerThatHoldsADeadOnes shows what both hold.
func TestStatusOfALivingOwnerThatHoldsADeadOnes(t *testing.T) {
	t.Parallel()
	r, _ := downServer(t)
	dir := t.TempDir()
	closeProducer(t, living(t, dir, r.Addr(), 30, queue.Config{}))
	p := living(t, dir, r.Addr(), 12, queue.Config{})
	until(t, "the dead one is adopted", func() bool { return p.Stats().Adopted > 0 })
	code, stdout, stderr := spoolCommand(t.Context(), "status", "--dir", dir)
	for _, want := range []string{
		fmt.Sprintf("held by %d ", os.Getpid()), " alive ", "OUTAGE", "42 pending jobs", "high   t     21 ", "accepted 12: 0 sent, 12 spooled",
	} {
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("no %q in %d\n%s%s", want, code, stdout, stderr)
		}
	}
	if code, stdout, _ := spoolCommand(t.Context(), "status", "--dir", dir, "--interval", "0s"); code != exitUsage {
		t.Errorf("%d: %s", code, stdout)
	}
}

// TestStatusOfAnOwnerThatDoesNotAnswer says that it is busy, and counts the others.
func TestStatusOfAnOwnerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := spool.Open(spool.Options{Dir: dir, Target: "t", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Append(spool.Record{ID: "1"}); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ := spoolCommand(t.Context(), "status", "--dir", dir)
	if code != exitOK || !strings.Contains(stdout, " busy ") || !strings.Contains(stdout, "its jobs are left out") {
		t.Errorf("%d: %s", code, stdout)
	}
}

// TestStatusWatches shows one after the other until it is interrupted.
func TestStatusWatches(t *testing.T) {
	t.Parallel()
	cmd := command(t, "status", "--dir", t.TempDir(), "--watch", "--interval", "10ms", "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	docs := json.NewDecoder(out)
	for range 3 {
		var st status
		if err := docs.Decode(&st); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
