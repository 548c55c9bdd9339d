package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// permit lets the default user of a server reach the named queues only.
func permit(t *testing.T, addr string, queues ...string) {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	args := []any{"ACL", "SETUSER", "default", "resetkeys", "~asynq:queues", "~asynq:servers*", "~asynq:{default}*"}
	for _, q := range queues {
		args = append(args, "~asynq:{"+q+"}*")
	}
	if err := c.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestDrainEndsWhereQueuesHaveAnOutage: without --wait, it does not wait for the end of an
// outage that only some queues have, and says which those are.
func TestDrainEndsWhereQueuesHaveAnOutage(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	for name, dead := range map[string]bool{"dead": true, "living": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := r.Kill(); err != nil {
				t.Fatal(err)
			}
			p := living(t, dir, r.Addr(), 10, queue.Config{})
			if dead {
				closeProducer(t, p)
			}
			if err := r.Restart(); err != nil {
				t.Fatal(err)
			}
			permit(t, r.Addr(), "high")
			until(t, "only one queue has an outage", func() bool { return dead || p.Stats().State == queue.StatePartial })
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			code, stdout, stderr := spoolCommand(ctx, "drain", "--dir", dir, "--redis", uri)
			if code != exitLeft || ctx.Err() != nil || !strings.Contains(stdout, "5 jobs") ||
				!strings.Contains(stdout, `queue "low"`) || !strings.Contains(stdout, "NOPERM") {
				t.Errorf("%d, %v\n%s%s", code, ctx.Err(), stdout, stderr)
			}
		})
	}
}

// TestDrainSaysWhyItFailed in JSON as well.
func TestDrainSaysWhyItFailed(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	dir := t.TempDir()
	closeProducer(t, living(t, dir, r.Addr(), 10, queue.Config{}))
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	permit(t, r.Addr(), "high")
	code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri, "--timeout", "3s", "--json")
	var got struct{ Why []string }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitLeft || !strings.Contains(strings.Join(got.Why, " "), "NOPERM") {
		t.Errorf("%d, %v\n%s%s", code, err, stdout, stderr)
	}
}

// TestDrainToSkipsWhatNobodyCanIdentify: the others are sent.
func TestDrainToSkipsWhatNobodyCanIdentify(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	for _, target := range []string{"a", "b"} {
		closeProducer(t, living(t, dir, away, 10, queue.Config{Target: target}))
	}
	segments, err := filepath.Glob(filepath.Join(dir, "*", "*.seg"))
	if err != nil || len(segments) != 2 {
		t.Fatal(segments, err)
	}
	junk := []byte(strings.Repeat("junk", 1000))
	for _, path := range []string{segments[0], filepath.Join(filepath.Dir(segments[0]), "identity")} {
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, junk, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--to", "redis://"+r.Addr())
	if n, _ := inQueues(t, r.Addr()); code != exitLeft || n != 10 || !strings.Contains(stdout, filepath.Base(filepath.Dir(segments[0]))) {
		t.Errorf("%d, %d in Redis\n%s%s", code, n, stdout, stderr)
	}
}

// TestDrainThatCannotBegin fails, and says why.
func TestDrainThatCannotBegin(t *testing.T) {
	t.Parallel()
	d := drainer{to: "redis://x"}
	_, err := d.sender(t.TempDir(), asynq.RedisClientOpt{Addr: away}, status{Owners: []ownerStatus{
		{State: stateForeign, Target: "redis://user:password@x"},
	}})
	if err == nil || !strings.Contains(err.Error(), "AcceptTargets") || errors.As(err, new(leftError)) {
		t.Error(err)
	}
}

// lateJob returns the spool of a service that has ended, with a job whose deadline has passed, and
// its Redis, which is there again.
func lateJob(t *testing.T) (dir, uri, addr string) {
	t.Helper()
	r, uri := downServer(t)
	dir = t.TempDir()
	service := newSpooler(t, dir, r.Addr())
	deadline := time.Now().Add(2 * time.Second) // asynq counts whole seconds
	if _, err := service.Enqueue(asynq.NewTask("t", nil, asynq.Deadline(deadline))); err != nil {
		t.Fatal(err)
	}
	closeProducer(t, service)
	time.Sleep(time.Until(deadline))
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	return dir, uri, r.Addr()
}

// TestDrainDeliversLate if it is told to, as a service may do.
func TestDrainDeliversLate(t *testing.T) {
	t.Parallel()
	dir, uri, _ := lateJob(t)
	line := []string{"drain", "--dir", dir, "--redis", uri, "--deliver-late", "--max-memory"}
	if code, _, stderr := spoolCommand(t.Context(), append(line, "2")...); code != exitUsage {
		t.Errorf("%d: %s", code, stderr)
	}
	if code, stdout, stderr := spoolCommand(t.Context(), append(line, "-1")...); code != exitOK || !strings.Contains(stdout, "1 sent") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}

// TestDrainToAnotherRedisFromOneOfSeveral: where the jobs were meant for several, somebody has
// to say which are meant.
func TestDrainToAnotherRedisFromOneOfSeveral(t *testing.T) {
	t.Parallel()
	standby := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	for target, n := range map[string]int{"billing": 10, "mail": 20, drillTarget("redis://gone:6379"): 2} {
		closeProducer(t, living(t, dir, away, n, queue.Config{Target: target}))
	}
	for _, step := range []struct {
		flags string
		exit  int
		want  int // in Redis
		says  string
	}{
		{"", exitUsage, 0, "billing (10 jobs), mail (20 jobs)"},
		{"--dry-run", exitUsage, 0, "billing (10 jobs), mail (20 jobs)"},
		{"--from nobody", exitUsage, 0, "billing (10 jobs), mail (20 jobs)"},
		{"--from mail --dry-run", exitOK, 0, "20 jobs would be sent"},
		{"--from mail", exitLeft, 20, "is foreign: 10 jobs for billing"},
		{"--from billing --from mail", exitUsage, 20, "nothing of mail"},
		{"", exitLeft, 30, "is foreign: 2 jobs for drill of"},
	} {
		args := append([]string{"drain", "--dir", dir, "--to", "redis://" + standby.Addr()}, strings.Fields(step.flags)...)
		code, stdout, stderr := spoolCommand(t.Context(), args...)
		if n, _ := inQueues(t, standby.Addr()); code != step.exit || n != step.want || !strings.Contains(stdout+stderr, step.says) {
			t.Errorf("%s: %d, %d in Redis\n%s%s", step.flags, code, n, stdout, stderr)
		}
	}
	if code, _, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--from", "mail"); code != exitUsage || !strings.Contains(stderr, "--to") {
		t.Errorf("%d: %s", code, stderr)
	}
}

// TestDrainSaysWhyItDoesNotAskLivingOwners: they send all that they have, or nothing.
func TestDrainSaysWhyItDoesNotAskLivingOwners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	living(t, dir, away, 10, queue.Config{})
	for flags, want := range map[string]string{
		"--queue high":                       "not asked to send, because of --queue",
		"--type t --limit 3 --rate 5":        "not asked to send, because of --type, --limit and --rate",
		"--to redis://127.0.0.1:2 --json":    "not asked to send, because of --to",
		"--to redis://127.0.0.1:2 --dry-run": "not asked to send, because of --to",
	} {
		code, stdout, stderr := spoolCommand(t.Context(), append([]string{"drain", "--dir", dir}, strings.Fields(flags)...)...)
		if code != exitLeft && !strings.Contains(flags, "--dry-run") || !strings.Contains(stdout+stderr, want) {
			t.Errorf("%s: %d\n%s%s", flags, code, stdout, stderr)
		}
	}
}
