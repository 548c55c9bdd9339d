package spool

import (
	"sync"
	"time"
)

// lane runs one disk operation at a time and waits for none longer than its limit. One
// that takes longer is left behind, with what it holds; until it ends, others are
// refused at once.
type lane struct {
	limit time.Duration // of each wait; negative: none
	turn  chan struct{} // holds the token of the operation that runs

	mu      sync.Mutex
	overdue bool // the one that runs has been left behind; guarded by mu
}

func newLane(limit time.Duration) *lane { return &lane{limit: limit, turn: make(chan struct{}, 1)} }

// stalled reports whether an operation has been left behind and not ended yet.
func (l *lane) stalled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.overdue
}

// result is what an operation returned. It is read only if the operation ended in
// time: run passes it on through a channel, and never shares it.
type result[T any] struct {
	value T
	err   error
}

// run runs fn on the lane. started is false if fn did not run and never will; if it is
// true and the error is ErrStalled, fn goes on.
func run[T any](l *lane, fn func() (T, error)) (value T, started bool, err error) {
	var timeout <-chan time.Time
	if l.limit >= 0 {
		timer := time.NewTimer(l.limit)
		defer timer.Stop()
		timeout = timer.C
	}
	if l.stalled() {
		return value, false, ErrStalled
	}
	select {
	case l.turn <- struct{}{}:
	case <-timeout:
		return value, false, ErrStalled
	}
	done := make(chan result[T], 1)
	ended := false // guarded by mu
	go func() {
		var r result[T]
		_, r.err = guarded(func() (err error) {
			r.value, err = fn()
			return err
		})
		l.mu.Lock()
		ended, l.overdue = true, false
		l.mu.Unlock()
		<-l.turn
		done <- r
	}()
	select {
	case r := <-done:
		return r.value, true, r.err
	case <-timeout:
	}
	l.mu.Lock()
	l.overdue = !ended
	l.mu.Unlock()
	return value, true, ErrStalled
}

// do is run for an operation without a value.
func (l *lane) do(fn func() error) (started bool, err error) {
	_, started, err = run(l, func() (struct{}, error) { return struct{}{}, fn() })
	return started, err
}
