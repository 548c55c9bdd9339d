package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue/internal/intake"
)

// Enqueuer is what *asynq.Client and *Producer have in common: what code that enqueues
// should ask for.
type Enqueuer interface {
	Enqueue(task *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error)
	EnqueueContext(ctx context.Context, task *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error)
}

var (
	_ Enqueuer = (*asynq.Client)(nil)
	_ Enqueuer = (*Producer)(nil)
)

// Enqueue is [Producer.EnqueueContext] with context.Background.
func (p *Producer) Enqueue(task *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	return p.EnqueueContext(context.Background(), task, opts...)
}

// EnqueueContext returns nil only when Redis has acknowledged the job or the
// spool has fsynced it. If ctx is done on entry its error is returned and nothing
// is written; if ctx ends in the middle of the attempt at Redis, the job goes to
// the spool, in doubt, and the error is nil.
//
// The attempt takes at most Config.EnqueueTimeout, and of the time that ctx has
// left at most all but 100 ms, or half of it if that is more. In a known outage
// there is no attempt. The write to the spool comes on top and is not cut short
// by ctx. A ctx that is cancelled, rather than at its deadline, may be noticed only when
// the budget of the attempt ends.
//
// The task and its options mean what they mean to asynq; times relative to now
// count from this call. asynq's complaints about them are returned as asynq returns
// them, and so are [asynq.ErrDuplicateTask] and [asynq.ErrTaskIDConflict]: they hold
// against what Redis has and against what waits in this Producer's spool, not against
// what other processes have spooled. A reply that was lost never makes them hold against
// the job itself. Options of our own: [ReportTo], [NoSpool], [SpoolFirst], [MaxSpoolAge].
// TaskInfo.State says pending also while the job only lies on disk.
//
// Other errors: [ErrClosed], [ErrDrainOnly], [ErrTooLarge] for a task that is larger than
// Config.MaxTaskBytes or than Redis takes. When Redis and the disk both fail the error
// wraps both causes, [ErrMaybeEnqueued] if Redis may have the job, [ErrMaybeStored] if the
// disk may, [ErrFull] if that has no room.
func (p *Producer) EnqueueContext(ctx context.Context, task *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	var c call
	where, err := p.enqueue(ctx, &c, task, opts)
	p.endEnqueue(ctx, &c, task, where, err)
	p.deliver(c.notes)
	if err != nil {
		return nil, err
	}
	return c.info, nil
}

func (p *Producer) enqueue(ctx context.Context, c *call, task *asynq.Task, opts []asynq.Option) (Where, error) {
	own, err := intake.ReadOptions(opts) // first: it reports Nowhere
	if aerr := p.admit(ctx); aerr != nil {
		return Nowhere, aerr
	}
	defer p.leave()
	if err != nil {
		return Nowhere, err
	}
	if err := p.compose(ctx, c, task, opts); err != nil {
		return Nowhere, err
	}
	p.beginEnqueue(ctx, c)
	where, err := p.place(ctx, c, own, &c.notes)
	if err != nil {
		return Nowhere, err
	}
	own.Report(int(where))
	return where, nil
}

// admit is enter for a call that brings jobs.
func (p *Producer) admit(ctx context.Context) error {
	err := p.enter()
	if err != nil {
		return err
	}
	if err = ctx.Err(); p.cfg.DrainOnly {
		err = ErrDrainOnly
	}
	if err != nil {
		p.leave()
	}
	return err
}

// call is one task on its way.
type call struct {
	info *asynq.TaskInfo
	cmd  command
	at   time.Time

	task   *asynq.Task // nil: composed elsewhere, and its id counts as the caller's own
	opts   []asynq.Option
	minted bool // asynq has surely invented the id

	op    *observed
	notes notes // of a call on its own
}

// compose makes a call of a task, with Config.DedupeWindow as the least retention of a
// task whose id asynq mints.
func (p *Producer) compose(ctx context.Context, c *call, task *asynq.Task, opts []asynq.Option) error {
	if task != nil {
		if err := intake.CheckTask(task); err != nil {
			return err
		}
		if err := p.fits(task.Type(), task.Payload(), task.Headers()); err != nil {
			return err
		}
	}
	var err error
	at := time.Now()
	if c.info, c.cmd, err = p.composer.Compose(ctx, task, opts...); err != nil {
		return err
	}
	c.task, c.opts, c.at = task, opts, at
	if c.info.Retention < p.cfg.DedupeWindow {
		longer := append(opts[:len(opts):len(opts)], asynq.Retention(p.cfg.DedupeWindow))
		info, cmd, err := p.composer.Compose(ctx, task, longer...)
		if err != nil {
			return err
		}
		if c.minted = info.ID != c.info.ID; c.minted {
			c.info, c.cmd, c.opts = info, cmd, longer
		}
	}
	return nil
}

// fits returns ErrTooLarge for a task that is too large.
func (p *Producer) fits(typename string, payload []byte, headers map[string]string) error {
	return intake.CheckSize(p.cfg.MaxTaskBytes, typename, payload, headers)
}

// mints reports whether asynq invented the id of a call.
func (p *Producer) mints(ctx context.Context, c *call) bool {
	if !c.minted && c.task != nil {
		c.minted = p.composer.Mints(ctx, c.info.ID, c.task, c.opts...)
	}
	return c.minted
}

// place sends a job to Redis or writes it to the spool, and says where it is.
func (p *Producer) place(ctx context.Context, c *call, own ownOptions, n *notes) (Where, error) {
	where, err := p.put(ctx, c, own, n)
	if err == nil {
		p.counters.accepted.Add(1)
	}
	return where, err
}

func (p *Producer) put(ctx context.Context, c *call, own ownOptions, n *notes) (Where, error) {
	if err := p.twin(c.cmd); err != nil {
		return Nowhere, err
	}
	at, stopped := p.breakers.enter(c.cmd.Queue)
	if stopped != nil || own.SpoolFirst || p.gate.behind(ctx, c.cmd.Queue) {
		return p.shelve(ctx, c, own, stopped, nil, n)
	}
	flight := p.flights.begin()
	r := p.attempt(ctx, at, c.cmd, n)
	if r.err == nil {
		defer p.flights.end(flight)
		return p.answered(ctx, c, r.verdict)
	}
	p.flights.end(flight)
	return p.shelve(ctx, c, own, at.of(r.err), r.err, n)
}

// attempt sends the job to Redis within the budget and tells the breaker.
func (p *Producer) attempt(ctx context.Context, at pass, cmd command, n *notes) result {
	ctx, shortened, cancel := p.budget.of(ctx)
	defer cancel()
	began, batches := time.Now(), p.live.begin()
	r := p.sender.live(ctx, cmd)
	took := time.Since(began)
	p.attempts.Add(took)
	if r.err == nil {
		at.succeeded()
		p.live.add(took, batches)
	} else {
		p.failed(at, hasty(ctx, r.err, shortened), r.err, n)
	}
	return r
}

// hasty reports whether an attempt failed only because its caller would wait no longer.
func hasty(ctx context.Context, err error, shortened bool) bool {
	return errors.Is(ctx.Err(), context.Canceled) || (shortened && timedOut(err))
}

// answered turns a verdict on a live attempt into what asynq would return.
func (p *Producer) answered(ctx context.Context, c *call, v verdict) (Where, error) {
	switch {
	case v == enqueued, v == conflict && p.mints(ctx, c): // nobody else can have minted it
		p.counters.sent.Add(1)
		if p.journal != nil {
			p.journal.add(newJob(c.info, c.cmd, c.at))
		}
		return InRedis, nil
	case v == conflict:
		return Nowhere, fmt.Errorf("%w", asynq.ErrTaskIDConflict)
	case v == duplicate:
		return Nowhere, fmt.Errorf("%w", asynq.ErrDuplicateTask)
	}
	return Nowhere, fmt.Errorf("%w: a script returned %d", ErrIncompatible, v)
}
