package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/spool"
)

// twin returns asynq's error for a job whose twin waits in this Producer's spool.
func (p *Producer) twin(cmd command) error {
	return twinError(p.spool.Twin(cmd.TaskKey(), cmd.Lock()))
}

// twinError turns what the spool says of a twin into what asynq would return.
func twinError(err error) error {
	switch {
	case errors.Is(err, spool.ErrLockHeld):
		return fmt.Errorf("%w", asynq.ErrDuplicateTask)
	case errors.Is(err, spool.ErrKeyHeld):
		return fmt.Errorf("%w", asynq.ErrTaskIDConflict)
	}
	return err
}

// shelve writes a job to the spool that Redis did not acknowledge: after an attempt, or
// without one because of an open breaker, of older jobs or of SpoolFirst.
func (p *Producer) shelve(ctx context.Context, c *call, own ownOptions, stopped *breaker, redisErr error, n *notes) (Where, error) {
	j, err := p.job(ctx, c, own, redisErr)
	if err == nil && own.NoSpool {
		err = unavailable(j, because(own, redisErr, stopped))
	}
	if err != nil {
		return Nowhere, err
	}
	op := p.beginSpool(ctx, c.op, &j)
	err = p.spool.Append(j.record())
	p.end(op, err)
	if err != nil {
		if twins := (*spool.TwinsError)(nil); errors.As(err, &twins) {
			return Nowhere, twinError(twins.Errs[0])
		}
		p.counters.notStored(1, err)
		return Nowhere, bothFailed(j, because(own, redisErr, stopped), err)
	}
	p.shelved(j, stopped, n)
	return j.where(), nil
}

// job is what a record keeps of a call after an attempt with this error, nil without
// one. It returns an error if Redis will never take the job.
func (p *Producer) job(ctx context.Context, c *call, own ownOptions, redisErr error) (job, error) {
	why := notWritten
	if redisErr != nil {
		why = classify(redisErr)
	}
	if why == refused {
		return job{}, fmt.Errorf("queue: enqueue %s: %w: %w", c.info.ID, ErrTooLarge, redisErr)
	}
	j := newJob(c.info, c.cmd, c.at)
	j.OwnID = !p.mints(ctx, c)
	j.InDoubt, j.HalfDone = why == inDoubt || why == odd, why == odd
	if own.MaxAge > 0 {
		j.Expires = c.at.Add(own.MaxAge)
	}
	return j, nil
}

func (j job) where() Where {
	if j.InDoubt {
		return InDoubt
	}
	return InSpool
}

// shelved counts a job that is in the spool now.
func (p *Producer) shelved(j job, stopped *breaker, n *notes) {
	p.counters.spooled.Add(1)
	if j.InDoubt {
		p.counters.inDoubt.Add(1)
	}
	if stopped != nil {
		stopped.spooled.Add(1)
	}
	queue := j.Queue // not a pointer into the job, which would keep its payload
	p.replayer.lastQueue.Store(&queue)
	if !p.breakers.stops(queue) {
		p.replayer.poke()
	}
	p.noteSpooled(n, j)
}

// errBehind is why a job goes to the spool although there is no outage.
var errBehind = errors.New("older jobs of its queue wait in the spool")

// errSpoolFirst is why a job goes to the spool that was meant to.
var errSpoolFirst = errors.New("no attempt at Redis because of SpoolFirst")

// because is the error of the attempt, or why there was none.
func because(own ownOptions, redisErr error, stopped *breaker) error {
	switch {
	case redisErr != nil:
		return redisErr
	case own.SpoolFirst:
		return errSpoolFirst
	case stopped == nil:
		return errBehind
	}
	o, open := stopped.current()
	if !open {
		return errors.New("the outage has just ended")
	}
	return o.error()
}

// unavailable is the error for a job that must not be spooled.
func unavailable(j job, cause error) error {
	err := fmt.Errorf("%w: %w", ErrUnavailable, cause)
	if j.InDoubt {
		err = fmt.Errorf("%w: %w", ErrMaybeEnqueued, err)
	}
	return fmt.Errorf("queue: enqueue %s: %w", j.ID, err)
}

// bothFailed says what is known of a job that neither Redis nor the spool took.
func bothFailed(j job, redisErr, spoolErr error) error {
	err := spoolErr
	switch {
	case errors.Is(spoolErr, spool.ErrMaybeStored):
		err = fmt.Errorf("%w: %w", ErrMaybeStored, spoolErr)
	case errors.Is(spoolErr, spool.ErrFull):
		err = fmt.Errorf("%w: %w", ErrFull, spoolErr)
	case errors.Is(spoolErr, spool.ErrTooLarge):
		err = fmt.Errorf("%w: %w", ErrTooLarge, spoolErr)
	}
	if redisErr != nil {
		err = fmt.Errorf("%w; %w", redisErr, err)
	}
	if j.InDoubt {
		err = fmt.Errorf("%w: %w", ErrMaybeEnqueued, err)
	}
	return fmt.Errorf("queue: enqueue %s: %w", j.ID, err)
}
