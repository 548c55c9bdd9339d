package queue

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// firstMark is what a queue's marker has before anything of the queue is acknowledged.
const firstMark = 1

// firstMarks sets the first marker of each queue before the first job of the queue is sent:
// so if Redis loses a job, be it the first, it loses a marker as well. Safe for concurrent
// use. A nil one sets none.
type firstMarks struct {
	owner string
	keep  time.Duration
	set   sync.Map // queue -> when that was
}

// ensure sets those markers of some queues that were not set yet. Where that fails, the next
// command of the queue tries again: what is wrong will show with the job.
func (f *firstMarks) ensure(ctx context.Context, s *sender, queues ...string) {
	if f == nil {
		return
	}
	byServer := map[redis.UniversalClient][]string{}
	for _, q := range queues {
		if _, set := f.when(q); set {
			continue
		}
		if server, err := s.server(ctx, q); err == nil {
			byServer[server] = append(byServer[server], q)
		}
	}
	for server, some := range byServer {
		pipe := server.Pipeline()
		replies := make([]*redis.BoolCmd, len(some))
		for i, q := range some {
			replies[i] = pipe.SetNX(ctx, markID{f.owner, q}.key(), strconv.Itoa(firstMark), f.keep)
		}
		now := time.Now() // earlier than Redis counts from
		_, _ = pipe.Exec(ctx)
		for i, q := range some {
			if replies[i].Err() == nil {
				f.set.Store(q, now)
			}
		}
	}
}

// when returns when a queue's first marker was set, if it was.
func (f *firstMarks) when(queue string) (at time.Time, set bool) {
	if f == nil {
		return at, false
	}
	v, set := f.set.Load(queue)
	if set {
		at = v.(time.Time) //nolint:forcetypeassert // ensure stores nothing else
	}
	return at, set
}

// stays returns up to when a queue's first marker stays in Redis, if it was set.
func (f *firstMarks) stays(queue string) (until time.Time, set bool) {
	at, set := f.when(queue)
	if !set {
		return at, false
	}
	m := mark{keep: f.keep, set: at}
	return m.staying(), true
}
