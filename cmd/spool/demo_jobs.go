package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
)

const (
	// demoCallers is how many goroutines enqueue. As in a service there are
	// several, so that one slow Enqueue does not hold up the others and, in the
	// outage, calls can share an fsync.
	demoCallers = 4

	// demoPatience is how long the run waits while the worker gets nothing done.
	demoPatience = 60 * time.Second
)

// enqueueAll enqueues the jobs at their times and meanwhile takes Redis away and
// brings it back. The first error ends it all.
func (r *demoRun) enqueueAll(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	began := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	start := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				cancel(err)
			}
		})
	}
	for range demoCallers {
		start(func() error { return r.enqueueNext(ctx, began, &next) })
	}
	start(func() error { return r.makeOutage(ctx, began) })
	wg.Wait()
	switch {
	case parent.Err() != nil:
		return demoStopped(parent)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

// enqueueNext enqueues one job after the other, each at its time, until all have
// been. A job that is late goes at once.
func (r *demoRun) enqueueNext(ctx context.Context, began time.Time, next *atomic.Int64) error {
	for {
		n := int(next.Add(1)) - 1
		if n >= r.plan.jobs {
			return nil
		}
		if err := demoSleepUntil(ctx, began.Add(r.plan.due(n))); err != nil {
			return err
		}
		if err := r.enqueue(ctx, n); err != nil {
			return err
		}
	}
}

func (r *demoRun) enqueue(ctx context.Context, n int) error {
	task := asynq.NewTask("demo", fmt.Appendf(nil, `{"number":%d}`, n))
	r.gate.RLock()
	defer r.gate.RUnlock()
	phase, began := demoPhase(r.phase.Load()), time.Now()
	info, err := r.producer.EnqueueContext(ctx, task)
	if err != nil {
		return fmt.Errorf("job %d: %w", n, err)
	}
	r.latencies.add(phase, time.Since(began))
	r.books.accept(info.ID)
	return nil
}

// makeOutage takes Redis away and brings it back, as planned.
func (r *demoRun) makeOutage(ctx context.Context, began time.Time) error {
	if err := demoSleepUntil(ctx, began.Add(r.plan.outageAt)); err != nil {
		return err
	}
	if err := r.takeRedisAway(ctx); err != nil {
		return err
	}
	slept := demoSleepUntil(ctx, time.Now().Add(r.plan.outage))
	// In any case: asynq's server takes seconds to shut down without Redis.
	if err := errors.Join(slept, r.redis.Restart()); err != nil {
		return err
	}
	r.screen.tell("Redis is back")
	err := r.await(ctx, func() bool { return r.producer.Stats().State == queue.StateUp })
	r.phase.Store(int32(demoPhaseAfter))
	return err
}

// takeRedisAway does it at a moment when nothing is in the worker's hands: a job
// whose dequeue or completion got no reply asynq gives back only when its lease
// has run out, minutes later, and then runs it, maybe a second time. That is
// between asynq and Redis, and would drown what the demo is about. The callers
// wait meanwhile, outside of what is timed, and then catch up.
func (r *demoRun) takeRedisAway(ctx context.Context) error {
	r.gate.Lock()
	defer r.gate.Unlock()
	r.screen.tell("holding jobs back until the worker has none in hand")
	if err := r.await(ctx, func() bool { return r.allProcessed(ctx) }); err != nil {
		return err
	}
	if err := r.redis.Kill(); err != nil {
		return err
	}
	r.phase.Store(int32(demoPhaseOutage))
	r.screen.tell("Redis is taken away")
	return nil
}

// settle waits until the spool is empty and the worker has run everything.
func (r *demoRun) settle(ctx context.Context) error {
	return r.await(ctx, func() bool { return r.allProcessed(ctx) })
}

// allProcessed looks at the places in the order in which a job moves. What is
// left in the queue when all was run once would be run twice.
func (r *demoRun) allProcessed(ctx context.Context) bool {
	if r.producer.Stats().Pending > 0 {
		return false
	}
	accepted, processed := r.books.counts()
	if processed < accepted {
		return false
	}
	left, err := r.queue.backlog(ctx)
	return err == nil && left == demoBacklog{}
}

// await waits until the condition holds, and gives up when the worker has got
// nothing done for demoPatience.
func (r *demoRun) await(ctx context.Context, holds func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	last, moved := 0, time.Now()
	for !holds() {
		if _, processed := r.books.counts(); processed != last {
			last, moved = processed, time.Now()
		}
		if time.Since(moved) > demoPatience {
			return r.stalled(ctx)
		}
		select {
		case <-ctx.Done():
			return demoStopped(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// stalled says where the missing jobs are.
func (r *demoRun) stalled(ctx context.Context) error {
	accepted, processed := r.books.counts()
	st := r.producer.Stats()
	left, err := r.queue.backlog(ctx)
	return errors.Join(fmt.Errorf("nothing moved for %v: %d of %d jobs processed; the Producer's state is %s, %d jobs lie in the spool, "+
		"%d wait in Redis, %d are in the worker's hands, %d wait to be retried",
		demoPatience, processed, accepted, st.State, st.Pending, left.pending, left.active, left.retry), err)
}

func demoStopped(ctx context.Context) error {
	return fmt.Errorf("stopped before the end: %w", ctx.Err())
}

func demoSleepUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return demoStopped(ctx)
	}
}
