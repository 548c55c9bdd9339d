package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// DefaultConfirmTimeout is how long replicas have to confirm a write.
const DefaultConfirmTimeout = 100 * time.Millisecond

// ConfirmConfig asks that replicas have a job before it counts as acknowledged.
type ConfirmConfig struct {
	// Replicas is how many have to confirm each job, by Redis's WAIT. A job that is not
	// confirmed is in doubt: it goes to the spool, and stays there until it is. An outage
	// begins, which ends when a probe is confirmed. Zero or negative: off.
	//
	// Each pipeline ends with one WAIT for all that is in it. It costs each call the way
	// from Redis to its replicas and back, and in an attempt without enough of them Timeout.
	// It does not help where all of them restart empty. The user needs +wait.
	Replicas int

	// Timeout is how long the replicas have. It must be shorter than EnqueueTimeout. Zero
	// means DefaultConfirmTimeout. Negative is an error.
	Timeout time.Duration
}

// normalize puts defaults in place and returns every complaint.
func (c *ConfirmConfig) normalize(budget time.Duration) (errs []error) {
	if c.Replicas <= 0 {
		*c = ConfirmConfig{}
		return nil
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultConfirmTimeout
	}
	if c.Timeout < time.Millisecond || budget > 0 && c.Timeout >= budget || c.Timeout >= socketTimeout {
		errs = append(errs, fmt.Errorf("queue: Config.Confirm.Timeout is %v; it must be at least 1ms and less than EnqueueTimeout and %v", c.Timeout, socketTimeout))
	}
	return errs
}

// unconfirmedError says that too few replicas have a write that Redis took.
type unconfirmedError struct{ text string }

func (e unconfirmedError) Error() string { return e.text }

// confirmation is what a pipeline brings that asks for it.
type confirmation struct {
	set  *redis.StatusCmd
	wait *redis.Cmd
}

// ask adds a WAIT to a pipeline, for all that was written before it. It returns nil if
// nothing is to be confirmed.
//
// WAIT may count only what its own connection has written. So there is a write before it, in
// the slot of the queue: the job that a script finds there may have come over another one.
func (c ConfirmConfig) ask(ctx context.Context, p redis.Pipeliner, queue string) *confirmation {
	if c.Replicas <= 0 {
		return nil
	}
	return &confirmation{setProbe(ctx, p, queue), p.Do(ctx, "wait", c.Replicas, c.Timeout.Milliseconds())}
}

// check returns an error unless the WAIT says that enough replicas confirmed.
func (c ConfirmConfig) check(asked *confirmation) error {
	if asked == nil {
		return nil
	}
	n, err := asked.wait.Int()
	switch {
	case err != nil && !errors.Is(err, redis.Nil):
		return cannotAsk(err)
	case n < c.Replicas:
		return unconfirmedError{fmt.Sprintf("queue: %d of %d replicas confirmed within %v", n, c.Replicas, c.Timeout)}
	}
	return nil
}

func cannotAsk(err error) error {
	return unconfirmedError{"queue: replicas cannot be asked to confirm: " + scrub(err).Error()}
}

// demand takes back what Redis answered, if too few replicas confirmed. That it refuses a job
// stays, with a note.
func (c ConfirmConfig) demand(results []result, asked *confirmation) {
	if asked == nil {
		return
	}
	err := c.check(asked)
	ofOthers := err // what another connection has written
	if set := asked.set.Err(); err == nil && set != nil {
		ofOthers = cannotAsk(set)
	}
	for i, r := range results {
		why := err
		if r.verdict != enqueued {
			why = ofOthers
		}
		switch {
		case r.err != nil || why == nil:
		case r.verdict.refuses():
			results[i].unconfirmed = why
		default:
			results[i] = result{err: why}
		}
	}
}
