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
