package queue_test

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

var besideJobs = flag.Int("beside.jobs", 300_000, "spooled jobs in each round of BenchmarkWaitsBesideReplay")

// BenchmarkWaitsBesideReplay is what callers wait for while a full spool is replayed, with
// nothing to replay, and with a replay that has no regard to them. With a pause callers leave
// the machine some air; without, they take of Redis whatever they can get.
func BenchmarkWaitsBesideReplay(b *testing.B) {
	for _, c := range []struct {
		callers int
		pause   time.Duration
	}{{4, 2 * time.Millisecond}, {32, 10 * time.Millisecond}, {4, 0}} {
		b.Run(fmt.Sprintf("callers=%d/pause=%v", c.callers, c.pause), func(b *testing.B) {
			payload := make([]byte, payloadBytes)
			run := func(name string, jobs int, prepare func(*queue.Producer)) {
				p := comesBack(b, jobs, prepare)
				began := time.Now()
				before := p.Stats()
				got := calls(b, c.callers, c.pause, func() error {
					_, err := p.Enqueue(asynq.NewTask("bench", payload))
					return err
				}, func() bool {
					return time.Since(began) > 5**roundFor || jobs > 0 && p.Stats().Pending == 0
				})
				after := p.Stats()
				b.ReportMetric(milliseconds(got.quantile(0.5)), name+"-p50-ms")
				b.ReportMetric(milliseconds(got.quantile(0.99)), name+"-p99-ms")
				b.ReportMetric(milliseconds(got.quantile(1)), name+"-max-ms")
				b.ReportMetric(got.perSecond, name+"-live/s")
				if jobs > 0 {
					b.ReportMetric(float64(after.Replayed-before.Replayed)/time.Since(began).Seconds(), name+"-replay/s")
				}
				if after.Outages != 1 {
					b.Errorf("%+v", after)
				}
				closeProducer(b, p)
			}
			b.ResetTimer()
			run("alone", 0, func(*queue.Producer) {})
			run("beside", *besideJobs, func(*queue.Producer) {})
			run("rude", *besideJobs, (*queue.Producer).NeverYield)
			b.ReportMetric(0, "ns/op")
		})
	}
}

// comesBack returns a Producer with jobs in its spool and a Redis that has just come back.
func comesBack(b *testing.B, jobs int, prepare func(*queue.Producer)) *queue.Producer {
	b.Helper()
	r := redistest.Run(b, redistest.Options{})
	p := newProducer(b, queue.Config{Redis: server(r.Addr()), SpoolDir: b.TempDir()})
	must(b, r.Kill())
	prepare(p)
	payload := make([]byte, payloadBytes)
	for some := range slices.Chunk(make([]*asynq.Task, jobs+1), 1000) {
		for i := range some {
			some[i] = asynq.NewTask("bench", payload)
		}
		must(b, second(p.EnqueueBatch(b.Context(), some)))
	}
	must(b, r.Restart())
	eventually(b, "replay", func() bool { return p.Stats().Replayed > 0 })
	return p
}

// calls lets callers make the call again and again until it is over, each after a pause.
func calls(tb testing.TB, callers int, pause time.Duration, call func() error, over func() bool) pace {
	tb.Helper()
	var mu sync.Mutex
	var errs []error
	var all []time.Duration
	var wg sync.WaitGroup
	stop := make(chan struct{})
	start := time.Now()
	for range callers {
		wg.Go(func() {
			var waits []time.Duration
			var err error
			for running := true; running && err == nil; {
				began := time.Now()
				err = call()
				waits = append(waits, time.Since(began))
				select {
				case <-stop:
					running = false
				default:
					time.Sleep(pause)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all, errs = append(all, waits...), append(errs, err)
		})
	}
	for !over() {
		time.Sleep(10 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	must(tb, errors.Join(errs...))
	slices.Sort(all)
	return pace{perSecond: float64(len(all)) / time.Since(start).Seconds(), waits: all}
}
