package queue_test

import (
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestAMoveToAnotherRedis takes the jobs along that were spooled for one that does not
// come back.
func TestAMoveToAnotherRedis(t *testing.T) {
	t.Parallel()
	gone, standby := redistest.Run(t, redistest.Options{}), redistest.Run(t, redistest.Options{})
	must(t, gone.Kill())
	dir := t.TempDir()
	p := newProducer(t, queue.Config{Redis: server(gone.Addr()), SpoolDir: dir})
	ids := enqueue(t, p, 50)
	closeProducer(t, p)
	old := p.Stats().Target

	cfg := queue.Config{Redis: server(standby.Addr()), SpoolDir: dir}
	p = newProducer(t, cfg)
	drain(t, p)
	if st := p.Stats(); st.Foreign != 1 || st.Adopted != 0 {
		t.Errorf("before it is told: %+v", st)
	}
	closeProducer(t, p)
	cfg.AcceptTargets = []string{"another", old}
	p = newProducer(t, cfg)
	drain(t, p)
	if st := p.Stats(); st.Foreign != 0 || st.Adopted != 50 || st.Target == old {
		t.Errorf("%+v", st)
	}
	wantOnce(t, pendingIDs(t, standby.Addr()), ids)
}

// TestClusterSeedsComeAndGo: a Producer with other seeds replays what one with the old
// seeds left.
func TestClusterSeedsComeAndGo(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 3})
	for _, node := range c.Nodes() {
		must(t, node.Kill())
	}
	dir, seeds := t.TempDir(), c.Addrs()
	config := func(addrs ...string) queue.Config {
		return queue.Config{Redis: asynq.RedisClusterClientOpt{Addrs: addrs}, SpoolDir: dir}
	}
	p := newProducer(t, config(seeds[0], seeds[1]))
	ids := enqueue(t, p, 50)
	closeProducer(t, p)
	for _, node := range c.Nodes() {
		must(t, node.Restart())
	}
	p = newProducer(t, config(seeds[1], seeds[2]))
	drain(t, p)
	if st := p.Stats(); st.Foreign != 0 || st.Adopted != 50 || st.Replayed != 50 {
		t.Errorf("%+v", st)
	}
	wantOnce(t, pendingOf(t, clusterClient(t, c), "default"), ids)
}
