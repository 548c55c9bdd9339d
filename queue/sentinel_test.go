package queue_test

import (
	"context"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

func sentinelProducer(tb testing.TB, s *redistest.Sentinel) *queue.Producer {
	tb.Helper()
	return newProducer(tb, queue.Config{
		Redis:    asynq.RedisFailoverClientOpt{MasterName: s.MasterName(), SentinelAddrs: s.Addrs()},
		SpoolDir: tb.TempDir(),
	})
}

// becomesReplica waits until a server that was the master follows another.
func becomesReplica(tb testing.TB, r *redistest.Server) {
	tb.Helper()
	c := client(tb, r.Addr())
	eventually(tb, "the old master is a replica", func() bool {
		role, err := c.Do(context.Background(), "ROLE").Slice()
		return err == nil && role[0] == "slave"
	})
}

// TestSentinelFailover promotes the replica under load. Redis itself may lose what the old
// master acknowledged and had not replicated; every job that it did not acknowledge
// arrives, and none is there twice.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	s := redistest.RunSentinel(t, redistest.Options{})
	p := sentinelProducer(t, s)
	safe, all := newTally(), newTally() // safe: must be on the new master

	stop := safe.load(t, p, "quiet", 16)
	eventually(t, "load", func() bool { return safe.count("quiet", queue.InRedis) > 100 })
	stop()
	old, next := s.Master(), s.Replica()
	replicated(t, old)

	stop = all.load(t, p, "default", 16)
	eventually(t, "load", func() bool { return all.count("default", queue.InRedis) > 100 })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, s.Failover(ctx))
	if s.Master() != next {
		t.Fatal("no failover")
	}
	rdb := client(t, next.Addr())
	eventually(t, "new jobs reach the new master", func() bool {
		return all.enqueue(t, p, "after", nil) == queue.InRedis && len(pendingOf(t, rdb, "after")) > 0
	})
	for range 50 { // and none goes to the old one any more, which still takes them
		safe.enqueue(t, p, "new", nil)
	}
	becomesReplica(t, old)
	before := all.count("default", queue.InRedis)
	eventually(t, "load goes on", func() bool { return all.count("default", queue.InRedis) > before+100 })
	stop()
	drain(t, p)

	safe.wantOnce(t, rdb)
	accepted, there := map[string]bool{}, map[string]bool{}
	for _, id := range all.ids["default"] {
		accepted[id] = true
	}
	for _, id := range pendingOf(t, rdb, "default") {
		if there[id] || !accepted[id] {
			t.Errorf("%s is there twice (%v), or nobody enqueued it", id, there[id])
		}
		there[id] = true
	}
	lost := len(accepted) - len(there)
	st := p.Stats()
	t.Logf("%v, %d lost by Redis, %+v", all.where["default"], lost, st)
	if st.State != queue.StateUp || st.Pending != 0 || st.Dead != 0 {
		t.Errorf("%+v", st)
	}
	for _, id := range all.later["default"] {
		if !there[id] {
			t.Errorf("%s, which was spooled, is lost", id)
		}
	}
}

// TestSentinelMasterDies: the sentinels see it and promote the replica; nobody restarts
// anything.
func TestSentinelMasterDies(t *testing.T) {
	t.Parallel()
	s := redistest.RunSentinel(t, redistest.Options{})
	p := sentinelProducer(t, s)
	old, next, all := s.Master(), s.Replica(), newTally()
	for range 50 {
		all.enqueue(t, p, "default", nil)
	}
	replicated(t, old) // what it has acknowledged is not lost with it
	must(t, old.Kill())
	stop := all.load(t, p, "default", 16)
	eventually(t, "outage", func() bool { return p.Stats().State == queue.StateOutage })
	eventually(t, "the sentinels promote the replica", func() bool { return s.Master() == next })
	eventually(t, "the outage ends", func() bool { return p.Stats().State == queue.StateUp })
	before := all.count("default", queue.InRedis)
	eventually(t, "live again", func() bool { return all.count("default", queue.InRedis) > before+100 })
	stop()
	drain(t, p)
	all.wantOnce(t, client(t, next.Addr()))
	st := p.Stats()
	if n := all.count("default", queue.InSpool) + all.count("default", queue.InDoubt); int64(n) != st.Replayed+st.AlreadyThere || n == 0 {
		t.Errorf("%d were spooled: %+v", n, st)
	}
}

// TestSentinelMasterFreezes and comes back when another is the master: what it was sent
// runs on it late, and is thrown away when it follows the new one.
func TestSentinelMasterFreezes(t *testing.T) {
	t.Parallel()
	s := redistest.RunSentinel(t, redistest.Options{})
	p := sentinelProducer(t, s)
	old, next, all := s.Master(), s.Replica(), newTally()
	for range 50 {
		all.enqueue(t, p, "default", nil)
	}
	replicated(t, old)
	must(t, old.Freeze())
	stop := all.load(t, p, "default", 16)
	eventually(t, "outage", func() bool { return p.Stats().State == queue.StateOutage })
	eventually(t, "the sentinels promote the replica", func() bool { return s.Master() == next })
	eventually(t, "the outage ends", func() bool { return p.Stats().State == queue.StateUp })
	must(t, old.Thaw())
	before := all.count("default", queue.InRedis)
	eventually(t, "live again", func() bool { return all.count("default", queue.InRedis) > before+100 })
	becomesReplica(t, old)
	stop()
	drain(t, p)
	all.wantOnce(t, client(t, next.Addr()))
}

// TestSentinelsDie: while the master is well nobody needs them, and they are found again.
func TestSentinelsDie(t *testing.T) {
	t.Parallel()
	s := redistest.RunSentinel(t, redistest.Options{AppendOnly: true})
	p := sentinelProducer(t, s)
	all := newTally()
	all.enqueue(t, p, "default", nil)
	s.KillSentinels()
	for range 50 {
		if where := all.enqueue(t, p, "default", nil); where != queue.InRedis {
			t.Fatal(where)
		}
	}
	master := s.Master()
	must(t, master.Kill())
	for range 50 {
		if where := all.enqueue(t, p, "default", nil); where == queue.InRedis {
			t.Fatal(where)
		}
	}
	must(t, master.Restart())
	for _, sentinel := range s.Processes() {
		must(t, sentinel.Restart())
	}
	drain(t, p)
	all.wantOnce(t, client(t, s.Master().Addr()))
}
