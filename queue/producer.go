package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/spool"
)

// Producer enqueues asynq tasks into Redis, and into a spool on local disk while
// Redis cannot be reached. It replays the spool when Redis is back. It takes the
// place of an *asynq.Client; workers stay on plain asynq.
//
// All methods are safe for concurrent use.
type Producer struct {
	cfg      Config
	composer *composer
	sender   *sender
	spool    *spool.Spool
	breaker  breaker
	counters counters
	replayer *replayer
	inspect  *asynq.Inspector

	running sync.RWMutex // held shared by every running call
	closed  bool         // guarded by running
}

// New returns a Producer and starts its replayer, which ends with Close. Redis
// may be down. New fails for a bad Config, for a SpoolDir that cannot be created,
// locked or written, and with [ErrIncompatible]; never for anything that an
// earlier process left in SpoolDir, which it adopts.
func New(cfg Config) (*Producer, error) {
	cfg, err := cfg.normalized()
	if err != nil {
		return nil, err
	}
	p := &Producer{sender: newSender()}
	client, target, err := connect(cfg.Redis, p.sender.forget)
	if err != nil {
		return nil, redisError(err)
	}
	if cfg.Target == "" {
		cfg.Target = target
	}
	p.sender.use(client)
	p.cfg, p.inspect = cfg, asynq.NewInspectorFromRedisClient(client)
	if p.composer, err = newComposer(); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	p.spool, err = spool.Open(spool.Options{
		Dir: cfg.SpoolDir, Target: cfg.Target, AdoptOnly: cfg.DrainOnly, Logger: cfg.Logger,
		MaxBytes: cfg.Spool.MaxBytes, MinFreeBytes: cfg.Spool.MinFreeBytes, Timeout: cfg.Spool.Timeout,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("queue: %w", err), p.composer.close(), client.Close())
	}
	p.replayer = newReplayer(p)
	go p.replayer.run()
	return p, nil
}

// Enqueue is [Producer.EnqueueContext] with context.Background.
func (p *Producer) Enqueue(task *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	return p.EnqueueContext(context.Background(), task, opts...)
}

// EnqueueContext returns nil only when Redis has acknowledged the job or the
// spool has fsynced it. If ctx is done on entry its error is returned and nothing
// is written; if ctx ends in the middle of the attempt at Redis, the job goes to
// the spool and the error is nil.
//
// The attempt takes at most Config.EnqueueTimeout, and of the time that ctx has
// left at most all but 100 ms, or half of it if that is more. In a known outage
// there is no attempt. The write to the spool comes on top and is not cut short
// by ctx.
//
// The task and its options mean what they mean to asynq; times relative to now
// count from this call. asynq's complaints about them, [asynq.ErrDuplicateTask]
// and [asynq.ErrTaskIDConflict] are returned as asynq returns them, the last two
// as far as Redis can be asked. TaskInfo.State says pending also while the job
// only lies on disk.
//
// Other errors: [ErrClosed], [ErrDrainOnly]. When Redis and the disk both fail
// the error wraps both causes, [ErrMaybeEnqueued] if Redis may have the job,
// [ErrMaybeStored] if the disk may, [ErrFull] if that has no room. When Redis refuses this one job for good, its
// reply is returned and nothing is spooled.
func (p *Producer) EnqueueContext(ctx context.Context, task *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	p.running.RLock()
	defer p.running.RUnlock()
	if p.closed {
		return nil, ErrClosed
	}
	if p.cfg.DrainOnly {
		return nil, ErrDrainOnly
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	info, cmd, err := p.composer.compose(ctx, task, opts...)
	if err != nil {
		return nil, err
	}
	at := time.Now()
	var attempted result
	why := notWritten // without an attempt
	if generation, ok := p.breaker.allow(); ok {
		attempted = p.attempt(ctx, generation, cmd)
		if attempted.err == nil {
			return p.answered(ctx, info, attempted.verdict, task, opts)
		}
		if why = classify(attempted.err); why == refused {
			return nil, fmt.Errorf("queue: enqueue %s: %w", info.ID, attempted.err)
		}
	}
	j := newJob(info, cmd, at)
	j.OwnID = !p.composer.mints(ctx, info.ID, task, opts...)
	j.InDoubt, j.HalfDone = why != notWritten, why == odd
	if err := p.spoolJob(j); err != nil {
		return nil, bothFailed(j, cmp.Or(attempted.err, p.outageError()), err)
	}
	return info, nil
}

// attempt sends the job to Redis within the budget and tells the breaker.
func (p *Producer) attempt(ctx context.Context, generation uint64, cmd command) result {
	left := time.Duration(-1)
	if deadline, ok := ctx.Deadline(); ok {
		left = max(time.Until(deadline), 0)
	}
	limit, shortened := budget(p.cfg.EnqueueTimeout, left)
	if limit >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	r := p.sender.live(ctx, cmd)
	switch {
	case r.err == nil:
		p.breaker.succeeded(generation)
	case classify(r.err).outage():
		hasty := errors.Is(ctx.Err(), context.Canceled) || (shortened && timedOut(r.err))
		p.failed(generation, hasty, r.err)
	}
	return r
}

// answered turns a verdict on a live attempt into what asynq would return.
func (p *Producer) answered(ctx context.Context, info *asynq.TaskInfo, v verdict, task *asynq.Task, opts []asynq.Option) (*asynq.TaskInfo, error) {
	switch {
	case v == enqueued, v == conflict && p.composer.mints(ctx, info.ID, task, opts...):
		// A minted id that exists is our own: a Cluster client sends twice when a
		// reply is lost (H65).
		p.counters.sent.Add(1)
		return info, nil
	case v == conflict:
		return nil, fmt.Errorf("%w", asynq.ErrTaskIDConflict)
	case v == duplicate:
		return nil, fmt.Errorf("%w", asynq.ErrDuplicateTask)
	}
	return nil, fmt.Errorf("%w: a script returned %d", ErrIncompatible, v)
}

func (p *Producer) spoolJob(j job) error {
	if err := p.spool.Append(j.record()); err != nil {
		return err
	}
	p.counters.spooled.Add(1)
	if j.InDoubt {
		p.counters.inDoubt.Add(1)
	}
	queue := j.Queue // not a pointer into the job, which would keep its payload
	p.replayer.lastQueue.Store(&queue)
	p.replayer.poke()
	return nil
}

// outageError names the outage for which Redis was not tried, if it still lasts.
func (p *Producer) outageError() error {
	if o, open := p.breaker.current(); open {
		return fmt.Errorf("outage since %v: %s", o.since.Format(time.RFC3339), o.cause)
	}
	return nil
}

// bothFailed says what is known of a job that neither Redis nor the spool took.
func bothFailed(j job, redisErr, spoolErr error) error {
	err := spoolErr
	switch {
	case errors.Is(spoolErr, spool.ErrMaybeStored):
		err = fmt.Errorf("%w: %w", ErrMaybeStored, spoolErr)
	case errors.Is(spoolErr, spool.ErrFull):
		err = fmt.Errorf("%w: %w", ErrFull, spoolErr)
	}
	if redisErr != nil {
		err = fmt.Errorf("%w; %w", redisErr, err)
	}
	if j.InDoubt {
		err = fmt.Errorf("%w: %w", ErrMaybeEnqueued, err)
	}
	return fmt.Errorf("queue: enqueue %s: %w", j.ID, err)
}

// failed tells the breaker of an attempt that met an outage, and the log if one
// begins.
func (p *Producer) failed(generation uint64, weak bool, err error) {
	if !p.breaker.failed(generation, weak, err.Error(), time.Now()) {
		return
	}
	p.counters.outages.Add(1)
	p.counters.spooledBefore.Store(p.counters.spooled.Load())
	p.cfg.Logger.Warn("queue: outage begins, jobs go to the spool", "err", err, "target", p.cfg.Target)
	p.replayer.poke()
}

// recovered tells the breaker that Redis took a write, and the log if that ends
// an outage.
func (p *Producer) recovered() {
	if o, ended := p.breaker.recovered(); ended {
		p.cfg.Logger.Info("queue: outage ends, jobs go to Redis", "err", o.cause, "target", p.cfg.Target,
			"lasted", time.Since(o.since).Round(time.Millisecond),
			"spooled", p.counters.spooled.Load()-p.counters.spooledBefore.Load())
	}
}

// Drain replays now what was spooled before the call, without stopping the
// Producer, and returns nil when none of it is left. First it adopts what dead
// processes left in SpoolDir. It waits out an outage, until ctx ends. Its error
// says what is left and why; dead letters and files that cannot be read count as
// left.
func (p *Producer) Drain(ctx context.Context) error {
	p.running.RLock()
	defer p.running.RUnlock()
	if p.closed {
		return ErrClosed
	}
	return p.replayer.drain(ctx)
}

// Shutdown drains while ctx has time left, then closes. The error is Drain's and
// Close's: what Drain could not send stays in the spool for the next start.
func (p *Producer) Shutdown(ctx context.Context) error {
	err := p.Drain(ctx)
	if errors.Is(err, ErrClosed) {
		return err
	}
	return errors.Join(err, p.Close())
}

// Ping proves that Redis takes writes: it sets asynq:{default}:spool:probe, which
// expires after a minute. It takes at most Config.EnqueueTimeout.
func (p *Producer) Ping() error {
	p.running.RLock()
	defer p.running.RUnlock()
	if p.closed {
		return ErrClosed
	}
	limit := p.cfg.EnqueueTimeout
	if limit < 0 {
		limit = socketTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := p.sender.probe(ctx, probeQueue); err != nil {
		return fmt.Errorf("queue: ping: %w", err)
	}
	return nil
}

// closeGrace is how long Close lets the replayer finish the batch in flight. After
// that its connection is closed; what got no reply stays in the spool.
const closeGrace = 500 * time.Millisecond

// Close ends the replayer, waits for running calls and gives up the lock on the
// spool. What is spooled stays on disk for the next start. Later calls of any
// method return ErrClosed; Close is idempotent.
func (p *Producer) Close() error {
	p.replayer.stop() // ends a running Drain, too
	p.running.Lock()
	defer p.running.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var err error
	select {
	case <-p.replayer.ended:
		err = p.sender.client.Close()
	case <-time.After(closeGrace):
		err = p.sender.client.Close()
		<-p.replayer.ended
	}
	p.sender.wait()
	return errors.Join(err, p.spool.Close(), p.composer.close())
}

// counters count since New.
type counters struct {
	sent, spooled, inDoubt atomic.Int64
	outages                atomic.Int64
	spooledBefore          atomic.Int64 // spooled when the outage began
}
