package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jobspool/jobspool/spool"
)

// drain waits until nothing is left of what is spooled now. It looks for dead owners even
// where ctx has ended already: else it could not say that nothing is left.
func (r *replayer) drain(ctx context.Context) error {
	adoptErr := r.adoptDead()
	mark, err := r.p.spool.Mark()
	if err != nil {
		return drainError(err, adoptErr)
	}
	r.draining.Add(1)
	defer r.draining.Add(-1)
	r.reread.Store(true)
	first := r.now().turns
	r.pausing.forget()
	r.poke()
	for {
		at := r.now()
		stepped, lastErr := at.stepped, at.lastErr
		left := r.p.spool.Before(mark)
		switch {
		case left == 0, r.p.cfg.Replay.Only != nil && at.through && at.turns >= first+2:
			return drainError(adoptErr, r.unsendable())
		case errors.Is(lastErr, ErrPaused) && at.turns >= first+2:
			return drainError(fmt.Errorf("%d jobs left: %w", left, ErrPaused), adoptErr)
		case at.turns < first+2: // the first may have begun before this call
			r.poke()
		}
		select {
		case <-stepped:
		case <-ctx.Done():
			return r.unfinished(left, ctx.Err(), lastErr, adoptErr)
		case <-r.ctx.Done():
			return r.unfinished(left, ErrClosed, lastErr, adoptErr)
		}
	}
}

// unfinished is the error of a drain that had to end before all was sent.
func (r *replayer) unfinished(left int, err, lastErr, adoptErr error) error {
	return drainError(fmt.Errorf("%d jobs left: %w", left, err), r.hindrances(lastErr), adoptErr, r.unsendable())
}

// hindrances are what stands in the way of the replay: outages, a Redis without room, jobs
// that fail while others do not, or what the last step ran into, for example a disk that
// fails. The last is often one of the others, and then not said twice. It returns nil if
// there was only too little time.
func (r *replayer) hindrances(lastErr error) error {
	why := reasons(r.p.outageErrors())
	if err := r.room.err(); err != nil {
		why = append(why, err)
	}
	if n := r.deferring.Load(); n > 0 {
		why = append(why, fmt.Errorf("%d jobs fail while Redis takes others, and are tried again", n))
	}
	if lastErr != nil && !strings.Contains(why.Error(), lastErr.Error()) {
		why = append(why, lastErr)
	}
	return why.orNil()
}

// unsendable counts what the spool holds and no replay sends. It returns nil if there is
// no such thing.
func (r *replayer) unsendable() error {
	st := r.p.spool.Stats()
	var why reasons
	if st.DeadLetters > 0 {
		why = append(why, fmt.Errorf("%d dead letters are left", st.DeadLetters))
	}
	if n := st.Settled[spool.Unreadable]; n > 0 {
		why = append(why, fmt.Errorf("%d jobs cannot be read, what there is of them is in quarantine", n))
	}
	if len(st.Bad) > 0 {
		why = append(why, fmt.Errorf("%d segments cannot be read, first %s", len(st.Bad), st.Bad[0]))
	}
	return why.orNil()
}

// drainError joins what of the errors there is, nil if there is none.
func drainError(errs ...error) error {
	why := reasons(slices.DeleteFunc(errs, func(err error) bool { return err == nil }))
	if len(why) == 0 {
		return nil
	}
	return fmt.Errorf("queue: drain: %w", why)
}

// reasons are errors in one line, unlike those of errors.Join.
type reasons []error

func (r reasons) Error() string {
	texts := make([]string, len(r))
	for i, err := range r {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (r reasons) Unwrap() []error { return r }

func (r reasons) orNil() error {
	if len(r) == 0 {
		return nil
	}
	return r
}
