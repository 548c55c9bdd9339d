package queue

import (
	"context"
	"errors"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// SchedulerClient returns a client for asynq.NewSchedulerFromRedisClient and for the
// RedisUniversalClient of asynq.PeriodicTaskManagerOpts: what asynq enqueues through it
// goes the way of [Producer.Enqueue], so a tick that falls into an outage is kept. All
// other commands go to Redis and fail when it does, such as the scheduler's own entries
// and history, which asynq then logs.
//
// Every tick is a job of its own, and after an outage all that were spooled are replayed.
// With asynq.Unique on the entry, ticks within its time are one job, also those of a second
// scheduler. Ticks that fall into a time without the process are not caught up.
//
// Config.DedupeWindow does not reach ticks: what asynq sends does not tell whether it has
// minted the id, and an entry with an asynq.TaskID must not keep its id for longer than it asks
// for, else its next ticks are refused. asynq.Retention on the entry does the same.
//
// Do not use it for a Server, which would spin while Redis is down. Its Close does
// nothing; asynq logs an error about that when a Scheduler shuts down. End schedulers
// before the Producer.
func (p *Producer) SchedulerClient() redis.UniversalClient {
	return schedulerClient{UniversalClient: p.sender.client, p: p}
}

// schedulerClient takes the commands of asynq's enqueue path out of those of a client.
type schedulerClient struct {
	redis.UniversalClient
	p *Producer
}

// SAdd leaves the registration of a queue to the sender.
func (c schedulerClient) SAdd(ctx context.Context, key string, members ...any) *redis.IntCmd {
	if key != queuesKey {
		return c.UniversalClient.SAdd(ctx, key, members...)
	}
	cmd := redis.NewIntCmd(ctx)
	cmd.SetVal(1)
	return cmd
}

// EvalSha enqueues if asynq means to, and answers in Redis's place.
func (c schedulerClient) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if !c.p.composer.Knows(sha) {
		return c.UniversalClient.EvalSha(ctx, sha, keys, args...)
	}
	cmd := redis.NewCmd(ctx)
	v, err := c.p.enqueueCommand(ctx, sha, keys, args)
	if err != nil {
		cmd.SetErr(err)
		return cmd
	}
	cmd.SetVal(int64(v))
	return cmd
}

// Close does nothing: the client belongs to the Producer.
func (schedulerClient) Close() error { return nil }

// enqueueCommand enqueues what asynq has composed, and returns what Redis's script would.
func (p *Producer) enqueueCommand(ctx context.Context, sha string, keys []string, args []any) (verdict, error) {
	var c call
	where, err := p.placeCommand(ctx, &c, sha, keys, args)
	p.endEnqueue(ctx, &c, nil, where, err)
	p.deliver(c.notes)
	switch {
	case err == nil:
		return enqueued, nil
	case errors.Is(err, asynq.ErrTaskIDConflict):
		return conflict, nil
	case errors.Is(err, asynq.ErrDuplicateTask):
		return duplicate, nil
	}
	return 0, err
}

func (p *Producer) placeCommand(ctx context.Context, c *call, sha string, keys []string, args []any) (Where, error) {
	if err := p.admit(ctx); err != nil {
		return Nowhere, err
	}
	defer p.leave()
	info, cmd, err := p.composer.Read(sha, keys, args)
	if err == nil {
		err = p.fits(info.Type, info.Payload, info.Headers)
	}
	if err != nil {
		return Nowhere, err
	}
	c.info, c.cmd, c.at = info, cmd, time.Now()
	p.beginEnqueue(ctx, c)
	return p.place(ctx, c, ownOptions{}, &c.notes)
}
