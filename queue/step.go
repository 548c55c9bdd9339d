package queue

import (
	"cmp"
	"context"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// step sends one batch of what no outage stops, and begins to settle it. It returns how long there
// is nothing more to do, zero if there may be something, and what stood in the way. through
// says that all is sent that may be.
func (r *replayer) step(n *notes) (wait time.Duration, through bool, err error) {
	if err := r.refresh(n); err != nil {
		return diskPause, false, err
	}
	if all := r.p.breakers.shared; all != nil && all.open() {
		return idle, false, nil
	}
	d := r.take()
	r.complain(&r.readErr, "queue: the spool cannot be read", d.err)
	if d.err != nil {
		r.reread.Store(true)
		return diskPause, false, d.err
	}
	r.cut(d)
	if wait := r.pace.wait(len(d.items), time.Now()); wait > 0 {
		r.ahead = d
		return wait, false, nil
	}
	if len(d.items)+len(d.dead) == 0 {
		return r.nothing(d)
	}
	wait, err = r.send(d, n)
	return wait, false, err
}

// refresh gives up what was read ahead, if it is to be read again. What is not settled will
// be.
func (r *replayer) refresh(n *notes) error {
	if !r.reread.Load() {
		return nil
	}
	if err := r.settled(n); err != nil {
		return err
	}
	r.reread.Store(false)
	r.discard()
	return nil
}

// nothing is the step where there is nothing that can be sent.
func (r *replayer) nothing(d *draft) (wait time.Duration, through bool, err error) {
	err = r.room.err()
	if d.left {
		r.reread.Store(true)
		return r.room.due(), false, err
	}
	r.forgetGone()
	if err == nil && len(r.deferred) == 0 {
		r.room.emptied()
		through = len(r.p.breakers.all()) == 0
	}
	return idle, through, err
}

// send sends a batch while the next one is read and the one before is settled.
func (r *replayer) send(d *draft, n *notes) (wait time.Duration, err error) {
	r.pace.grow()
	if !d.left {
		r.ahead = r.draft(r.next())
	}
	ctx, cancel := context.WithTimeout(r.ctx, batchTimeout)
	defer cancel()
	began, done := time.Now(), r.yield.batch()
	b := r.replay(ctx, d.items)
	done()
	if len(b.settlements) > 0 {
		r.silent = 0
	}
	r.afterSilence(b, r.afterTrouble(b, n), n)
	if d.left || len(b.left) > 0 {
		r.reread.Store(true)
	}
	if err := r.settle(append(b.settlements, d.dead...), n); err != nil {
		return diskPause, err
	}
	now := time.Now()
	return r.yield.rest(now.Sub(began), now), cmp.Or(b.err, r.room.err())
}

// next is the size of the next batch: Drain skips the ramp.
func (r *replayer) next() int {
	return min(r.pace.next(r.draining.Load() > 0), r.yield.size(time.Now()))
}

// settle begins to commit outcomes, beside what is sent next, once the commit before has
// ended. An error is that one's. It keeps the slice.
func (r *replayer) settle(settlements []settlement, n *notes) error {
	if err := r.settled(n); err != nil {
		r.unsettled = append(r.unsettled, settlements...)
		return err
	}
	if r.unsettled = settlements; len(settlements) > 0 {
		r.commit()
	}
	return nil
}

// commit begins to record what is unsettled.
func (r *replayer) commit() {
	outcomes := make([]spool.Settlement, len(r.unsettled))
	for i, s := range r.unsettled {
		outcomes[i] = s.Settlement
	}
	r.committing = make(chan error, 1)
	go func() { r.committing <- r.p.spool.Settle(outcomes...) }()
}

// settled returns when nothing is unsettled, or with the error of the commit.
func (r *replayer) settled(n *notes) error {
	if len(r.unsettled) == 0 {
		return nil
	}
	if r.committing == nil {
		r.commit()
	}
	err := <-r.committing
	r.committing = nil
	r.complain(&r.settleErr, "queue: what was sent cannot be recorded, replay waits", err)
	if err != nil {
		r.reread.Store(true)
		return err
	}
	final := 0
	for _, s := range r.unsettled {
		r.endReplay(s, nil)
		r.settles.add(s)
		r.p.noteSettled(n, s.event, s.Outcome, s.Reason)
		if s.Outcome != spool.Kept {
			final++
			delete(r.deferred, s.Position)
		}
	}
	r.progress.add(final, time.Now())
	r.unsettled = nil
	return nil
}

// atTurn is what is known at the end of a turn.
type atTurn struct {
	stepped <-chan struct{} // closed at the end of the next one
	lastErr error
	turns   int64
	through bool
}

func (r *replayer) now() atTurn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return atTurn{r.stepped, r.lastErr, r.turns, r.through}
}

// nextStep returns a channel that is closed when the next step has ended.
func (r *replayer) nextStep() <-chan struct{} { return r.now().stepped }

// finish makes the result of a step known to those who wait in drain.
func (r *replayer) finish(err error, through bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastErr, r.through = err, through
	r.turns++
	close(r.stepped)
	r.stepped = make(chan struct{})
}
