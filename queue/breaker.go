package queue

import (
	"sync"
	"sync/atomic"
	"time"
)

// weakFailures is how many attempts in a row, cut short by their callers'
// deadlines, make an outage: one such caller may just be impatient.
const weakFailures = 3

// breaker knows whether there is an outage. It has two states: nothing but a
// write that Redis accepted closes it again, and only the replayer tries.
//
//	         failure, or weakFailures weak ones in a row
//	closed --------------------------------------------> open
//	  ^                                                    |
//	  +----------------- recovered ------------------------+
//
// Each change begins a new generation, and the late result of an attempt made in
// an old one changes nothing. Safe for concurrent use.
type breaker struct {
	generation atomic.Uint64 // odd: open

	weak atomic.Int32 // weak failures in a row

	mu    sync.Mutex // guards the fields below and every change of generation
	since time.Time
	cause string
}

// allow returns the generation of an attempt, and false while there is an outage.
func (b *breaker) allow() (generation uint64, ok bool) {
	g := b.generation.Load()
	return g, g%2 == 0
}

func (b *breaker) open() bool {
	_, closed := b.allow()
	return !closed
}

// succeeded notes an attempt that Redis answered.
func (b *breaker) succeeded(generation uint64) {
	if b.weak.Load() != 0 && b.generation.Load() == generation {
		b.weak.Store(0)
	}
}

// failed notes an attempt that met an outage, a weak one if only its caller's
// haste speaks for it. It reports whether an outage begins with it.
func (b *breaker) failed(generation uint64, weak bool, cause string, now time.Time) (began bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.generation.Load() != generation || generation%2 == 1 {
		return false
	}
	if weak && b.weak.Add(1) < weakFailures {
		return false
	}
	b.since, b.cause = now, cause
	b.generation.Add(1)
	return true
}

// recovered notes that Redis accepted a write. It reports whether that ends an
// outage, and which.
func (b *breaker) recovered() (o outage, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.generation.Load()%2 == 0 {
		return outage{}, false
	}
	o = outage{since: b.since, cause: b.cause}
	b.weak.Store(0)
	b.since, b.cause = time.Time{}, ""
	b.generation.Add(1)
	return o, true
}

// outage is a time during which Redis took no jobs.
type outage struct {
	since time.Time
	cause string
}

// current returns the outage there is, or false.
func (b *breaker) current() (outage, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return outage{since: b.since, cause: b.cause}, b.generation.Load()%2 == 1
}
