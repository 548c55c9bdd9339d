package queue_test

import (
	"strings"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestFromSentinelClient follows a failover through a client of the caller's, which does
// not tell its master's name.
func TestFromSentinelClient(t *testing.T) {
	t.Parallel()
	s := redistest.RunSentinel(t, redistest.Options{})
	c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: s.MasterName(), SentinelAddrs: s.Addrs(), DB: 3})
	t.Cleanup(func() { _ = c.Close() })
	cfg := queue.Config{Redis: queue.FromClient(c), SpoolDir: t.TempDir()}
	if _, err := queue.New(cfg); err == nil || !strings.Contains(err.Error(), "Config.Target") {
		t.Fatalf("without a target: %v", err)
	}
	cfg.Target = "the queue"
	p := newProducer(t, cfg)
	enqueue(t, p, 10)
	if st := p.Stats(); st.Sent != 10 || st.Target != "the queue" {
		t.Errorf("%+v", st)
	}
	if err := s.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new master takes jobs", func() bool {
		enqueue(t, p, 1)
		rdb := redis.NewClient(&redis.Options{Addr: s.Master().Addr(), DB: 3})
		defer func() { _ = rdb.Close() }()
		n, err := rdb.LLen(t.Context(), "asynq:{default}:pending").Result()
		return err == nil && n > 10 && p.Stats().State == queue.StateUp
	})
	if err := c.Close(); err != nil { // before its time: no new connection can be made
		t.Fatal(err)
	}
	if _, err := p.Enqueue(asynq.NewTask("t", nil)); err != nil {
		t.Error(err)
	}
}
