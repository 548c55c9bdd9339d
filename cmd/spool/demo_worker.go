package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// startDemoWorker starts a plain asynq server that notes each run in the books.
// The caller ends it by Shutdown.
func startDemoWorker(addr string, books *demoBooks) (*asynq.Server, error) {
	srv := asynq.NewServer(asynq.RedisClientOpt{Addr: addr}, asynq.Config{
		LogLevel: asynq.FatalLevel,
		// With the default of 1 s an idle worker is asleep most of the demo.
		TaskCheckInterval: 100 * time.Millisecond,
	})
	err := srv.Start(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		books.run(id)
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("the worker does not start: %w", err)
	}
	return srv, nil
}

// demoQueue looks into the queue that the worker serves.
type demoQueue struct{ client *redis.Client }

// demoBacklog is what the worker has not finished.
type demoBacklog struct{ pending, active, retry int64 }

// backlog counts in the order in which a job moves, so that none is missed.
func (q demoQueue) backlog(ctx context.Context) (demoBacklog, error) {
	pipe := q.client.Pipeline()
	pending := pipe.LLen(ctx, "asynq:{default}:pending")
	active := pipe.LLen(ctx, "asynq:{default}:active")
	retry := pipe.ZCard(ctx, "asynq:{default}:retry")
	if _, err := pipe.Exec(ctx); err != nil {
		return demoBacklog{}, fmt.Errorf("looking into the queue: %w", err)
	}
	return demoBacklog{pending: pending.Val(), active: active.Val(), retry: retry.Val()}, nil
}
