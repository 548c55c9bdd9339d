package queue

import "context"

// aside is something to be done by a goroutine between two of its own steps.
type aside struct {
	fn   func() error
	done chan error // capacity 1
}

// asides hands such things to a goroutine, which closes ended when it takes no more.
type asides chan aside

func (as asides) run(ctx context.Context, ended <-chan struct{}, fn func() error) error {
	a := aside{fn: fn, done: make(chan error, 1)}
	select {
	case as <- a:
	case <-ctx.Done():
		return ctx.Err()
	case <-ended:
		return ErrClosed
	}
	return <-a.done
}

// aside runs fn while no record that was read is on its way to Redis. What had been read
// ahead is read again.
func (r *replayer) aside(ctx context.Context, fn func() error) error {
	return r.asides.run(ctx, r.ended, fn)
}

// stepAside waits for what is on its way, and runs one.
func (r *replayer) stepAside(a aside) {
	var n notes
	err := r.finishTrials(&n)
	if err == nil {
		r.discard()
		err = a.fn()
	}
	r.p.deliver(n)
	a.done <- err
}
