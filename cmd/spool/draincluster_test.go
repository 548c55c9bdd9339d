package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestDrainOfAClusterThatIsAway: there every outage is one of queues, also where all is away.
func TestDrainOfAClusterThatIsAway(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 3})
	dir := t.TempDir()
	p, err := queue.New(queue.Config{
		Redis: asynq.RedisClusterClientOpt{Addrs: c.Addrs()}, SpoolDir: dir, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	queues := []string{c.QueueOn(0), c.QueueOn(1)}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range queues {
		if _, err := p.Enqueue(asynq.NewTask("t", nil, asynq.Queue(name))); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	uri := "redis-cluster://" + strings.Join(c.Addrs(), ",")
	code, stdout, stderr := spoolCommand(ctx, "drain", "--dir", dir, "--redis", uri)
	if code != exitLeft || ctx.Err() != nil || strings.Count(stdout, "has an outage since") < 2 {
		t.Errorf("%d, %v\n%s%s", code, ctx.Err(), stdout, stderr)
	}
}
