package queue_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

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

// reportRounds reports the median of what the rounds had, the least, and the greatest.
func reportRounds(b *testing.B, values []float64, unit string) {
	b.Helper()
	b.ReportMetric(median(values), unit)
	b.ReportMetric(values[0], unit+"-min")
	b.ReportMetric(values[len(values)-1], unit+"-max")
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
	var rates, tails, selves, ours, theirs []float64
	b.ResetTimer()
	for i := range *rounds {
		var their, our, again pace
		if i%2 == 0 { // the second of two has it a little easier
			their, our, again = run(plain.Enqueue), run(p.Enqueue), run(plain.Enqueue)
		} else {
			again, our, their = run(plain.Enqueue), run(p.Enqueue), run(plain.Enqueue)
		}
		theirs, ours = append(theirs, their.perSecond), append(ours, our.perSecond)
		rates = append(rates, our.perSecond/their.perSecond)
		selves = append(selves, again.perSecond/their.perSecond)
		tails = append(tails, float64(our.quantile(0.99))/float64(their.quantile(0.99)))
	}
	reportRounds(b, selves, "x-self")
	b.ReportMetric(median(theirs), "plain/s")
	b.ReportMetric(median(ours), "live/s")
	reportRounds(b, rates, "x-rate")
	reportRounds(b, tails, "x-p99")
	b.ReportMetric(float64(*rounds), "rounds")
	b.ReportMetric(0, "ns/op")
	if st := p.Stats(); st.Spooled > 0 {
		b.Errorf("the live path was left: %+v", st)
	}
}

// BenchmarkDistantRatio is BenchmarkLiveRatio with 5 ms of round trip.
func BenchmarkDistantRatio(b *testing.B) {
	for _, callers := range []int{8, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			r := redistest.Run(b, redistest.Options{})
			proxy := redistest.NewProxy(b, r.Addr())
			proxy.Latency(5 * time.Millisecond)
			compare(b, r, proxy.Addr(), callers)
		})
	}
}

// BenchmarkBatchRatio compares EnqueueBatch with a pipeline of EVALSHA, written by hand, of
// messages that are ready made, and with asynq in a loop.
func BenchmarkBatchRatio(b *testing.B) {
	const size = 1000
	r := redistest.Run(b, redistest.Options{})
	p := newProducer(b, queue.Config{Redis: server(r.Addr()), SpoolDir: b.TempDir()})
	plain := asynq.NewClient(server(r.Addr()))
	b.Cleanup(func() { _ = plain.Close() })
	rdb := client(b, r.Addr())
	ctx := context.Background()
	sha, err := rdb.ScriptLoad(ctx, enqueueScript).Result()
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, payloadBytes)
	info, err := plain.Enqueue(asynq.NewTask("bench", payload))
	if err != nil {
		b.Fatal(err)
	}
	message, err := rdb.HGet(ctx, "asynq:{default}:t:"+info.ID, "msg").Result()
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	ways := map[string]func() error{
		"pipeline": func() error {
			_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				for range size {
					n++
					id := fmt.Sprintf("%0*d", len(info.ID), n)
					pipe.EvalSha(ctx, sha, []string{"asynq:{default}:t:" + id, "asynq:{default}:pending"}, message, id, int64(n))
				}
				return nil
			})
			return err
		},
		"batch": func() error {
			tasks := make([]*asynq.Task, size)
			for i := range tasks {
				tasks[i] = asynq.NewTask("bench", payload)
			}
			_, err := p.EnqueueBatch(ctx, tasks)
			return err
		},
		"loop": func() error {
			for range size {
				if _, err := plain.Enqueue(asynq.NewTask("bench", payload)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	rates := map[string][]float64{}
	var ofPipeline, ofLoop []float64
	b.ResetTimer()
	for range *rounds {
		for name, way := range ways {
			if err := rdb.FlushAll(ctx).Err(); err != nil {
				b.Fatal(err)
			}
			rates[name] = append(rates[name], size*drive(b, 1, *roundFor, way).perSecond)
		}
		last := len(rates["batch"]) - 1
		ofPipeline = append(ofPipeline, rates["batch"][last]/rates["pipeline"][last])
		ofLoop = append(ofLoop, rates["batch"][last]/rates["loop"][last])
	}
	for name, r := range rates {
		b.ReportMetric(median(r), name+"/s")
	}
	reportRounds(b, ofPipeline, "x-pipeline")
	reportRounds(b, ofLoop, "x-loop")
	b.ReportMetric(float64(*rounds), "rounds")
	b.ReportMetric(0, "ns/op")
}

// enqueueScript does what asynq's script for a pending task does.
const enqueueScript = `if redis.call("EXISTS", KEYS[1]) == 1 then return 0 end
redis.call("HSET", KEYS[1], "msg", ARGV[1], "state", "pending", "pending_since", ARGV[3])
redis.call("LPUSH", KEYS[2], ARGV[2])
return 1`

// BenchmarkOutageWaits compares a Producer whose Redis is frozen with plain asynq whose Redis
// is healthy, and reports what the first call waits that meets the frozen server.
func BenchmarkOutageWaits(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			healthy, frozen := redistest.Run(b, redistest.Options{}), redistest.Run(b, redistest.Options{})
			plain := asynq.NewClient(server(healthy.Addr()))
			b.Cleanup(func() { _ = plain.Close() })
			rdb := client(b, healthy.Addr())
			payload := make([]byte, payloadBytes)
			var firsts, p50s, p99s, worst, ours, theirs, rates, tails []float64
			b.ResetTimer()
			for range *rounds {
				must(b, rdb.FlushAll(b.Context()).Err())
				their := drive(b, callers, *roundFor, func() error {
					return second(plain.Enqueue(asynq.NewTask("bench", payload)))
				})
				first, our := driveOutage(b, frozen, callers)
				ours, theirs = append(ours, our.perSecond), append(theirs, their.perSecond)
				rates = append(rates, our.perSecond/their.perSecond)
				tails = append(tails, float64(our.quantile(0.99))/float64(their.quantile(0.99)))
				firsts = append(firsts, milliseconds(first))
				p50s = append(p50s, milliseconds(our.quantile(0.5)))
				p99s = append(p99s, milliseconds(our.quantile(0.99)))
				worst = append(worst, milliseconds(our.quantile(1)))
			}
			b.ReportMetric(median(theirs), "plain/s")
			b.ReportMetric(median(ours), "outage/s")
			reportRounds(b, rates, "x-rate")
			reportRounds(b, tails, "x-p99")
			b.ReportMetric(median(firsts), "first-ms")
			b.ReportMetric(median(p50s), "p50-ms")
			b.ReportMetric(median(p99s), "p99-ms")
			b.ReportMetric(median(worst), "longest-ms")
			b.ReportMetric(float64(*rounds), "rounds")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// driveOutage freezes the server under a new Producer. It returns what the first call waited,
// and what callers got after it.
func driveOutage(b *testing.B, r *redistest.Server, callers int) (first time.Duration, got pace) {
	b.Helper()
	dir := b.TempDir()
	p := newProducer(b, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Spool: queue.SpoolConfig{MaxBytes: -1}})
	call := func() error { return second(p.Enqueue(asynq.NewTask("bench", make([]byte, payloadBytes)))) }
	must(b, errors.Join(call(), r.Freeze()))
	began := time.Now()
	must(b, call())
	first = time.Since(began)
	got = drive(b, callers, *roundFor, call)
	closeProducer(b, p)
	must(b, errors.Join(r.Thaw(), os.RemoveAll(dir))) // now: rounds add up to gigabytes
	return first, got
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// BenchmarkDedupeWindowPrice is what Redis keeps of each finished task in the window.
func BenchmarkDedupeWindowPrice(b *testing.B) {
	const jobs = 10_000
	r := redistest.Run(b, redistest.Options{})
	p := newProducer(b, queue.Config{Redis: server(r.Addr()), SpoolDir: b.TempDir(), DedupeWindow: time.Hour})
	rdb := client(b, r.Addr())
	used := func() float64 {
		info, err := rdb.InfoMap(context.Background(), "memory").Result()
		if err != nil {
			b.Fatal(err)
		}
		n, err := strconv.ParseFloat(info["Memory"]["used_memory"], 64)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	w := startWorker(b, r)
	enqueue(b, p, 100)
	w.idle(b, 100)
	before := used()
	tasks := make([]*asynq.Task, jobs)
	for i := range tasks {
		tasks[i] = asynq.NewTask("bench", make([]byte, payloadBytes))
	}
	if _, err := p.EnqueueBatch(context.Background(), tasks); err != nil {
		b.Fatal(err)
	}
	w.idle(b, jobs+100)
	b.ReportMetric((used()-before)/jobs, "redis-B/job")
	b.ReportMetric(0, "ns/op")
}
