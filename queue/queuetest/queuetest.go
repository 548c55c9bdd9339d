// Package queuetest has a fake of queue.Producer for the unit tests of code that enqueues
// jobs. It needs no Redis and no disk, and starts nothing.
//
// Code to be tested asks for a queue.Enqueuer, or for an interface of its own with any of
// Enqueue, EnqueueContext, EnqueueBatch, Ping and Close. asynq itself validates and encodes
// what the [Fake] is given, so TaskInfos and complaints are asynq's own.
//
// The package makes no compatibility promise before v1.
package queuetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/queue/internal/intake"
)

var _ queue.Enqueuer = (*Fake)(nil)

// errOutage is the cause of a simulated outage.
var errOutage = errors.New("simulated outage")

// Fake takes the place of a Producer with a default Config and keeps what it is given. It
// refuses what a Producer would: tasks that are wrong or too large, a task id that its
// queue has, a unique task whose lock is held. Nobody works on its jobs, so ids stay taken
// until [Fake.Take], and locks until then or until their time is over. That is time.Now's,
// and in a bubble of testing/synctest the bubble's.
//
// Safe for concurrent use.
type Fake struct {
	composer *compose.Composer

	mu     sync.Mutex // guards what follows
	closed bool
	outage bool
	fail   error
	jobs   []Job
	redis  names // of jobs that Redis would have
	spool  names // of those that would wait in the spool:
	waits  int   // the first of them among the jobs
}

// New returns a Fake that is closed when the test ends.
func New(tb testing.TB) *Fake {
	tb.Helper()
	c, err := compose.New()
	if err != nil {
		tb.Fatalf("queuetest: %v", err)
	}
	f := &Fake{composer: c, redis: newNames(), spool: newNames()}
	tb.Cleanup(func() { _ = f.Close() }) // it holds nothing that could fail to close
	return f
}

// SetOutage begins or ends an outage. In an outage jobs go to the spool, as [queue.ReportTo]
// and Job.Where tell; those with [queue.NoSpool] fail with an error that wraps
// [queue.ErrUnavailable], and Ping fails. As with a Producer, a task is refused then only for
// a twin that is in the spool itself. When the outage ends all are replayed at once, but
// Job.Where stays what the caller was told.
func (f *Fake) SetOutage(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outage == on {
		return
	}
	if !on {
		for _, j := range f.jobs[f.waits:] {
			_ = f.redis.claim(j, time.Now()) // else its names are another's
		}
		f.spool = newNames()
	}
	f.outage, f.waits = on, len(f.jobs)
}

// FailWith has every task refused with an error that wraps err, such as [queue.ErrFull],
// until FailWith(nil). Only what is wrong with a call itself comes first.
func (f *Fake) FailWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

// Jobs returns the accepted jobs in the order in which they were enqueued. They belong to
// the caller. It works after Close, too.
func (f *Fake) Jobs() []Job {
	f.mu.Lock()
	defer f.mu.Unlock()
	jobs := make([]Job, len(f.jobs))
	for i, j := range f.jobs {
		jobs[i] = j.clone()
	}
	return jobs
}

// Take returns what [Fake.Jobs] would and forgets it, as if workers had completed the jobs:
// their unique locks are free again, and their task ids after the Retention of each.
func (f *Fake) Take() []Job {
	f.mu.Lock()
	defer f.mu.Unlock()
	jobs, now := f.jobs, time.Now()
	f.jobs, f.waits, f.spool = nil, 0, newNames()
	for _, j := range jobs {
		f.redis.complete(j, now)
	}
	return jobs
}

// Enqueue is [Fake.EnqueueContext] with context.Background.
func (f *Fake) Enqueue(task *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	return f.EnqueueContext(context.Background(), task, opts...)
}

// EnqueueContext does what [queue.Producer.EnqueueContext] does, without Redis and disk.
func (f *Fake) EnqueueContext(ctx context.Context, task *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	own, err := f.beginLocked(ctx, opts)
	if err != nil {
		return nil, err
	}
	info, where, err := f.enqueueLocked(ctx, task, opts, own)
	if err != nil {
		return nil, err
	}
	own.Report(int(where))
	return info, nil
}

// EnqueueBatch does what [queue.Producer.EnqueueBatch] does, without Redis and disk.
func (f *Fake) EnqueueBatch(ctx context.Context, tasks []*asynq.Task, opts ...asynq.Option) ([]*asynq.TaskInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	own, err := f.beginLocked(ctx, opts)
	if err != nil {
		return nil, err
	}
	infos, errs := make([]*asynq.TaskInfo, len(tasks)), make([]error, len(tasks))
	failed, last := false, queue.Nowhere
	for i, task := range tasks {
		var where queue.Where
		infos[i], where, errs[i] = f.enqueueLocked(ctx, task, opts, own)
		failed, last = failed || errs[i] != nil, max(last, where)
	}
	own.Report(int(last))
	if failed {
		return infos, &queue.BatchError{Errs: errs}
	}
	return infos, nil
}

// Ping fails with [queue.ErrClosed] after Close, and in an outage.
func (f *Fake) Ping() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return queue.ErrClosed
	case f.outage:
		return fmt.Errorf("queue: ping: %w", errOutage)
	}
	return nil
}

// Close makes later calls of Enqueue, EnqueueBatch and Ping fail with [queue.ErrClosed]. It
// is idempotent.
func (f *Fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	return f.composer.Close()
}

// beginLocked checks a call, apart from its tasks.
func (f *Fake) beginLocked(ctx context.Context, opts []asynq.Option) (intake.Options, error) {
	own, err := intake.ReadOptions(opts) // first: it reports Nowhere
	switch {
	case f.closed:
		return own, queue.ErrClosed
	case ctx.Err() != nil:
		return own, ctx.Err()
	}
	return own, err
}

// enqueueLocked keeps one task. Its order of checks is a Producer's.
func (f *Fake) enqueueLocked(ctx context.Context, task *asynq.Task, opts []asynq.Option, own intake.Options) (*asynq.TaskInfo, queue.Where, error) {
	if err := check(task); err != nil {
		return nil, queue.Nowhere, err
	}
	info, cmd, err := f.composer.Compose(ctx, task, opts...)
	if err != nil {
		return nil, queue.Nowhere, err
	}
	if f.fail != nil {
		return nil, queue.Nowhere, fmt.Errorf("queue: enqueue %s: %w", info.ID, f.fail)
	}
	j := newJob(info, cmd, own, time.Now())
	if err := f.claimLocked(&j); err != nil {
		return nil, queue.Nowhere, err
	}
	f.jobs = append(f.jobs, j)
	return info, j.Where, nil
}

// claimLocked finds the job a place and takes its names there.
func (f *Fake) claimLocked(j *Job) error {
	now := time.Now()
	if !f.outage && j.SpoolFirst {
		j.Where = queue.InSpool
		_ = f.redis.claim(*j, now) // replayed at once; a twin there would show only then
		return nil
	}
	if !f.outage {
		j.Where = queue.InRedis
		return f.redis.claim(*j, now)
	}
	if err := f.spool.free(*j, now); err != nil {
		return err
	}
	if j.NoSpool {
		return fmt.Errorf("queue: enqueue %s: %w: %w", j.ID, queue.ErrUnavailable, errOutage)
	}
	j.Where = queue.InSpool
	return f.spool.claim(*j, now)
}

// check is what a Producer checks of a task before asynq does.
func check(task *asynq.Task) error {
	if err := intake.CheckTask(task); err != nil || task == nil {
		return err
	}
	return intake.CheckSize(queue.DefaultMaxTaskBytes, task.Type(), task.Payload(), task.Headers())
}
