package queue_test

import (
	"errors"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool"
)

// breakQueue makes the list of a queue a string, until it is mended.
func breakQueue(t *testing.T, r *redistest.Server, name string) (mend func()) {
	t.Helper()
	admin, key := client(t, r.Addr()), "asynq:{"+name+"}:pending"
	must(t, admin.Set(t.Context(), key, "a string", 0).Err())
	return func() { must(t, admin.Del(t.Context(), key).Err()) }
}

// whereTo enqueues a task, and returns where it is, with asynq's error if it is nowhere.
func whereTo(p *queue.Producer, opts ...asynq.Option) (where queue.Where, err error) {
	_, err = p.Enqueue(asynq.NewTask("t", make([]byte, 10_000)), append(opts, queue.ReportTo(&where))...)
	return where, err
}

// TestAQueueWithNothingToTry has an outage of a queue that only jobs can end, and no job of it in
// the spool that could be sent: jobs go to Redis again once they can.
func TestAQueueWithNothingToTry(t *testing.T) {
	t.Parallel()
	isLive := func(p *queue.Producer, opts ...asynq.Option) func() bool {
		return func() bool {
			where, err := whereTo(p, opts...)
			return where == queue.InRedis && err == nil
		}
	}
	t.Run("its jobs are never spooled", func(t *testing.T) {
		t.Parallel()
		r := redistest.Run(t, redistest.Options{})
		p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
		mend := breakQueue(t, r, "default")
		if _, err := whereTo(p, queue.NoSpool()); !errors.Is(err, queue.ErrUnavailable) {
			t.Fatal(err)
		}
		mend()
		eventually(t, "jobs go to Redis", isLive(p, queue.NoSpool()))
	})
	t.Run("replay is paused", func(t *testing.T) {
		t.Parallel()
		r, dir := redistest.Run(t, redistest.Options{}), t.TempDir()
		pauseReplay(t, dir)
		p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir})
		mend := breakQueue(t, r, "default")
		if where, err := whereTo(p); where != queue.InDoubt || err != nil {
			t.Fatal(where, err)
		}
		mend()
		eventually(t, "jobs go to Redis", isLive(p))
		must(t, second(spool.ResumeReplay(dir)))
		drain(t, p)
		if n := len(pendingIDs(t, r.Addr())); int64(n) != p.Stats().Accepted {
			t.Errorf("%d jobs in Redis: %+v", n, p.Stats())
		}
	})
	t.Run("the spool is full", func(t *testing.T) {
		t.Parallel()
		r := redistest.Run(t, redistest.Options{})
		p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), Spool: queue.SpoolConfig{MaxBytes: 1 << 20}})
		breakQueue(t, r, "other")
		eventually(t, "the spool is full", func() bool {
			return errors.Is(second(whereTo(p, asynq.Queue("other"))), queue.ErrFull)
		})
		mend := breakQueue(t, r, "default")
		if _, err := whereTo(p); !errors.Is(err, queue.ErrFull) {
			t.Fatal(err)
		}
		mend()
		eventually(t, "jobs go to Redis", isLive(p))
	})
}

// TestHopeIsRare: where the fault lasts, jobs meet it ever less often.
func TestHopeIsRare(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	mend := breakQueue(t, r, "default")
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := whereTo(p, queue.NoSpool()); !errors.Is(err, queue.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if st := p.Stats(); st.Outages < 2 || st.Outages > 6 {
		t.Errorf("%d outages in 8 s", st.Outages)
	}
	mend()
	eventually(t, "jobs go to Redis", func() bool { return second(whereTo(p, queue.NoSpool())) == nil })
}
