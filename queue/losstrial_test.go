package queue_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// lossTrial is a Producer with Guard under load from 16 callers, with plain workers. Its
// methods are for the test's goroutine.
type lossTrial struct {
	tb    testing.TB
	p     *queue.Producer
	opt   asynq.RedisConnOpt
	rdb   redis.UniversalClient
	queue string
	w     *worker

	early []string // done, and known to be, before anything is lost
	stop  func() []string
}

// newLossTrial returns a trial of whose early jobs the journal has let go: they are not to
// run again. rdb is a client of the same Redis.
func newLossTrial(tb testing.TB, cfg queue.Config, rdb redis.UniversalClient, name string) *lossTrial {
	tb.Helper()
	cfg.Guard = time.Minute
	if cfg.SpoolDir == "" {
		cfg.SpoolDir = tb.TempDir()
	}
	log, said := logger()
	cfg.Logger = log
	l := &lossTrial{
		tb: tb, p: newProducer(tb, cfg), opt: cfg.Redis, rdb: rdb, queue: name, w: workOn(tb, cfg.Redis, name),
		stop: func() []string { return nil },
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("%+v, %q", l.p.Stats(), said.all())
		}
	})
	for range 200 {
		info, err := l.p.Enqueue(asynq.NewTask("t", []byte("early")), asynq.Queue(name))
		must(tb, err)
		l.early = append(l.early, info.ID)
	}
	eventually(tb, "the journal lets go of the early jobs", func() bool { return l.p.Journalled() == 0 })
	return l
}

// load begins the load, and returns when it has lasted for a while.
func (l *lossTrial) load(d time.Duration) {
	l.tb.Helper()
	l.stop = underLoad(l.tb, l.p, l.queue)
	time.Sleep(d)
}

// end ends the load and checks that every job that was accepted ran, or is in Redis, and
// that the early ones ran once.
func (l *lossTrial) end() {
	l.tb.Helper()
	ids := l.stop()
	drain(l.tb, l.p)
	wantKept(l.tb, l.rdb, l.w, l.queue, ids)
	wantKept(l.tb, l.rdb, l.w, l.queue, l.early)
	runs := l.w.counts()
	for _, id := range l.early {
		if runs[id] > 1 {
			l.tb.Errorf("%s was done long before the loss and ran %d times", id, runs[id])
		}
	}
	again := 0
	for _, id := range ids {
		again += max(runs[id]-1, 0)
	}
	st := l.p.Stats()
	l.tb.Logf("%d jobs, %d runs too many, %d losses: %d lost, %d sent again, %d of them maybe done", len(ids), again, st.Losses, st.Lost, st.Resent, st.ResentMaybeDone)
	if st.Lost < st.Resent || st.Resent < st.ResentMaybeDone {
		l.tb.Errorf("%d lost, %d sent again, %d of them maybe done", st.Lost, st.Resent, st.ResentMaybeDone)
	}
}

// wantLoss waits until a loss is noticed.
func (l *lossTrial) wantLoss() {
	l.tb.Helper()
	eventually(l.tb, "the loss is noticed", func() bool { return l.p.Stats().Losses > 0 })
	if st := l.p.Stats(); st.Resent == 0 {
		l.tb.Errorf("nothing was sent again: the test shows nothing: %+v", st)
	}
}

// wantNoAlarm fails if something was taken for a loss.
func wantNoAlarm(tb testing.TB, p *queue.Producer) {
	tb.Helper()
	if st := p.Stats(); st.Losses != 0 || st.Lost != 0 || st.Resent != 0 || st.JournalSkipped != 0 {
		tb.Errorf("a false alarm: %+v", st)
	}
}

// wantKept waits until each job ran or is in Redis: a loss may not have been noticed yet.
func wantKept(tb testing.TB, rdb redis.UniversalClient, w *worker, name string, ids []string) {
	tb.Helper()
	n := 0
	defer func() {
		if n > 0 {
			tb.Logf("%d of %d jobs neither ran nor are in Redis", n, len(ids))
		}
	}()
	eventually(tb, "every job ran or is in Redis", func() bool {
		n = unkept(tb, rdb, w, name, ids)
		return n == 0
	})
}

// unkept returns how many jobs neither ran nor are in Redis.
func unkept(tb testing.TB, rdb redis.UniversalClient, w *worker, name string, ids []string) (n int) {
	tb.Helper()
	gone, runs := missing(tb, rdb, name, ids), w.counts() // in this order: what is done is gone from Redis
	for _, id := range gone {
		if runs[id] == 0 {
			n++
		}
	}
	return n
}

// missing returns which jobs are not in Redis: a task that is in no list no worker ever gets, and
// neither does one of which nothing but its id is left.
func missing(tb testing.TB, rdb redis.UniversalClient, name string, ids []string) (gone []string) {
	tb.Helper()
	if len(ids) == 0 {
		return nil
	}
	prefix, ctx := "asynq:{"+name+"}:", context.Background()
	pipe := rdb.TxPipeline() // at one moment: jobs go from one list to another
	var lists []*redis.StringSliceCmd
	for _, list := range []string{"pending", "active"} {
		lists = append(lists, pipe.LRange(ctx, prefix+list, 0, -1))
	}
	for _, set := range []string{"scheduled", "retry", "archived", "completed"} {
		lists = append(lists, pipe.ZRange(ctx, prefix+set, 0, -1))
	}
	tasks := make([]*redis.IntCmd, len(ids))
	for i, id := range ids {
		tasks[i] = pipe.Exists(ctx, prefix+"t:"+id)
	}
	_, err := pipe.Exec(ctx)
	must(tb, err)
	listed := map[string]bool{}
	for _, l := range lists {
		for _, id := range l.Val() {
			listed[id] = true
		}
	}
	for i, id := range ids {
		if tasks[i].Val() == 0 || !listed[id] {
			gone = append(gone, id)
		}
	}
	return gone
}

// underLoad lets 16 callers enqueue, each with a pause, until stop is called, which returns
// the ids that were accepted.
func underLoad(tb testing.TB, p *queue.Producer, name string, opts ...asynq.Option) (stop func() []string) {
	tb.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var ids []string
	over := make(chan struct{})
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(5 * time.Millisecond):
				}
				info, err := p.Enqueue(asynq.NewTask("t", []byte("payload"), opts...), asynq.Queue(name))
				if err != nil {
					tb.Error(err)
					return
				}
				mu.Lock()
				ids = append(ids, info.ID)
				mu.Unlock()
			}
		})
	}
	end := sync.OnceFunc(func() {
		close(over)
		wg.Wait()
	})
	tb.Cleanup(end)
	return func() []string {
		end()
		return ids
	}
}

// killAndRestart kills a server and starts it again.
func killAndRestart(tb testing.TB, r *redistest.Server) {
	tb.Helper()
	must(tb, r.Kill())
	must(tb, r.Restart())
}

// TestMissing: what is in Redis in part only is missing.
func TestMissing(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p, rdb := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()}), client(t, r.Addr())
	ids := enqueue(t, p, 4)
	must(t, rdb.LRem(t.Context(), "asynq:{default}:pending", 0, ids[0]).Err())
	must(t, rdb.Del(t.Context(), "asynq:{default}:t:"+ids[1]).Err())
	must(t, rdb.LMove(t.Context(), "asynq:{default}:pending", "asynq:{default}:active", "LEFT", "RIGHT").Err())
	if gone := missing(t, rdb, "default", ids); !slices.Equal(gone, ids[:2]) {
		t.Errorf("%q are missing, want %q", gone, ids[:2])
	}
}
