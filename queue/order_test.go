package queue_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// numbered is a task with a number for its payload.
func numbered(n int) *asynq.Task { return asynq.NewTask("t", strconv.AppendInt(nil, int64(n), 10)) }

// batchOf returns n numbered tasks.
func batchOf(n int) []*asynq.Task {
	tasks := make([]*asynq.Task, n)
	for i := range tasks {
		tasks[i] = numbered(i)
	}
	return tasks
}

// numbers returns the payloads in a queue's pending list, oldest first.
func numbers(tb testing.TB, addr, name string) (in []int) {
	tb.Helper()
	rdb, ctx := client(tb, addr), context.Background()
	ids, err := rdb.LRange(ctx, "asynq:{"+name+"}:pending", 0, -1).Result()
	must(tb, err)
	slices.Reverse(ids)
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	for _, id := range ids {
		info, err := inspector.GetTaskInfo(name, id)
		must(tb, err)
		n, err := strconv.Atoi(string(info.Payload))
		must(tb, err)
		in = append(in, n)
	}
	return in
}

// inOrder fails unless the numbers are 0, 1, 2 and so on.
func inOrder(tb testing.TB, got []int, n int) {
	tb.Helper()
	if len(got) != n {
		tb.Errorf("%d of %d", len(got), n)
	}
	for i, k := range got {
		if i != k {
			tb.Fatalf("%d is number %d: %v", k, i, got[max(0, i-5):min(len(got), i+5)])
		}
	}
}

// TestFIFOKeepsTheOrderOfAQueue enqueues into an outage, while it ends, through the replay
// and beyond it.
func TestFIFOKeepsTheOrderOfAQueue(t *testing.T) {
	t.Parallel()
	for _, ordering := range []queue.Ordering{queue.FIFO, queue.FreshFirst} {
		t.Run(fmt.Sprint("ordering ", ordering), func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{AppendOnly: true})
			p := newProducer(t, queue.Config{
				Redis: server(r.Addr()), SpoolDir: t.TempDir(), Replay: queue.ReplayConfig{Ordering: ordering},
			})
			n, direct := 0, 0
			add := func() {
				t.Helper()
				var where queue.Where
				if _, err := p.Enqueue(numbered(n), queue.ReportTo(&where)); err != nil {
					t.Fatal(err)
				}
				n++
				if where == queue.InRedis {
					direct++
				}
			}
			add()
			must(t, r.Kill())
			for range 3000 {
				add()
			}
			must(t, r.Restart())
			eventually(t, "jobs go to Redis directly again", func() bool {
				before := direct
				add()
				return direct > before && p.Stats().Pending == 0
			})
			for range 100 {
				add()
			}
			drain(t, p)
			got := numbers(t, r.Addr(), "default")
			if ordering == queue.FIFO {
				inOrder(t, got, n)
			} else if slices.IsSorted(got) {
				t.Error("no new job overtook an old one: the test shows nothing")
			}
		})
	}
}

// TestFIFOUnderFlapping has one caller per queue through outages that come and go.
func TestFIFOUnderFlapping(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{
		Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), Replay: queue.ReplayConfig{Ordering: queue.FIFO},
		EnqueueTimeout: 300 * time.Millisecond,
	})
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	counts := make([]int, 4)
	var wg sync.WaitGroup
	for i := range counts {
		wg.Go(func() {
			for ; ctx.Err() == nil; counts[i]++ {
				if _, err := p.EnqueueContext(context.WithoutCancel(ctx), numbered(counts[i]), asynq.Queue(fmt.Sprint("q", i))); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	for ctx.Err() == nil {
		proxy.Refuse()
		proxy.Cut()
		time.Sleep(700 * time.Millisecond)
		proxy.Accept()
		time.Sleep(1100 * time.Millisecond)
	}
	wg.Wait()
	drain(t, p)
	if st := p.Stats(); st.Outages < 3 || st.Replayed == 0 {
		t.Errorf("the test shows nothing: %+v", st)
	}
	for i, n := range counts {
		inOrder(t, numbers(t, r.Addr(), fmt.Sprint("q", i)), n)
	}
}

// TestFIFOPutsAnOrphansJobsFirst has a dead process's older jobs replayed before what a
// living one spooled later, and live ones wait for both.
func TestFIFOPutsAnOrphansJobsFirst(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	must(t, r.Kill())
	cfg := queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), Replay: queue.ReplayConfig{Ordering: queue.FIFO}}
	dead := newProducer(t, cfg)
	tasks := batchOf(1500)
	_, err := dead.EnqueueBatch(t.Context(), tasks[:700])
	must(t, err)
	closeProducer(t, dead)
	p := newProducer(t, cfg)
	_, err = p.EnqueueBatch(t.Context(), tasks[700:1400])
	must(t, err)
	eventually(t, "adopted", func() bool { return p.Stats().Adopted == 700 })
	must(t, r.Restart())
	for _, task := range tasks[1400:] {
		_, err := p.Enqueue(task)
		must(t, err)
	}
	drain(t, p)
	inOrder(t, numbers(t, r.Addr(), "default"), 1500)
}

// TestFIFORefusesRatherThanComesLate: NoSpool holds behind a backlog as well.
func TestFIFORefusesRatherThanComesLate(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	must(t, r.Kill())
	p := newProducer(t, queue.Config{
		Redis: server(r.Addr()), SpoolDir: t.TempDir(), Replay: queue.ReplayConfig{Ordering: queue.FIFO, Rate: 1},
	})
	_, err := p.EnqueueBatch(t.Context(), batchOf(100))
	must(t, err)
	must(t, r.Restart())
	eventually(t, "up", func() bool { return p.Stats().State == queue.StateUp })
	_, err = p.Enqueue(numbered(100), queue.NoSpool())
	if err == nil || !strings.Contains(err.Error(), "older jobs") {
		t.Errorf("%v", err)
	}
	_, err = p.EnqueueBatch(t.Context(), batchOf(1), queue.NoSpool())
	if err == nil || !strings.Contains(err.Error(), "older jobs") {
		t.Errorf("%v", err)
	}
	var where queue.Where
	if _, err := p.Enqueue(numbered(0), asynq.Queue("other"), queue.ReportTo(&where)); err != nil || where != queue.InRedis {
		t.Errorf("another queue: %v, %v", err, where)
	}
}

// TestQueuesTakeTurns spools many jobs of one queue and few of others behind them.
func TestQueuesTakeTurns(t *testing.T) {
	t.Parallel()
	const many, few = 100_000, 10
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	must(t, r.Kill())
	p := newProducer(t, queue.Config{
		Redis: server(r.Addr()), SpoolDir: t.TempDir(), Replay: queue.ReplayConfig{Rate: 2000, Weights: map[string]int{"heavy": 3}},
	})
	fill := func(name string, n int) {
		t.Helper()
		_, err := p.EnqueueBatch(t.Context(), batchOf(n), asynq.Queue(name))
		must(t, err)
	}
	fill("large", many)
	for i := range few {
		fill(fmt.Sprint("small", i), few)
	}
	fill("heavy", many)
	must(t, r.Restart())
	rdb := client(t, r.Addr())
	length := func(name string) int64 {
		n, err := rdb.LLen(context.Background(), "asynq:{"+name+"}:pending").Result()
		must(t, err)
		return n
	}
	eventually(t, "the small queues are in Redis", func() bool {
		for i := range few {
			if length(fmt.Sprint("small", i)) < few {
				return false
			}
		}
		return true
	})
	if n := length("large"); n > 2000 {
		t.Errorf("%d jobs of the large queue went before", n)
	}
	eventually(t, "some more", func() bool { return length("heavy") > 3000 })
	if heavy, large := length("heavy"), length("large"); heavy < 2*large || heavy > 4*large {
		t.Errorf("%d of weight 3, %d of weight 1", heavy, large)
	}
	for _, name := range []string{"large", "heavy"} {
		got := numbers(t, r.Addr(), name)
		inOrder(t, got, len(got))
	}
}

// TestOrderAfterTheScriptsAreGone: Redis forgets its scripts in an outage, by a restart or by
// SCRIPT FLUSH, and knows those of plain tasks again before those of unique ones.
func TestOrderAfterTheScriptsAreGone(t *testing.T) {
	t.Parallel()
	const n = 200
	mixed := func(from, to int) (tasks []*asynq.Task) {
		for i := from; i < to; i++ {
			task := numbered(i)
			if i%3 == 1 {
				task = asynq.NewTask(task.Type(), task.Payload(), asynq.Unique(time.Hour))
			}
			tasks = append(tasks, task)
		}
		return tasks
	}
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{
		Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), Replay: queue.ReplayConfig{Ordering: queue.FIFO}, EnqueueTimeout: patience,
	})
	_, err := p.EnqueueBatch(t.Context(), mixed(0, 10))
	must(t, err)
	proxy.Refuse()
	proxy.Cut()
	_, err = p.EnqueueBatch(t.Context(), mixed(10, n/2))
	must(t, err)
	rdb := client(t, r.Addr())
	must(t, rdb.ScriptFlush(t.Context()).Err())
	_, err = p.EnqueueBatch(t.Context(), mixed(n/2, n))
	must(t, err)
	proxy.Accept()
	drain(t, p)
	inOrder(t, numbers(t, r.Addr(), "default"), n)

	must(t, rdb.ScriptFlush(t.Context()).Err())
	_, err = p.Enqueue(numbered(n)) // so that Redis knows one script
	must(t, err)
	_, err = p.EnqueueBatch(t.Context(), mixed(n+1, n+20))
	must(t, err)
	drain(t, p)
	inOrder(t, numbers(t, r.Addr(), "default"), n+20)
}
