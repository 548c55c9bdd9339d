package queue_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// registered reports whether asynq's tools see the queue default.
func registered(tb testing.TB, rdb redis.UniversalClient) bool {
	tb.Helper()
	const name = "default"
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	names, err := inspector.Queues()
	must(tb, err)
	_, err = inspector.GetQueueInfo(name)
	if there := slices.Contains(names, name); there != (err == nil) {
		tb.Fatalf("queue %s: listed %v, %v", name, there, err)
	}
	return err == nil
}

// TestQueueIsRegisteredAgain takes a queue out of asynq's set in ways that no connection
// notices.
func TestQueueIsRegisteredAgain(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(context.Context, *redis.Client) error{
		"FLUSHALL": func(ctx context.Context, rdb *redis.Client) error { return rdb.FlushAll(ctx).Err() },
		"SREM": func(ctx context.Context, rdb *redis.Client) error {
			return rdb.SRem(ctx, "asynq:queues", "default").Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{})
			rdb := client(t, r.Addr())
			p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()}).RegisterEvery(200 * time.Millisecond)
			enqueue(t, p, 1)
			if !registered(t, rdb) {
				t.Fatal("not registered at first")
			}
			must(t, lose(t.Context(), rdb))
			if registered(t, rdb) {
				t.Fatal("not lost")
			}
			eventually(t, "registered again", func() bool {
				enqueue(t, p, 1)
				return registered(t, rdb)
			})
			if st := p.Stats(); st.Outages != 0 || st.Spooled != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestAQueueIsNotRegisteredWithEachJob counts what registering costs.
func TestAQueueIsNotRegisteredWithEachJob(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: patience})
	enqueue(t, p, 1000) // over one connection
	if n := proxy.Requests("SADD"); n != 1 {
		t.Errorf("%d SADD for 1000 jobs within seconds", n)
	}
}

// TestQueueIsRegisteredAgainAfterAnOutage in which no connection was lost.
func TestQueueIsRegisteredAgainAfterAnOutage(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	rdb := client(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()}).RegisterEvery(time.Hour)
	enqueue(t, p, 1)
	must(t, rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	enqueue(t, p, 1)
	if st := p.Stats(); st.State != queue.StateOutage {
		t.Fatalf("%+v", st)
	}
	must(t, rdb.SRem(t.Context(), "asynq:queues", "default").Err())
	must(t, rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
	drain(t, p)
	enqueue(t, p, 1)
	if !registered(t, rdb) {
		t.Error("not registered")
	}
}

// TestQueueIsRegisteredAgainAfterAFailover to a replica that lacks it.
func TestQueueIsRegisteredAgainAfterAFailover(t *testing.T) {
	t.Parallel()
	s := redistest.RunSentinel(t, redistest.Options{})
	p := sentinelProducer(t, s).RegisterEvery(time.Hour)
	old, next := s.Master(), s.Replica()
	enqueue(t, p, 1)
	must(t, client(t, old.Addr()).SRem(t.Context(), "asynq:queues", "default").Err())
	replicated(t, old)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, s.Failover(ctx))
	rdb := client(t, next.Addr())
	before := len(pendingOf(t, rdb, "default"))
	eventually(t, "new jobs reach the new master", func() bool {
		enqueue(t, p, 1)
		return len(pendingOf(t, rdb, "default")) > before
	})
	if !registered(t, rdb) {
		t.Error("not registered")
	}
}

// TestAReplayRegistersAQueueAgain: Redis comes back without its data, or another one in its
// place, and nobody enqueues any more.
func TestAReplayRegistersAQueueAgain(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, r *redistest.Server, proxy *redistest.Proxy) (back func() *redistest.Server){
		"restarted": func(t *testing.T, r *redistest.Server, _ *redistest.Proxy) func() *redistest.Server {
			t.Helper()
			must(t, r.Kill())
			return func() *redistest.Server {
				must(t, r.Restart())
				return r
			}
		},
		"FLUSHALL": func(t *testing.T, r *redistest.Server, _ *redistest.Proxy) func() *redistest.Server {
			t.Helper()
			rdb := client(t, r.Addr())
			must(t, rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
			return func() *redistest.Server {
				must(t, rdb.FlushAll(t.Context()).Err())
				must(t, rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
				return r
			}
		},
		"failover to an empty server": func(t *testing.T, _ *redistest.Server, proxy *redistest.Proxy) func() *redistest.Server {
			t.Helper()
			proxy.Refuse()
			proxy.Cut()
			return func() *redistest.Server {
				other := redistest.Run(t, redistest.Options{})
				proxy.SetTarget(other.Addr())
				proxy.Accept()
				return other
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{})
			proxy := redistest.NewProxy(t, r.Addr())
			p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir()}).RegisterEvery(time.Hour)
			enqueue(t, p, 1)
			if !registered(t, client(t, r.Addr())) {
				t.Fatal("not registered at first")
			}
			back := lose(t, r, proxy)
			ids := enqueue(t, p, 100)
			if st := p.Stats(); st.State != queue.StateOutage {
				t.Fatalf("%+v", st)
			}
			r = back()
			drain(t, p)
			if !registered(t, client(t, r.Addr())) {
				t.Error("not registered")
			}
			wantOnce(t, pendingIDs(t, r.Addr()), ids)
		})
	}
}

// TestALongReplayRegistersAQueueAgain has Redis emptied in the middle, which nobody notices.
func TestALongReplayRegistersAQueueAgain(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	p := newProducer(t, queue.Config{
		Redis: server(r.Addr()), SpoolDir: t.TempDir(), Replay: queue.ReplayConfig{Rate: 1000},
	}).RegisterEvery(200 * time.Millisecond)
	must(t, second(p.EnqueueBatch(t.Context(), batchOf(100_000))))
	must(t, r.Restart())
	rdb := client(t, r.Addr())
	listed := func() bool { return rdb.SIsMember(t.Context(), "asynq:queues", "default").Val() }
	eventually(t, "registered", listed)
	must(t, rdb.FlushAll(t.Context()).Err())
	eventually(t, "registered again", listed)
	if !registered(t, rdb) {
		t.Error("not registered")
	}
	if st := p.Stats(); st.Pending == 0 || st.Outages != 1 {
		t.Errorf("%+v", st)
	}
}
