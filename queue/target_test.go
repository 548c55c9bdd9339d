package queue_test

import (
	"strings"
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

// TestTargetOf tells without a Producer what one would have for its target.
func TestTargetOf(t *testing.T) {
	t.Parallel()
	for _, opt := range []asynq.RedisConnOpt{
		asynq.RedisClientOpt{Addr: "127.0.0.1", Password: "secret", DB: 3},
		asynq.RedisClientOpt{Network: "unix", Addr: "/run/redis.sock"},
		asynq.RedisFailoverClientOpt{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1"}, DB: 1},
		asynq.RedisClusterClientOpt{Addrs: []string{"127.0.0.1:2", "127.0.0.1:1"}},
	} {
		p := newProducer(t, queue.Config{Redis: opt, SpoolDir: t.TempDir()})
		if got, err := queue.TargetOf(opt); err != nil || got != p.Stats().Target {
			t.Errorf("%q, %v, want %q", got, err, p.Stats().Target)
		}
	}
	for _, opt := range []asynq.RedisConnOpt{nil, asynq.RedisClusterClientOpt{}} {
		if got, err := queue.TargetOf(opt); err == nil || got != "" {
			t.Errorf("%v: %q, %v", opt, got, err)
		}
	}
}

func TestCheckTarget(t *testing.T) {
	for target, good := range map[string]bool{"redis://h:1/0": true, "name": true, "": false, " ": false, "redis://u:secret@h:1/0": false} {
		if err := queue.CheckTarget(target); (err == nil) != good || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", target, err)
		}
	}
}
