package queue

import "context"

// aside is something to be done to the spool while no record that was read from it is on
// its way to Redis.
type aside struct {
	fn   func() error
	done chan error // capacity 1
}

// aside runs fn between two steps of the replay. What had been read ahead is read again.
func (r *replayer) aside(ctx context.Context, fn func() error) error {
	a := aside{fn: fn, done: make(chan error, 1)}
	select {
	case r.asides <- a:
	case <-ctx.Done():
		return ctx.Err()
	case <-r.ended:
		return ErrClosed
	}
	return <-a.done
}

// stepAside waits for what is on its way, and runs one.
func (r *replayer) stepAside(a aside) {
	var n notes
	r.trials.running.Wait()
	err := r.endTrials(&n)
	if err == nil {
		err = r.settled(&n)
	}
	if err == nil {
		r.discard()
		err = a.fn()
	}
	r.p.deliver(n)
	a.done <- err
}
