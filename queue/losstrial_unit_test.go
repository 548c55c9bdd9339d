package queue

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/queue/redistest"
)

// handTrial is a Producer with Guard and a real Redis. Its guard takes a step only when the
// test has it take one; all else in it is as ever.
type handTrial struct {
	*Producer
	g    *lossGuard
	r    *redistest.Server
	rdb  *redis.Client
	said *saidLines
}

func newHandTrial(t *testing.T, cfg Config) *handTrial {
	t.Helper()
	k := &handTrial{r: redistest.Run(t, redistest.Options{}), said: &saidLines{}}
	k.rdb = redis.NewClient(&redis.Options{Addr: k.r.Addr()})
	t.Cleanup(func() { check(t, k.rdb.Close()) })
	cfg.Redis, cfg.Target, cfg.SpoolDir = asynq.RedisClientOpt{Addr: k.r.Addr()}, "t", t.TempDir()
	cfg.EnqueueTimeout = 10 * time.Second // else a busy machine is an outage
	cfg.Guard, cfg.Logger = time.Minute, slog.New(slog.NewTextHandler(k.said, nil))
	k.open(t, cfg)
	return k
}

// open opens a Producer, the first or one more. It has adopted what there was.
func (k *handTrial) open(t *testing.T, cfg Config) {
	t.Helper()
	p, err := New(cfg)
	check(t, err)
	t.Cleanup(func() { check(t, p.Close()) })
	check(t, p.losses.aside(t.Context(), func() error { return nil })) // behind its first step
	p.losses.finish()
	p.losses.ctx = context.Background()
	k.Producer, k.g = p, p.losses
}

// enqueue enqueues n jobs, which are then in the journal, and returns their ids.
func (k *handTrial) enqueue(t *testing.T, n, size int) (ids []string) {
	t.Helper()
	for range n {
		info, err := k.Enqueue(asynq.NewTask("t", make([]byte, size)))
		check(t, err)
		ids = append(ids, info.ID)
	}
	return ids
}

// done takes jobs out of Redis as a worker does that has finished them.
func (k *handTrial) done(t *testing.T, ids ...string) {
	t.Helper()
	for _, id := range ids {
		check(t, k.rdb.Del(t.Context(), compose.TaskKey("default", id)).Err())
		check(t, k.rdb.LRem(t.Context(), "asynq:{default}:pending", 0, id).Err())
	}
}

func (k *handTrial) flushAll(t *testing.T) {
	t.Helper()
	check(t, k.rdb.FlushAll(t.Context()).Err())
}

// lose empties Redis and has the guard notice, and do no more.
func (k *handTrial) lose(t *testing.T) {
	t.Helper()
	k.flushAll(t)
	if lost, err := k.mark().advance(t.Context(), k.sender, k.mark().value, time.Now()); err != nil || !lost {
		t.Fatalf("lost is %v, %v", lost, err)
	}
}

// spoil makes it fail to look a job up, until it is undone.
func (k *handTrial) spoil(t *testing.T, id string) (undo func()) {
	t.Helper()
	key := compose.TaskKey("default", id)
	check(t, k.rdb.Set(t.Context(), key, "no hash", 0).Err())
	return func() { check(t, k.rdb.Del(t.Context(), key).Err()) }
}

// advance brings the markers up to date, and goes on with a loss however short ago it was
// tried.
func (k *handTrial) advance() {
	k.g.tried = time.Time{}
	k.g.advance()
}

// die closes the Producer without a last marker, as if it was killed. What there is of a marker
// afterwards is no number.
func (k *handTrial) die(t *testing.T) {
	t.Helper()
	check(t, k.rdb.Set(t.Context(), markID{k.g.j.store.OwnName(), "default"}.key(), "no number", 0).Err())
	check(t, k.Close())
}

// sweep makes a whole sweep.
func (k *handTrial) sweep() {
	k.g.swept = time.Time{}
	for k.g.sweep(); k.g.sweeping; {
		k.g.sweep()
	}
}

// mark returns the own marker of the default queue.
func (k *handTrial) mark() *mark { return k.g.marks[markID{k.g.j.store.OwnName(), "default"}] }

// wantLost fails unless there were so many losses, of so many jobs, all of them sent again.
func (k *handTrial) wantLost(t *testing.T, losses, jobs int64) {
	t.Helper()
	if st := k.Stats(); st.Losses != losses || st.Lost != jobs || st.Resent != jobs {
		t.Errorf("%d losses, %d jobs lost, %d sent again; want %d of %d: %q", st.Losses, st.Lost, st.Resent, losses, jobs, k.said.all(""))
	}
}

// wantPending fails unless Redis has these jobs, and no others, when the spool is empty.
func (k *handTrial) wantPending(t *testing.T, ids []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	check(t, k.replayer.drain(ctx)) // the guard is stepped by hand
	got, err := k.rdb.LRange(ctx, "asynq:{default}:pending", 0, -1).Result()
	check(t, err)
	slices.Sort(got)
	if want := slices.Sorted(slices.Values(ids)); !slices.Equal(got, want) {
		t.Errorf("Redis has %d jobs, want %d: %q, want %q", len(got), len(want), got, want)
	}
}

// saidLines is what was logged.
type saidLines struct {
	mu   sync.Mutex
	text []string
}

func (s *saidLines) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, string(b))
	return len(b), nil
}

// all returns the lines with a text in them.
func (s *saidLines) all(with string) (lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.text {
		if strings.Contains(l, with) {
			lines = append(lines, l)
		}
	}
	return lines
}

// quick fails unless do takes less than a limit at least once: a busy machine is slow now
// and then, not each time.
func quick(t *testing.T, limit time.Duration, do func()) {
	t.Helper()
	least := time.Duration(1 << 62)
	for range 10 {
		begin := time.Now()
		do()
		if least = min(least, time.Since(begin)); least < limit {
			return
		}
	}
	t.Errorf("it takes %v, want less than %v", least, limit)
}

// soon waits until the condition holds.
func soon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
