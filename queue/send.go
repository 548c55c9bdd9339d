package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// queuesKey is the set in which asynq keeps the names of all queues.
const queuesKey = "asynq:queues"

// verdict is Redis's answer to an enqueue script.
type verdict int64

// The answers of asynq's six scripts.
const (
	enqueued  verdict = 1
	conflict  verdict = 0  // the task id exists
	duplicate verdict = -1 // the unique lock is held
)

// result is what became of one command that was sent.
type result struct {
	verdict verdict
	err     error // nil: Redis answered with the verdict
}

// sender sends composed commands, each once: what got no reply is the caller's
// concern. It registers queues as asynq would. Safe for concurrent use.
type sender struct {
	client redis.UniversalClient
	known  sync.Map // queues registered since the last forget
}

// forget makes the next command of each queue register it again. It is called on
// every new connection: Redis may have come back without its data (H15).
func (s *sender) forget() { s.known.Clear() }

func (s *sender) knows(queue string) bool {
	_, ok := s.known.Load(queue)
	return ok
}

// one sends a single command in the caller's goroutine.
func (s *sender) one(ctx context.Context, cmd command) result {
	if !s.knows(cmd.queue) {
		return s.batch(ctx, []command{cmd})[0]
	}
	r := s.client.EvalSha(ctx, cmd.script.sha, cmd.keys, cmd.args...)
	if redis.HasErrorPrefix(r.Err(), "NOSCRIPT") {
		r = s.client.Eval(ctx, cmd.script.source, cmd.keys, cmd.args...)
	}
	if r.Err() == nil && !s.knows(cmd.queue) { // it went over a new connection
		s.register(ctx, cmd.queue)
	}
	return read(r)
}

// register enters a queue in asynq's set of queues. The set serves asynq's tools
// only, so a failure is no failure of the job; the next job tries again.
func (s *sender) register(ctx context.Context, queue string) {
	if s.client.SAdd(ctx, queuesKey, queue).Err() == nil {
		s.known.Store(queue, true)
	}
}

// batch sends commands in one pipeline, and in a second one those whose script
// Redis did not know. The results are in the order of the commands.
func (s *sender) batch(ctx context.Context, cmds []command) []result {
	replies := make([]*redis.Cmd, len(cmds))
	queues := map[string]*redis.IntCmd{}
	_, _ = s.client.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
		for i, c := range cmds {
			if !s.knows(c.queue) && queues[c.queue] == nil {
				queues[c.queue] = p.SAdd(ctx, queuesKey, c.queue)
			}
			replies[i] = p.EvalSha(ctx, c.script.sha, c.keys, c.args...)
		}
		return nil
	})
	for q, r := range queues {
		if r.Err() == nil {
			s.known.Store(q, true)
		}
	}
	var again []int
	for i, r := range replies {
		if redis.HasErrorPrefix(r.Err(), "NOSCRIPT") {
			again = append(again, i)
		}
	}
	if len(again) > 0 {
		_, _ = s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, i := range again {
				replies[i] = p.Eval(ctx, cmds[i].script.source, cmds[i].keys, cmds[i].args...)
			}
			return nil
		})
	}
	results := make([]result, len(cmds))
	for i, r := range replies {
		results[i] = read(r)
	}
	return results
}

// read takes the verdict off a reply. A pipeline that breaks stamps its error on
// every command, also on those that were answered: a value is proof (H70).
func read(r *redis.Cmd) result {
	if n, ok := r.Val().(int64); ok {
		return result{verdict: verdict(n)}
	}
	if err := r.Err(); err != nil {
		return result{err: scrub(err)}
	}
	return result{err: fmt.Errorf("%w: a script returned a %T", ErrIncompatible, r.Val())}
}

// lockHolder returns the id of the task that holds a unique lock, empty for none.
func (s *sender) lockHolder(ctx context.Context, lock string) (string, error) {
	id, err := s.client.Get(ctx, lock).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return id, scrub(err)
}

// Probe proves that Redis takes writes, as [Producer.Ping] does, without a
// Producer. It returns the name of the target, also with an error of Redis's.
func Probe(ctx context.Context, opt asynq.RedisConnOpt) (target string, err error) {
	client, target, err := connect(opt, func() {})
	if err != nil {
		return "", redisError(err)
	}
	err = (&sender{client: client}).probe(ctx, probeQueue)
	if err != nil {
		err = fmt.Errorf("queue: probe: %w", err)
	}
	return target, errors.Join(err, client.Close())
}

// probeQueue is the queue in whose slot a probe writes that is meant for none.
const probeQueue = "default"

// probeTTL is how long the key of a probe stays in Redis.
const probeTTL = time.Minute

// probe proves that Redis takes writes, by a key in the slot of the queue. PING
// proves nothing: a read-only or full Redis answers it (H46).
func (s *sender) probe(ctx context.Context, queue string) error {
	return scrub(s.client.Set(ctx, "asynq:{"+queue+"}:spool:probe", 1, probeTTL).Err())
}
