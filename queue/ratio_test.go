package queue_test

import (
	"context"
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

// The measurements below alternate between a Producer and its peer within one run, since
// on a shared machine only a ratio means something.
var (
	rounds   = flag.Int("ratio.rounds", 9, "alternating rounds of each comparison")
	roundFor = flag.Duration("ratio.round", time.Second, "length of each round")
)

// payloadBytes is the payload of every measured task.
const payloadBytes = 200

// pace is what callers got in one round.
type pace struct {
	perSecond float64
	waits     []time.Duration // of each call, sorted
}

func (p pace) quantile(q float64) time.Duration {
	return p.waits[min(len(p.waits)-1, int(q*float64(len(p.waits))))]
}

// drive lets callers make the call again and again for a while.
func drive(tb testing.TB, callers int, d time.Duration, call func() error) pace {
	tb.Helper()
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for range callers {
		wg.Go(func() {
			waits := make([]time.Duration, 0, 1<<16)
			for at := time.Now(); at.Sub(start) < d; {
				if err := call(); err != nil {
					tb.Error(err)
					return
				}
				now := time.Now()
				waits = append(waits, now.Sub(at))
				at = now
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, waits...)
		})
	}
	wg.Wait()
	if len(all) == 0 {
		tb.Fatal("no call succeeded")
	}
	slices.Sort(all)
	return pace{perSecond: float64(len(all)) / time.Since(start).Seconds(), waits: all}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// BenchmarkLiveRatio compares a Producer with plain asynq on one healthy Redis, both with
// the client's settings that each has by default.
func BenchmarkLiveRatio(b *testing.B) {
	for _, callers := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			r := redistest.Run(b, redistest.Options{})
			compare(b, r, r.Addr(), callers)
		})
	}
}

func compare(b *testing.B, r *redistest.Server, addr string, callers int) {
	b.Helper()
	plain := asynq.NewClient(server(addr))
	b.Cleanup(func() { _ = plain.Close() })
	p := newProducer(b, queue.Config{Redis: server(addr), SpoolDir: b.TempDir()})
	payload := make([]byte, payloadBytes)
	rdb := client(b, r.Addr())
	run := func(e func(*asynq.Task, ...asynq.Option) (*asynq.TaskInfo, error)) pace {
		if err := rdb.FlushAll(context.Background()).Err(); err != nil {
			b.Fatal(err)
		}
		return drive(b, callers, *roundFor, func() error {
			_, err := e(asynq.NewTask("bench", payload))
			return err
		})
	}
	run(plain.Enqueue)
	run(p.Enqueue)
	var rates, tails, ours, theirs []float64
	b.ResetTimer()
	for range *rounds {
		their, our := run(plain.Enqueue), run(p.Enqueue)
		theirs, ours = append(theirs, their.perSecond), append(ours, our.perSecond)
		rates = append(rates, our.perSecond/their.perSecond)
		tails = append(tails, float64(our.quantile(0.99))/float64(their.quantile(0.99)))
	}
	b.ReportMetric(median(theirs), "plain/s")
	b.ReportMetric(median(ours), "live/s")
	b.ReportMetric(median(rates), "x-rate")
	b.ReportMetric(median(tails), "x-p99")
	b.ReportMetric(0, "ns/op")
	if st := p.Stats(); st.Spooled > 0 {
		b.Errorf("the live path was left: %+v", st)
	}
}
