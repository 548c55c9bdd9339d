package queue_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// ticker runs a scheduler with one entry a second through the client, until the test
// ends or stop is called, and counts its ticks and those that failed.
type ticker struct {
	stop          func()
	ticks, failed atomic.Int64
}

func startTicker(tb testing.TB, c redis.UniversalClient, task *asynq.Task, opts ...asynq.Option) *ticker {
	tb.Helper()
	tk := &ticker{}
	s := asynq.NewSchedulerFromRedisClient(c, &asynq.SchedulerOpts{
		LogLevel: asynq.FatalLevel, HeartbeatInterval: time.Second,
		PostEnqueueFunc: func(_ *asynq.TaskInfo, err error) {
			tk.ticks.Add(1)
			if err != nil {
				tk.failed.Add(1)
			}
		},
	})
	if _, err := s.Register("@every 1s", task, opts...); err != nil {
		tb.Fatal(err)
	}
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	done := false
	tk.stop = func() {
		if !done {
			done = true
			s.Shutdown()
		}
	}
	tb.Cleanup(tk.stop)
	return tk
}

// TestSchedulerKeepsItsTicks runs plain asynq's scheduler beside ours through an outage:
// it loses its ticks without a word.
func TestSchedulerKeepsItsTicks(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	theirs := redis.NewClient(&redis.Options{Addr: r.Addr(), MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = theirs.Close() })
	plain := startTicker(t, theirs, asynq.NewTask("plain", nil), asynq.Queue("plain"))
	kept := startTicker(t, p.SchedulerClient(), asynq.NewTaskWithHeaders("kept", []byte("p"), map[string]string{"h": "v"}),
		asynq.MaxRetry(2), asynq.Timeout(7*time.Second), asynq.Retention(time.Hour))
	rdb := client(t, r.Addr())
	eventually(t, "the first ticks are in Redis", func() bool {
		n, _ := rdb.LLen(t.Context(), "asynq:{plain}:pending").Result()
		return n > 0 && p.Stats().Sent > 0
	})
	if n, err := rdb.ZCard(t.Context(), "asynq:schedulers").Result(); err != nil || n == 0 {
		eventually(t, "the scheduler shows itself", func() bool {
			n, _ := rdb.ZCard(t.Context(), "asynq:schedulers").Result()
			return n > 0
		})
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ticks in the outage", func() bool { return p.Stats().Spooled >= 3 && plain.failed.Load() >= 3 })
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	kept.stop()
	plain.stop()
	drain(t, p)
	st := p.Stats()
	ids := pendingIDs(t, r.Addr())
	if kept.failed.Load() != 0 || int64(len(ids)) != kept.ticks.Load() || st.Accepted != kept.ticks.Load() {
		t.Errorf("%d ticks, %d failed, %d in Redis: %+v", kept.ticks.Load(), kept.failed.Load(), len(ids), st)
	}
	for _, id := range ids {
		info, err := asynq.NewInspector(server(r.Addr())).GetTaskInfo("default", id)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(info.Type, string(info.Payload), info.Headers, info.MaxRetry, info.Timeout, info.Retention)
		if want := fmt.Sprint("kept", "p", map[string]string{"h": "v"}, 2, 7*time.Second, time.Hour); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestUniqueTicks lets two schedulers tick through an outage, each with a process of its
// own in the way of two Producers: with Unique their ticks are one job.
func TestUniqueTicks(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	var tickers []*ticker
	var producers []*queue.Producer
	for range 2 {
		p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
		producers = append(producers, p)
		tickers = append(tickers, startTicker(t, p.SchedulerClient(), asynq.NewTask("t", []byte("p")), asynq.Unique(time.Hour)))
	}
	for i, tk := range tickers {
		eventually(t, "three ticks", func() bool { return tk.ticks.Load() >= 3 })
		tk.stop()
		if st := producers[i].Stats(); st.Spooled != 1 || tk.failed.Load() != tk.ticks.Load()-1 {
			t.Errorf("%d of %d ticks refused: %+v", tk.failed.Load(), tk.ticks.Load(), st)
		}
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, p := range producers {
		drain(t, p)
	}
	if ids := pendingIDs(t, r.Addr()); len(ids) != 1 {
		t.Errorf("%d jobs", len(ids))
	}
}

// TestALostReplyToATick: a tick whose reply was lost is replayed under the id it was sent with,
// so it is one job.
func TestALostReplyToATick(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir()})
	enqueue(t, p, 1)
	lost := proxy.CutAfterReplies(0, redistest.CutFIN)
	tk := startTicker(t, p.SchedulerClient(), asynq.NewTask("t", nil))
	<-lost
	eventually(t, "the tick is over", func() bool { return tk.ticks.Load() > 0 })
	tk.stop()
	drain(t, p)
	if ids := pendingIDs(t, r.Addr()); int64(len(ids)) != 1+tk.ticks.Load() || tk.failed.Load() != 0 {
		t.Errorf("%d jobs of %d ticks, %d failed", len(ids), tk.ticks.Load(), tk.failed.Load())
	}
	if st := p.Stats(); st.AlreadyThere != 1 {
		t.Errorf("%+v", st)
	}
}

// TestPeriodicTaskManager takes the same client.
func TestPeriodicTaskManager(t *testing.T) {
	t.Parallel()
	p := newProducer(t, queue.Config{Redis: server("127.0.0.1:1"), SpoolDir: t.TempDir()})
	m, err := asynq.NewPeriodicTaskManager(asynq.PeriodicTaskManagerOpts{
		PeriodicTaskConfigProvider: everySecond{}, RedisUniversalClient: p.SchedulerClient(),
		SchedulerOpts: &asynq.SchedulerOpts{LogLevel: asynq.FatalLevel},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Shutdown)
	eventually(t, "a tick without Redis", func() bool { return p.Stats().Spooled > 0 })
}

type everySecond struct{}

func (everySecond) GetConfigs() ([]*asynq.PeriodicTaskConfig, error) {
	return []*asynq.PeriodicTaskConfig{{Cronspec: "@every 1s", Task: asynq.NewTask("t", nil)}}, nil
}
