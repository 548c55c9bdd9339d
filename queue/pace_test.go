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

// TestRamp counts the jobs of each pipeline after an outage. The first one is the try whether
// it is over.
func TestRamp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg     queue.ReplayConfig
		cluster bool
		drain   bool
		want    []int
	}{
		"by itself":       {want: []int{1, 16, 128, 500, 500}},
		"on a cluster":    {cluster: true, want: []int{1, 16, 128, 500, 500}},
		"drain":           {drain: true, want: []int{1, 500, 500}},
		"drain at a rate": {drain: true, cfg: queue.ReplayConfig{Rate: 2000}, want: []int{1, 200, 200}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt, rdb, proxy := proxied(t, c.cluster)
			// Then Redis knows the script.
			must(t, second(asynq.NewClientFromRedisClient(rdb).Enqueue(asynq.NewTask("t", nil))))
			p := newProducer(t, queue.Config{Redis: opt, SpoolDir: t.TempDir(), Replay: c.cfg})
			must(t, p.Ping())
			sizes := p.Answered()
			for outage := 1; outage <= 2; outage++ {
				before := len(sizes())
				proxy.Refuse()
				proxy.Cut()
				must(t, second(p.EnqueueBatch(t.Context(), batchOf(2000))))
				if st := p.Stats(); st.State == queue.StateUp {
					t.Fatalf("%+v", st)
				}
				var draining sync.WaitGroup
				if c.drain {
					draining.Go(func() { drain(t, p) })
					eventually(t, "Drain runs", p.Draining)
				}
				proxy.Accept()
				eventually(t, "all jobs are replayed", func() bool { return p.Stats().Replayed == int64(outage*2000) })
				draining.Wait()
				if got := sizes()[before:]; len(got) < len(c.want) || !slices.Equal(got[:len(c.want)], c.want) {
					t.Errorf("batches of %v, want %v", got, c.want)
				}
			}
		})
	}
}

// proxied returns a Redis behind a proxy.
func proxied(t *testing.T, cluster bool) (asynq.RedisConnOpt, redis.UniversalClient, *redistest.Proxy) {
	t.Helper()
	if cluster {
		c := redistest.RunCluster(t, redistest.ClusterOptions{Proxied: true})
		return clusterOf(c), clusterClient(t, c), c.Proxies()[0]
	}
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	return server(proxy.Addr()), client(t, r.Addr()), proxy
}

// TestRate counts jobs while they are replayed, by Drain too.
func TestRate(t *testing.T) {
	t.Parallel()
	const perSecond, burst = 400, 40
	for _, draining := range []bool{false, true} {
		r := redistest.Run(t, redistest.Options{})
		dir := t.TempDir()
		ids := spooled(t, dir, batchOf(3*perSecond))
		began := time.Now()
		p := newProducer(t, queue.Config{
			Redis: server(r.Addr()), Target: "t", SpoolDir: dir, Replay: queue.ReplayConfig{Rate: perSecond},
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			if draining {
				drain(t, p)
			}
		}()
		rdb := client(t, r.Addr())
		eventually(t, "all jobs are replayed", func() bool {
			n, err := rdb.LLen(context.Background(), "asynq:{default}:pending").Result()
			must(t, err)
			if most := burst + perSecond*time.Since(began).Seconds(); float64(n) > most {
				t.Fatalf("%d jobs after %v, draining %v", n, time.Since(began), draining)
			}
			return n == int64(len(ids))
		})
		<-done
	}
}

// TestLiveJobsHaveNoRate: the rate is that of the replay.
func TestLiveJobsHaveNoRate(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	spooled(t, dir, batchOf(100))
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), Target: "t", SpoolDir: dir, Replay: queue.ReplayConfig{Rate: 1}})
	for range 200 {
		var where queue.Where
		if _, err := p.Enqueue(asynq.NewTask("t", nil), queue.ReportTo(&where)); err != nil || where != queue.InRedis {
			t.Fatal(where, err)
		}
	}
	if st := p.Stats(); st.Pending == 0 {
		t.Errorf("%+v", st)
	}
}

// TestSmallerBatchesBesideCalls: the ramp ends earlier while others enqueue.
func TestSmallerBatchesBesideCalls(t *testing.T) {
	t.Parallel()
	_, _, proxy := proxied(t, false)
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir()})
	enqueue(t, p, 1)
	proxy.Refuse()
	proxy.Cut()
	must(t, second(p.EnqueueBatch(t.Context(), batchOf(3000))))
	sizes := p.Answered()
	all := newTally()
	stop := all.load(t, p, "default", 2)
	proxy.Accept()
	eventually(t, "all jobs are replayed", func() bool { return p.Stats().Replayed >= 3000 })
	stop()
	if got := sizes(); len(got) < 4 || got[2] < 32 || got[3] > 128 {
		t.Errorf("batches of %v", got)
	}
}
