package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// plan is what happens, in this order.
type plan struct {
	rate                           int // jobs per second, for each of the two
	healthy, frozen, killed, after time.Duration
}

func (p plan) length() time.Duration { return p.healthy + p.frozen + p.killed + p.after }

// drainFor is how long what is spooled may take to reach Redis after all.
const drainFor = time.Minute

// run offers the jobs and returns what became of them: plain asynq first.
func (p plan) run(ctx context.Context) (_ []*record, err error) {
	// What is acknowledged survives the kill: only then is a loss the producer's.
	server, err := redistest.Start(redistest.Options{AppendOnly: true}) //nolint:contextcheck // it lives until it is closed
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	dir, err := os.MkdirTemp("", "outage")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	redis := asynq.RedisClientOpt{Addr: server.Addr()}
	plain := asynq.NewClient(redis)
	defer func() { err = errors.Join(err, plain.Close()) }()
	producer, err := queue.New(queue.Config{Redis: redis, SpoolDir: dir}) //nolint:contextcheck // it lives until it is closed
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, producer.Close()) }() //nolint:contextcheck // Close has no context

	runs := []*record{{name: "plain asynq", queue: "plain"}, {name: "Producer", queue: "producer"}}
	fault := make(chan error, 1)
	go func() { fault <- p.disturb(ctx, server) }()
	p.offer(ctx, runs, []queue.Enqueuer{plain, producer})
	if err := <-fault; err != nil {
		return nil, err
	}
	drain, cancel := context.WithTimeout(ctx, drainFor)
	defer cancel()
	if err := producer.Drain(drain); err != nil {
		return nil, err
	}
	for _, r := range runs {
		if err := r.lookFor(redis); err != nil {
			return nil, err
		}
	}
	return runs, nil
}

// disturb freezes the server, kills it, and starts it again, each in its time.
func (p plan) disturb(ctx context.Context, s *redistest.Server) error {
	for _, step := range []struct {
		after time.Duration
		do    func() error
	}{{p.healthy, s.Freeze}, {p.frozen, s.Kill}, {p.killed, s.Restart}} {
		select {
		case <-time.After(step.after):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := step.do(); err != nil {
			return err
		}
	}
	return nil
}

// offer calls Enqueue at the plan's rate, whether or not earlier calls have returned, as
// requests to a service come whether or not earlier ones were answered. It waits for all.
func (p plan) offer(ctx context.Context, runs []*record, targets []queue.Enqueuer) {
	var calls sync.WaitGroup
	defer calls.Wait()
	tick := time.NewTicker(time.Second / time.Duration(p.rate))
	defer tick.Stop()
	began := time.Now()
	for n := 0; time.Since(began) < p.length() && ctx.Err() == nil; n++ {
		for i, r := range runs {
			calls.Go(func() {
				at := time.Now()
				_, err := targets[i].Enqueue(asynq.NewTask("job", fmt.Append(nil, n)), asynq.Queue(r.queue))
				r.add(call{at: at.Sub(began), took: time.Since(at), failed: err != nil})
			})
		}
		<-tick.C
	}
}
