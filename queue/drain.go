package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jobspool/jobspool/spool"
)

// drain waits until nothing is left of what is spooled now.
func (r *replayer) drain(ctx context.Context) error {
	_, adoptErr := r.p.spool.Adopt()
	mark, err := r.p.spool.Mark()
	if err != nil {
		return fmt.Errorf("queue: drain: %w", errors.Join(err, adoptErr))
	}
	r.draining.Add(1)
	defer r.draining.Add(-1)
	r.poke()
	for {
		r.mu.Lock()
		stepped, lastErr := r.stepped, r.lastErr
		r.mu.Unlock()
		left := r.p.spool.Before(mark)
		if left == 0 {
			return r.leftovers(adoptErr)
		}
		select {
		case <-stepped:
		case <-ctx.Done():
			return drainError(left, cmp.Or(lastErr, r.p.outageError()), ctx.Err())
		case <-r.ctx.Done():
			return drainError(left, lastErr, ErrClosed)
		}
	}
}

func drainError(left int, cause, err error) error {
	if cause != nil {
		return fmt.Errorf("queue: drain: %d jobs left: %w: %w", left, err, cause)
	}
	return fmt.Errorf("queue: drain: %d jobs left: %w", left, err)
}

// leftovers is the error for what a drain cannot send.
func (r *replayer) leftovers(adoptErr error) error {
	st := r.p.spool.Stats()
	var errs []error
	if adoptErr != nil {
		errs = append(errs, fmt.Errorf("queue: drain: %w", adoptErr))
	}
	if st.DeadLetters > 0 {
		errs = append(errs, fmt.Errorf("queue: drain: %d dead letters are left", st.DeadLetters))
	}
	if n := st.Settled[spool.Unreadable]; n > 0 {
		errs = append(errs, fmt.Errorf("queue: drain: %d jobs cannot be read, what there is of them is in quarantine", n))
	}
	if len(st.Bad) > 0 {
		errs = append(errs, fmt.Errorf("queue: drain: %d segments cannot be read, first %s", len(st.Bad), st.Bad[0]))
	}
	return errors.Join(errs...)
}
