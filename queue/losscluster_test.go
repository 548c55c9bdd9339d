package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// cutOff ends the replication from a master to a replica, which keeps what it has: it can
// log in no more. Freezing it would not do: it would find in its socket what it missed.
func cutOff(tb testing.TB, master, replica *redistest.Server) {
	tb.Helper()
	ctx := context.Background()
	must(tb, client(tb, replica.Addr()).ConfigSet(ctx, "masteruser", "nobody").Err())
	must(tb, client(tb, replica.Addr()).ConfigSet(ctx, "masterauth", "nothing").Err())
	must(tb, client(tb, master.Addr()).Do(ctx, "CLIENT", "KILL", "TYPE", "replica").Err())
}

// TestLossAtASentinelFailover promotes a replica that was cut off for two seconds.
func TestLossAtASentinelFailover(t *testing.T) {
	t.Parallel()
	s := redistest.RunSentinel(t, redistest.Options{})
	opt := asynq.RedisFailoverClientOpt{MasterName: s.MasterName(), SentinelAddrs: s.Addrs()}
	old, next := s.Master(), s.Replica()
	l := newLossTrial(t, queue.Config{Redis: opt}, client(t, next.Addr()), "default")
	l.load(time.Second)
	replicated(t, old)
	cutOff(t, old, next)
	time.Sleep(2 * time.Second)
	must(t, old.Kill())
	eventually(t, "the replica is promoted", func() bool { return s.Master() == next })
	l.wantLoss()
	l.end()
}

// TestLossOfAClusterMaster lets a replica that was cut off for two seconds take the place of
// one master. The queues on the others notice nothing.
func TestLossOfAClusterMaster(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 3, Replicas: 3})
	l := newLossTrial(t, queue.Config{Redis: clusterOf(c)}, clusterClient(t, c), c.QueueOn(1))
	other := underLoad(t, l.p, c.QueueOn(2))
	l.load(time.Second)
	old, next := c.Nodes()[1], c.Nodes()[4]
	replicated(t, old)
	cutOff(t, old, next)
	time.Sleep(2 * time.Second)
	must(t, old.Kill())
	eventually(t, "the replica is promoted", func() bool { return c.MasterOf("{"+l.queue+"}") == next })
	l.wantLoss()
	untouched := other()
	l.end()
	if n := len(pendingOf(t, l.rdb, c.QueueOn(2))); n != len(untouched) {
		t.Errorf("%d jobs on another master, want %d", n, len(untouched))
	}
	if st := l.p.Stats(); st.Losses > 1 {
		t.Errorf("%d losses", st.Losses)
	}
}
