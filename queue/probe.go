package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/internal/compose"
)

// Probe proves that Redis takes writes, as [Producer.Ping] does, without a
// Producer. It returns the name of the target, also with an error of Redis's.
func Probe(ctx context.Context, opt asynq.RedisConnOpt) (target string, err error) {
	s := newSender()
	client, target, err := connect(opt, s.lifetime())
	if err != nil {
		s.stop()
		return "", redisError(err)
	}
	s.use(client)
	err = s.probe(ctx, probeQueue)
	if err != nil {
		err = fmt.Errorf("queue: probe: %w", err)
	}
	return target, errors.Join(err, s.close())
}

// probeQueue is the queue in whose slot a probe writes that is meant for none.
const probeQueue = "default"

// probeTTL is how long the key of a probe stays in Redis.
const probeTTL = time.Minute

// probe proves that Redis takes writes, by a key in the slot of the queue. PING
// proves nothing: a read-only or full Redis answers it.
func (s *sender) probe(ctx context.Context, queue string) error {
	server, err := s.server(ctx, queue)
	if err != nil {
		return scrub(err)
	}
	var set *redis.StatusCmd
	var asked *confirmation
	_, err = server.Pipelined(ctx, func(p redis.Pipeliner) error {
		set = setProbe(ctx, p, queue)
		asked = s.confirm.ask(ctx, p, queue)
		return nil
	})
	if set.Err() == nil && set.Val() == "" { // go-redis keeps a reply to the handshake to itself
		return scrub(err)
	}
	return cmp.Or(scrub(set.Err()), s.confirm.check(asked))
}

// setProbe writes the key of a probe.
func setProbe(ctx context.Context, p redis.Pipeliner, queue string) *redis.StatusCmd {
	return p.Set(ctx, compose.QueuePrefix(queue)+"spool:probe", 1, probeTTL)
}
