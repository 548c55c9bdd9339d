package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// guardedService returns a Producer with a journal, and n jobs in Redis: name-0 and so on.
func guardedService(t *testing.T, dir, addr, target, name string, n int, policy queue.LossPolicy) *queue.Producer {
	t.Helper()
	p, err := queue.New(queue.Config{
		Redis: asynq.RedisClientOpt{Addr: addr}, Target: target, SpoolDir: dir, Logger: slog.New(slog.DiscardHandler),
		Guard: time.Hour, OnLoss: policy,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	spoolJobs(t, p, name, "default", "t", n)
	until(t, "the jobs are in the journal", func() bool { return p.Stats().JournalJobs >= int64(n) })
	return p
}

func redisClient(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// marked waits until the markers of n journals are in Redis.
func marked(t *testing.T, addr string, n int) {
	t.Helper()
	c := redisClient(t, addr)
	until(t, "markers", func() bool {
		keys, err := c.Keys(t.Context(), "asynq:{default}:spool:mark:*").Result()
		return err == nil && len(keys) == n
	})
}

// lose has Redis lose jobs of the default queue, and all markers, as if it had gone back to
// when it had neither.
func lose(t *testing.T, addr string, ids ...string) {
	t.Helper()
	c := redisClient(t, addr)
	keys, err := c.Keys(t.Context(), "asynq:{default}:spool:mark:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	pipe := c.TxPipeline()
	for _, id := range ids {
		pipe.Del(t.Context(), "asynq:{default}:t:"+id)
		pipe.LRem(t.Context(), "asynq:{default}:pending", 0, id)
	}
	pipe.Del(t.Context(), keys...)
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func sortedPending(t *testing.T, addr string) []string {
	t.Helper()
	ids, err := redisClient(t, addr).LRange(t.Context(), "asynq:{default}:pending", 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

// wantGuard runs a command line and wants a code and texts in its output.
func wantGuard(t *testing.T, code int, line string, want ...string) (stdout string) {
	t.Helper()
	got, stdout, stderr := spoolCommand(t.Context(), strings.Fields(line)...)
	missing := slices.DeleteFunc(want, func(w string) bool { return strings.Contains(stdout+stderr, w) })
	if got != code || strings.Contains(stdout+stderr, secret) || len(missing) > 0 {
		t.Errorf("%s: %d, want %d and %q\n%s%s", line, got, code, missing, stdout, stderr)
	}
	return stdout
}

// TestGuardSeesALossAndWhatWasDone empties Redis under a living service.
func TestGuardSeesALossAndWhatWasDone(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	wantGuard(t, exitOK, "pause --dir "+dir)
	p := guardedService(t, dir, r.Addr(), "", "job", 20, queue.ResendLost)
	marked(t, r.Addr(), 1)
	stdout := wantGuard(t, exitOK, "guard --dir "+dir, "JOURNAL OF", "  default  20 ", " set 0s ago", "kept in case Redis loses them: 20 jobs (")
	if strings.Contains(stdout, "keeps no journal") {
		t.Error(stdout)
	}
	wantGuard(t, exitOK, "status --dir "+dir, "guard: keeps 20 jobs that Redis acknowledged within 1h0m0s (")
	if out := wantGuard(t, exitOK, "status --dir "+dir); strings.Contains(out, "LOST") {
		t.Error(out)
	}

	// Replay is paused: what is lost waits in the spool.
	if err := redisClient(t, r.Addr()).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	spoolJobs(t, p, "new", "default", "t", 1)
	until(t, "the loss is noticed", func() bool { return p.Stats().Resent == 20 })
	wantGuard(t, exitOK, "status --dir "+dir, "Redis has LOST acknowledged jobs (1 time, last 0s ago): 20 missing, 20 sent again, of which 20 may have been finished")
	wantGuard(t, exitOK, "guard --check --yes --dir "+dir, "1 job compared, 0 missing in Redis, 0 sent again\n")
	wantGuard(t, exitOK, "resume --dir "+dir)
	until(t, "they are sent", func() bool { return p.Stats().Replayed == 20 })
	if ids := sortedPending(t, r.Addr()); len(ids) != 21 || len(slices.Compact(ids)) != 21 {
		t.Errorf("%q", ids)
	}
	wantGuard(t, exitError, "doctor --dir "+dir+" --redis redis://"+r.Addr(), "Redis has lost 20 jobs that it had acknowledged", "Config.Guard has the services")
}

// TestGuardCheckSendsExactlyWhatIsMissing: of two services, one of which has lost three jobs.
func TestGuardCheckSendsExactlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	first := guardedService(t, dir, r.Addr(), "first", "a", 10, queue.ReportLost)
	second := guardedService(t, dir, r.Addr(), "second", "b", 5, queue.ReportLost)
	marked(t, r.Addr(), 2)
	all := sortedPending(t, r.Addr())
	lose(t, r.Addr(), "a-2", "a-3", "a-9")
	spoolJobs(t, first, "next", "default", "t", 1)
	until(t, "the loss is noticed", func() bool { return first.Stats().Lost == 3 })
	wantGuard(t, exitOK, "status --dir "+dir, ": 3 missing, 0 sent again; 'spool guard --check' sends")
	wantGuard(t, exitError, "doctor --dir "+dir+" --redis redis://"+r.Addr(), "Redis has lost 3 jobs", "spool guard --check")

	wantGuard(t, exitOK, "guard --dir "+dir, " default  11 ", " default  5 ", "16 jobs (")
	wantIDs(t, "a-0 a-1 a-2 a-3 a-4 a-5 a-6 a-7 a-8 a-9 next-0 b-0 b-1 b-2 b-3 b-4", "guard", "--jobs", "--dir", dir)
	if ids, more := listedIDs(t, "guard", "--jobs", "--limit", "4", "--dir", dir); len(ids) != 4 || !more {
		t.Errorf("%q, %v", ids, more)
	}
	if ids, _ := listedIDs(t, "guard", "--jobs", "--queue", "other", "--dir", dir); len(ids) != 0 {
		t.Errorf("%q", ids)
	}
	wantGuard(t, exitOK, "guard --jobs --limit 2 --dir "+dir, "JOURNAL OF", "a-0  default  t ", "more than these 2")
	wantGuard(t, exitOK, "guard --jobs --older-than 1h --dir "+dir, "no jobs in the journal\n")

	check := "guard --check --dir " + dir
	wantGuard(t, exitOK, check+" --dry-run", "16 jobs compared, 3 missing in Redis: would be sent again\n", ": 11 jobs compared, 3 missing", ": 5 jobs compared, 0 missing")
	wantGuard(t, exitOK, check+" --dry-run --queue other", "0 jobs compared, 0 missing")
	wantGuard(t, exitOK, check+" --dry-run --since "+time.Now().Add(time.Hour).Format(time.RFC3339), "0 jobs compared, 0 missing")
	if st := first.Stats(); st.Resent != 0 {
		t.Errorf("a dry run sends: %+v", st)
	}
	var got compared
	stdout := wantGuard(t, exitOK, check+" --yes --json --since 1h")
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || got.Looked != 16 || got.Missing != 3 || got.SentAgain == nil || *got.SentAgain != 3 || len(got.Processes) != 2 || len(got.LeftOut) != 0 {
		t.Errorf("%v: %s", err, stdout)
	}
	until(t, "they are sent", func() bool { return first.Stats().Replayed == 3 })
	all = append(all, "next-0")
	slices.Sort(all)
	if ids := sortedPending(t, r.Addr()); !slices.Equal(ids, all) {
		t.Errorf("%q\nwant %q", ids, all)
	}
	wantGuard(t, exitOK, check+" --yes", "16 jobs compared, 0 missing in Redis, 0 sent again\n")
	if st := second.Stats(); st.Resent != 0 {
		t.Errorf("%+v", st)
	}
}

// TestGuardCheckNeedsNoMarker: jobs that somebody deleted, which no marker shows.
func TestGuardCheckNeedsNoMarker(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	for try := range 5 {
		began := time.Now()
		dir := t.TempDir()
		guardedService(t, dir, r.Addr(), "", fmt.Sprint("job", try), 10, queue.ResendLost)
		c, id := redisClient(t, r.Addr()), fmt.Sprintf("job%d-4", try)
		c.Del(t.Context(), "asynq:{default}:t:"+id)
		c.LRem(t.Context(), "asynq:{default}:pending", 0, id)
		_, stdout, _ := spoolCommand(t.Context(), "guard", "--check", "--yes", "--dir", dir)
		if time.Since(began) > 4*time.Second {
			continue // it may have been taken for finished by a sweep
		}
		if stdout != "10 jobs compared, 1 missing in Redis, 1 sent again\n" {
			t.Error(stdout)
		}
		until(t, "it is there again", func() bool { return slices.Contains(sortedPending(t, r.Addr()), id) })
		return
	}
	t.Error("this machine is too slow for the test")
}

// TestGuardOfDeadServices lists what they left, also where that is nothing but a journal.
func TestGuardOfDeadServices(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	closeProducer(t, guardedService(t, dir, r.Addr(), "one", "dead", 12, queue.ResendLost))
	line := " --dir " + dir
	wantGuard(t, exitOK, "guard"+line, "dead ", " default  12 ", "12 jobs (")
	wantIDs(t, "dead-0 dead-1 dead-2 dead-3 dead-4 dead-5 dead-6 dead-7 dead-8 dead-9 dead-10 dead-11", "guard", "--jobs", "--dir", dir)
	wantGuard(t, exitError, "guard --check --yes"+line, "12 jobs in journals of dead processes are not compared: start their service", "nobody can compare")

	guardedService(t, dir, r.Addr(), "other", "live", 3, queue.ResendLost)
	var sum guardSummary
	stdout := wantGuard(t, exitOK, "guard --json"+line)
	if err := json.Unmarshal([]byte(stdout), &sum); err != nil || sum.Jobs != 15 || len(sum.Processes) != 2 || sum.Processes[0].PID == 0 || sum.Processes[0].Jobs != 3 ||
		sum.Processes[1].PID != 0 || sum.Processes[1].Jobs != 12 || !sum.Processes[1].Guard {
		t.Errorf("%v: %s", err, stdout)
	}
	wantGuard(t, exitLeft, "guard --check --yes"+line, "3 jobs compared, 0 missing", "12 jobs in journals of dead processes", "not all that is kept was compared")
	wantGuard(t, exitOK, "guard --check --dry-run --queue other"+line, "0 jobs compared")

	heir := guardedService(t, dir, r.Addr(), "one", "heir", 0, queue.ResendLost)
	until(t, "the journal is adopted", func() bool { return heir.Stats().JournalJobs == 12 })
	wantGuard(t, exitOK, "guard --check --yes"+line, "15 jobs compared, 0 missing")
}

func TestGuardThatIsOff(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	wantGuard(t, exitOK, "guard --dir "+dir, "no journal: nothing is kept")
	newSpooler(t, dir, r.Addr())
	wantGuard(t, exitOK, "guard --dir "+dir, " keeps no journal: its Config.Guard is off\n", "no journal: nothing is kept")
	wantGuard(t, exitOK, "guard --jobs --dir "+dir, "no jobs in the journal\n")
	wantGuard(t, exitError, "guard --check --yes --dir "+dir, "nobody can compare: owner ", "Config.Guard is off in this process")
	if out := wantGuard(t, exitOK, "status --dir "+dir); strings.Contains(out, "guard") {
		t.Error(out)
	}
	stdout := wantGuard(t, exitOK, "guard --json --dir "+dir, `"guard": false`)
	if !json.Valid([]byte(stdout)) {
		t.Error(stdout)
	}
}

// TestGuardCheckWithoutRedis says so, and sends nothing.
func TestGuardCheckWithoutRedis(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	p := guardedService(t, dir, r.Addr(), "", "job", 3, queue.ResendLost)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	wantGuard(t, exitError, "guard --check --yes --dir "+dir, "after 0 jobs, 0 of them sent again", "no process could compare")
	wantGuard(t, exitOK, "guard --dir "+dir, "3 jobs (")
	if st := p.Stats(); st.Resent != 0 {
		t.Errorf("%+v", st)
	}
}

func TestGuardUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, line := range []string{
		"guard x", "guard --since 10m", "guard --dry-run", "guard --yes", "guard --jobs --check --yes", "guard --type x", "guard --older-than 1h",
		"guard --limit 3", "guard --jobs --limit -1", "guard --check", "guard --check --dry-run --yes", "guard --check --yes --type x",
		"guard --check --yes --since soon", "guard --check --yes --since -1h", "guard --jobs --older-than -1h", "guard --in-doubt",
	} {
		code, stdout, stderr := spoolCommand(t.Context(), append(strings.Fields(line), "--dir", dir)...)
		if code != exitUsage || stdout != "" || stderr == "" {
			t.Errorf("%s: %d, %q, %q", line, code, stdout, stderr)
		}
	}
	wantGuard(t, exitError, "guard --dir "+dir+"/typo", "does not exist")
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("created %v", left)
	}
}

func TestParseSince(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 14, 30, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"":                     {},
		"10m":                  now.Add(-10 * time.Minute),
		"2026-11-25T14:00:00Z": time.Date(2026, 11, 25, 14, 0, 0, 0, time.UTC),
		"2026-11-25 14:00":     now.Add(-30 * time.Minute),
		"2026-11-25T14:00:30":  now.Add(-30*time.Minute + 30*time.Second),
	} {
		if got, err := parseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// TestGuardIsInterrupted before it has asked anybody.
func TestGuardIsInterrupted(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	guardedService(t, dir, r.Addr(), "", "job", 1, queue.ResendLost)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, flags := range []string{"", "--check --yes"} {
		code, stdout, stderr := spoolCommand(ctx, append(strings.Fields("guard "+flags), "--dir", dir)...)
		if code != exitLeft || stdout != "" {
			t.Errorf("%s: %d, %q, %q", flags, code, stdout, stderr)
		}
	}
}
