package queue

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestARepairHoldsForWhatWasLookedAt changes what Redis holds between the look at a task
// and its repair.
func TestARepairHoldsForWhatWasLookedAt(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	s := newSender()
	s.use(redis.NewClient(&redis.Options{Addr: r.Addr()}))
	c, err := compose.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), s.close() })
	ctx := t.Context()
	_, cmd, err := c.Compose(ctx, asynq.NewTask("t", []byte("p")), asynq.TaskID("x"), asynq.Unique(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if res := s.once(ctx, cmd); res.verdict != enqueued {
		t.Fatal(res)
	}
	seen, err := s.message(ctx, "default", "x")
	if err != nil {
		t.Fatal(err)
	}
	orphan := func(message any) {
		t.Helper()
		if err := s.client.HSet(ctx, cmd.TaskKey(), "msg", message).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.client.Del(ctx, "asynq:{default}:pending").Err(); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, seen []byte, want verdict, listed int64) {
		t.Helper()
		res := s.repair(ctx, cmd, seen)
		n := s.client.LLen(ctx, "asynq:{default}:pending").Val()
		if res.err != nil || res.verdict != want || n != listed {
			t.Errorf("%s: %+v, %d in the list", when, res, n)
		}
	}
	orphan("another")
	want("another task took the id", seen, changed, 0)
	want("it was not there", nil, changed, 0)
	orphan(seen)
	want("the same", seen, enqueued, 1)
	want("once more", seen, there, 1)
	if err := s.client.Del(ctx, cmd.TaskKey()).Err(); err != nil {
		t.Fatal(err)
	}
	want("it is gone", seen, changed, 1)
	want("there is its lock only", nil, enqueued, 2) // the list still has its id from before
}
