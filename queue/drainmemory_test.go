package queue_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"runtime/metrics"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool/crashtest"
)

// memoryJobs is how many jobs lie in the spool whose drain is watched: so many make twice
// heapBound if they are loaded. With a million the test takes minutes.
var memoryJobs = flag.Int("memory.jobs", 40_000, "jobs in the spool whose drain is watched")

// heapBound is what the heap may have in use at any moment of a drain.
const heapBound = 24 << 20

// TestDrainTakesFlatMemory drains a spool in a process with GOMEMLIMIT=64MiB.
func TestDrainTakesFlatMemory(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	leaveMany(t, dir, *memoryJobs, 1)
	c := crashtest.Start(t, "GOMEMLIMIT=64MiB", childDrains+"=watched", childDir+"="+dir, childTarget+"=t", childRedis+"="+r.Addr())
	c.Await(1)
	peak, err := strconv.Atoi(c.Kill()[0])
	must(t, err)
	t.Logf("%d jobs: at most %.1f MiB of heap in use", *memoryJobs, float64(peak)/(1<<20))
	if peak > heapBound || peak == 0 {
		t.Errorf("%d bytes of heap in use", peak)
	}
	n, err := client(t, r.Addr()).LLen(t.Context(), "asynq:{queue0}:pending").Result()
	if must(t, err); int(n) != *memoryJobs {
		t.Errorf("%d of %d jobs", n, *memoryJobs)
	}
}

// leaveMany is leave without much memory. The jobs take turns in so many queues.
func leaveMany(tb testing.TB, dir string, n, queues int) {
	tb.Helper()
	p := newProducer(tb, queue.Config{Redis: server(away), SpoolDir: dir, Target: "t", Spool: queue.SpoolConfig{MaxBytes: -1}})
	payload := make([]byte, payloadBytes)
	for n > 0 {
		tasks := make([]*asynq.Task, min(n, 5000))
		for i := range tasks {
			tasks[i] = asynq.NewTask("bench", payload, asynq.Queue(queueName(i%queues)))
		}
		_, err := p.EnqueueBatch(tb.Context(), tasks)
		must(tb, err)
		n -= len(tasks)
	}
	closeProducer(tb, p)
}

var _ = childDoes("watched", drainWatched)

// drainWatched drains, and prints how many bytes of heap were in use at most.
func drainWatched() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	peak := make(chan uint64)
	go func() { peak <- watchHeap(ctx) }()
	cfg := childConfig()
	cfg.DrainOnly, cfg.Logger = true, slog.New(slog.DiscardHandler)
	p, err := queue.New(cfg)
	if err == nil {
		err = p.Drain(ctx)
	}
	if err != nil {
		crashtest.Fail(err)
	}
	cancel()
	fmt.Println(<-peak)
	select {}
}

// watchHeap returns how much of the heap was in use at most, as in MemStats.HeapInuse.
func watchHeap(ctx context.Context) (peak uint64) {
	in := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		metrics.Read(in)
		peak = max(peak, in[0].Value.Uint64()+in[1].Value.Uint64())
		<-tick.C
	}
	return peak
}
