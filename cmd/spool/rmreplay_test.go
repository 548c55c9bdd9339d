package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestRmWhileTheOwnerReplays: each job is either removed or in Redis, never both and never
// neither.
func TestRmWhileTheOwnerReplays(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	between := 0
	for round := range 4 {
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		rate := round / 2 * 1000 // none, so that batches follow each other; then one that leaves time
		p, err := queue.New(queue.Config{
			Redis: asynq.RedisClientOpt{Addr: r.Addr()}, SpoolDir: dir, Logger: slog.New(slog.DiscardHandler), Replay: queue.ReplayConfig{Rate: rate},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		ids := spoolMany(t, p, 4000)
		if err := r.Restart(); err != nil {
			t.Fatal(err)
		}
		for p.Stats().Replayed == 0 {
			time.Sleep(100 * time.Microsecond) // until it has begun
		}
		time.Sleep(time.Duration(round) * 5 * time.Millisecond) // at another place each time
		code, stdout, stderr := spoolCommand(t.Context(), "rm", "--all", "--yes", "--json", "--dir", dir)
		var got changed
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK {
			t.Fatalf("%d, %v\n%s%s", code, err, stdout, stderr)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := p.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		there := pendingIn(t, r.Addr())
		st := p.Stats()
		if len(there)+*got.Removed != len(ids) || st.Removed != int64(*got.Removed) || st.Replayed != int64(len(there)) || st.Pending != 0 {
			t.Errorf("%d in Redis, %s: %+v", len(there), stdout, st)
		}
		slices.Sort(there)
		if len(slices.Compact(there)) != int(st.Replayed) {
			t.Error("some are in Redis twice")
		}
		if *got.Removed > 0 && *got.Removed < len(ids) {
			between++
		}
		closeProducer(t, p)
	}
	if between == 0 {
		t.Error("no removal met a replay")
	}
}

// pendingIn returns the ids in the pending list of the default queue.
func pendingIn(t *testing.T, addr string) []string {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	ids, err := c.LRange(t.Context(), "asynq:{default}:pending", 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// TestRemovedAreNotInRedis removes by id while the owner replays: those ids never get there.
func TestRemovedAreNotInRedis(t *testing.T) {
	t.Parallel()
	r, _ := downServer(t)
	dir := t.TempDir()
	p := newSpooler(t, dir, r.Addr())
	ids := spoolMany(t, p, 3000)
	picked := ids[len(ids)-200:]
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := spoolCommand(t.Context(), append([]string{"rm", "--yes", "--json", "--dir", dir}, picked...)...)
	var got changed
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || got.Removed == nil {
		t.Fatalf("%d, %v\n%s%s", code, err, stdout, stderr)
	}
	if (*got.Removed == len(picked)) != (code == exitOK) {
		t.Errorf("%d: %s%s", code, stdout, stderr)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, id := range pendingIn(t, r.Addr()) {
		there[id] = true
	}
	missing := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return there[id] })
	if len(missing) != *got.Removed || slices.ContainsFunc(missing, func(id string) bool { return !slices.Contains(picked, id) }) {
		t.Errorf("%d are not in Redis, %d were removed", len(missing), *got.Removed)
	}
}
