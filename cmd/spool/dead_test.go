package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// deadLetters makes two dead letters of an owner, which lives on unless it is to be dead:
// taken-0, whose id another task has in Redis, and late-0, which waited too long.
func deadLetters(t *testing.T, dir string, r *redistest.Server, alive bool) *queue.Producer {
	t.Helper()
	p := newSpooler(t, dir, r.Addr())
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	spoolJobs(t, p, "taken", "default", "bill", 1)
	spoolJobs(t, p, "late", "default", "mail", 1, queue.MaxSpoolAge(time.Millisecond))
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "two dead letters", func() bool { return p.Stats().DeadLetters == 2 })
	if !alive {
		closeProducer(t, p)
	}
	return p
}

// until waits for what must come.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	waitFor(t, 20*time.Second, what, holds)
}

// waitFor is until with a patience of its own.
func waitFor(t *testing.T, d time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// redisWithATask returns a Redis that has a task of the id taken-0.
func redisWithATask(t *testing.T) (*redistest.Server, *asynq.Inspector) {
	t.Helper()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	c := asynq.NewClient(asynq.RedisClientOpt{Addr: r.Addr()})
	defer c.Close()
	if _, err := c.Enqueue(asynq.NewTask("bill", []byte("somebody else's")), asynq.TaskID("taken-0")); err != nil {
		t.Fatal(err)
	}
	inspector := asynq.NewInspector(asynq.RedisClientOpt{Addr: r.Addr()})
	t.Cleanup(func() { _ = inspector.Close() })
	return r, inspector
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	for _, alive := range []bool{true, false} {
		t.Run(fmt.Sprintf("owner alive: %v", alive), func(t *testing.T) {
			t.Parallel()
			r, inspector := redisWithATask(t)
			dir := t.TempDir()
			p := deadLetters(t, dir, r, alive)
			showDead(t, dir)

			deadCommand(t, dir, "dead retry taken-0", "1 dead letter of queue default made pending again\n", exitOK)
			if alive { // it is sent at once, and refused again
				until(t, "dead again", func() bool { return p.Stats().Dead == 3 && p.Stats().DeadLetters == 2 })
			} else {
				wantIDs(t, "taken-0", "ls", "--dir", dir)
				deadCommand(t, dir, "drain --redis redis://"+r.Addr(), "0 sent, 0 already there, 0 superseded, 1 new dead letter\n", exitLeft)
			}
			wantIDs(t, "taken-0 late-0", "dead", "ls", "--dir", dir)

			if err := inspector.DeleteTask("default", "taken-0"); err != nil { // the cause
				t.Fatal(err)
			}
			deadCommand(t, dir, "dead retry --reason its.task", "1 dead letter of queue default made pending again\n", exitOK)
			if alive {
				until(t, "sent", func() bool { return p.Stats().Replayed == 1 })
			} else {
				deadCommand(t, dir, "drain --redis redis://"+r.Addr(), "1 sent,", exitLeft)
			}
			info, err := inspector.GetTaskInfo("default", "taken-0")
			if err != nil || string(info.Payload) != secret {
				t.Errorf("%+v, %v", info, err)
			}

			deadCommand(t, dir, "dead rm --reason waited.longer --dry-run", "1 dead letter of queue default would be removed\n", exitOK)
			deadCommand(t, dir, "rm late-0 --yes", "0 pending jobs removed\n", exitError) // it is not pending
			deadCommand(t, dir, "dead rm late-0 --yes", "1 dead letter of queue default removed\n", exitOK)
			deadCommand(t, dir, "dead rm late-0 --yes", "0 dead letters removed\n", exitError)
			wantIDs(t, "", "dead", "ls", "--dir", dir)
			if !alive {
				deadCommand(t, dir, "drain --redis redis://"+r.Addr(), "0 sent,", exitOK)
			}
		})
	}
}

// deadCommand runs a command line, in which dots stand for spaces within an argument of
// --reason, and checks how its output begins.
func deadCommand(t *testing.T, dir, line, want string, code int) {
	t.Helper()
	args := strings.Fields(line)
	if i := slices.Index(args, "--reason"); i >= 0 {
		args[i+1] = strings.ReplaceAll(args[i+1], ".", " ")
	}
	got, stdout, stderr := spoolCommand(t.Context(), append(args, "--dir", dir)...)
	if got != code || !strings.HasPrefix(stdout, want) || strings.Contains(stdout+stderr, secret) {
		t.Errorf("%s: %d\n%s%s", line, got, stdout, stderr)
	}
}

// showDead checks what is shown of both dead letters.
func showDead(t *testing.T, dir string) {
	t.Helper()
	for name, line := range map[string]string{
		"dead_ls.txt": "dead ls --type bill", "dead_ls.json": "dead ls --json --type bill", "dead_show.txt": "dead show late-0",
		"dead_show.json": "dead show late-0 --json",
	} {
		code, stdout, stderr := spoolCommand(t.Context(), append(strings.Fields(line), "--dir", dir)...)
		if code != exitOK || strings.Contains(stdout+stderr, secret) {
			t.Errorf("%s: %d\n%s%s", line, code, stdout, stderr)
		}
		golden(t, name, stdout)
	}
	if _, stdout, _ := spoolCommand(t.Context(), "dead", "show", "late-0", "--payload", "--dir", dir); !strings.Contains(stdout, secret) {
		t.Errorf("no payload: %s", stdout)
	}
	if _, stdout, _ := spoolCommand(t.Context(), "show", "late-0", "--dir", dir); !strings.Contains(stdout, "dead letter since ") {
		t.Errorf("not shown as dead: %s", stdout)
	}
	wantIDs(t, "", "ls", "--dir", dir)
	wantIDs(t, "", "dead", "ls", "--reason", "nothing", "--dir", dir)
}

// TestDeadLettersOfBoth removes and retries those of a living and of a dead owner in one run.
func TestDeadLettersOfBoth(t *testing.T) {
	t.Parallel()
	r, _ := redisWithATask(t)
	other, _ := redisWithATask(t)
	dir := t.TempDir()
	deadLetters(t, dir, r, false)
	living := deadLetters(t, dir, other, true)
	deadCommand(t, dir, "dead ls", "ID ", exitOK)
	deadCommand(t, dir, "dead rm taken-0 --yes", "2 dead letters of queue default removed\n", exitOK)
	deadCommand(t, dir, "dead retry --all", "2 dead letters of queue default made pending again\n", exitOK)
	until(t, "dead again", func() bool { return living.Stats().Dead == 3 })
	wantIDs(t, "late-0", "dead", "ls", "--dir", dir)
	wantIDs(t, "late-0", "ls", "--dir", dir) // of the dead owner, whom nobody replays
}
