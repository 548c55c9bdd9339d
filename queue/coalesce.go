package queue

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// inlineCallers is how many commands may be in flight before they are coalesced.
	// Up to here the caller's own goroutine on a connection of its own is faster.
	inlineCallers = 8

	// flushers is how many pipelines may be under way at a time.
	flushers = 2

	// flushCommands and flushBytes bound one pipeline.
	flushCommands = 128
	flushBytes    = 512 << 10
)

// errNoTurn and errNoReply say how far a command came whose caller has left.
var (
	errNoTurn  = errors.New("no connection was free in time")
	errNoReply = errors.New("no reply in time")
)

// coalescer sends commands to one server: inline while few are in flight, in pipelines
// when there are many. However many callers wait for a server that does not answer,
// there are no more than inlineCallers and flushers attempts at it. Safe for concurrent
// use.
type coalescer struct {
	one   func(context.Context, command) result
	batch func(context.Context, []command) []result

	inFlight atomic.Int32

	mu      sync.Mutex // guards the fields below
	waiting []*waiter  // not yet in a pipeline, oldest first
	running int        // flushers
	idle    sync.Cond  // running is 0; on mu
}

// waiter is a call whose command another goroutine sends.
type waiter struct {
	cmd      command
	deadline time.Time // zero: none
	taken    bool      // into a pipeline; guarded by coalescer.mu
	done     chan result
}

func newCoalescer(one func(context.Context, command) result, batch func(context.Context, []command) []result) *coalescer {
	c := &coalescer{one: one, batch: batch}
	c.idle.L = &c.mu
	return c
}

// send sends a command, once, and waits for the reply until ctx ends.
func (c *coalescer) send(ctx context.Context, cmd command) result {
	defer c.inFlight.Add(-1)
	if c.inFlight.Add(1) <= inlineCallers || cmd.Size() >= largeBytes {
		return c.one(ctx, cmd)
	}
	w := c.enter(ctx, cmd)
	select {
	case r := <-w.done:
		return r
	case <-ctx.Done():
		return c.leave(ctx, w)
	}
}

func (c *coalescer) enter(ctx context.Context, cmd command) *waiter {
	w := &waiter{cmd: cmd, done: make(chan result, 1)}
	w.deadline, _ = ctx.Deadline()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, w)
	if c.running < flushers {
		c.running++
		go c.flush() //nolint:contextcheck // it serves many callers; each deadline is kept
	}
	return w
}

// leave says what is known of a command whose caller waits no longer.
func (c *coalescer) leave(ctx context.Context, w *waiter) result {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case r := <-w.done: // just in time
		return r
	default:
	}
	if w.taken {
		return result{err: lateError{errNoReply, ctx.Err()}}
	}
	w.taken = true // flush passes it by
	return result{err: unsentError{lateError{errNoTurn, ctx.Err()}}}
}

// lateError is what a caller gets whose time is up.
type lateError struct {
	error
	cause error
}

func (e lateError) Unwrap() error { return e.cause }

// flush sends what waits until nothing does.
func (c *coalescer) flush() {
	for {
		waiters, cmds, deadline := c.take()
		if len(waiters) == 0 {
			return
		}
		ctx, cancel := context.Background(), context.CancelFunc(func() {})
		if !deadline.IsZero() {
			ctx, cancel = context.WithDeadline(ctx, deadline)
		}
		results := c.batch(ctx, cmds)
		cancel()
		for i, w := range waiters {
			w.done <- results[i]
		}
	}
}

// take returns the next pipeline, and the time at which the last of its callers
// leaves. Without one the flusher has ended.
func (c *coalescer) take() (waiters []*waiter, cmds []command, deadline time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size, n := 0, 0
	endless := false
	now := time.Now()
	for _, w := range c.waiting {
		if len(cmds) == flushCommands || (size >= flushBytes) {
			break
		}
		n++
		if w.taken || (!w.deadline.IsZero() && !now.Before(w.deadline)) {
			continue // it has left, or is about to
		}
		w.taken = true
		size += w.cmd.Size()
		waiters, cmds = append(waiters, w), append(cmds, w.cmd)
		endless = endless || w.deadline.IsZero()
		if w.deadline.After(deadline) {
			deadline = w.deadline
		}
	}
	clear(c.waiting[:n])
	c.waiting = c.waiting[n:]
	if len(c.waiting) == 0 {
		c.waiting = nil
	}
	if endless {
		deadline = time.Time{}
	}
	if len(waiters) == 0 {
		if c.running--; c.running == 0 {
			c.idle.Broadcast()
		}
	}
	return waiters, cmds, deadline
}

// wait returns when no flusher runs any more.
func (c *coalescer) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.running > 0 {
		c.idle.Wait()
	}
}
