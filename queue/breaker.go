package queue

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// weakFailures is how many attempts in a row, cut short by their callers'
// deadlines, make an outage: one such caller may just be impatient.
const weakFailures = 3

// breaker knows whether there is an outage of Redis, or of one queue in it. It has two
// states: nothing but a write that Redis accepted closes it again, and only the replayer
// tries.
//
//	         failure, or weakFailures weak ones in a row
//	closed --------------------------------------------> open
//	  ^                                                    |
//	  +----------------- recovered ------------------------+
//
// Each change begins a new generation, and the late result of an attempt made in
// an old one changes nothing. Safe for concurrent use.
type breaker struct {
	queue string // whose jobs it stops; empty: all

	generation atomic.Uint64 // odd: open
	weak       atomic.Int32  // weak failures in a row
	hopes      atomic.Int32  // outages in a row that ended in hope: no job was taken since
	spooled    atomic.Int64  // jobs that went to the spool since the outage began

	mu   sync.Mutex    // guards the fields below and every change of generation
	o    outage        // while open
	past time.Duration // of the outages that are over
}

// outage is a time during which Redis took no jobs, or none of one queue.
type outage struct {
	since time.Time
	cause string

	unanswered bool // it began with an attempt that got no answer

	// ofJobs: Redis takes other writes to the queue, so that only a job of the queue
	// can show that it is over.
	ofJobs bool
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
	b.taken()
	if b.weak.Load() != 0 && b.generation.Load() == generation {
		b.weak.Store(0)
	}
}

// failed notes an attempt that met an outage, a weak one if only its caller's
// haste speaks for it. It reports whether the outage begins with it.
func (b *breaker) failed(generation uint64, weak bool, o outage) (began bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.generation.Load() != generation || generation%2 == 1 {
		return false
	}
	if weak && b.weak.Add(1) < weakFailures {
		return false
	}
	b.o = o
	b.spooled.Store(0)
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
	b.past = b.lastedLocked()
	o, b.o = b.o, outage{}
	b.weak.Store(0)
	b.generation.Add(1)
	return o, true
}

// taken notes that Redis took a job.
func (b *breaker) taken() {
	if b.hopes.Load() != 0 {
		b.hopes.Store(0)
	}
}

// hopeAfter is how long an outage lasts at least that ends in hope, by how many did before:
// that many callers' jobs have met the fault.
func hopeAfter(hopes int32) time.Duration {
	if hopes == 0 {
		return 0
	}
	return min(time.Second<<min(hopes-1, 10), time.Minute)
}

// current returns the outage there is, or false.
func (b *breaker) current() (outage, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.o, b.generation.Load()%2 == 1
}

// lasted returns how long all outages have lasted together, one that goes on included.
func (b *breaker) lasted() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lastedLocked()
}

func (b *breaker) lastedLocked() time.Duration {
	if b.o.since.IsZero() {
		return b.past
	}
	return b.past + max(time.Since(b.o.since), 0)
}

// breakers are all of a Producer's. What fails together has one: the server, or on
// Cluster each queue. And each queue has one for trouble of its own, for example keys
// that the user may not write; on Cluster it is the same. Safe for concurrent use.
type breakers struct {
	shared *breaker     // nil on Cluster
	queues sync.Map     // queue -> *breaker
	open   atomic.Int32 // how many are open
}

func newBreakers(cluster bool) *breakers {
	b := &breakers{}
	if !cluster {
		b.shared = &breaker{}
	}
	return b
}

// of returns the two breakers of a queue.
func (b *breakers) of(queue string) (group, own *breaker) {
	v, ok := b.queues.Load(queue)
	if !ok {
		v, _ = b.queues.LoadOrStore(strings.Clone(queue), &breaker{queue: queue})
	}
	own = v.(*breaker)
	if b.shared == nil {
		return own, own
	}
	return b.shared, own
}

// pass is the leave to make one attempt. It knows which outage its failure would begin.
type pass struct {
	group, own       *breaker
	groupGen, ownGen uint64
}

// succeeded notes that Redis answered.
func (p pass) succeeded() {
	p.group.succeeded(p.groupGen)
	p.own.succeeded(p.ownGen)
}

// enter returns a pass for a job of the queue, and the open breaker that stops it, if
// there is one.
func (b *breakers) enter(queue string) (p pass, stopped *breaker) {
	p.group, p.own = b.of(queue)
	var groupOK, ownOK bool
	p.groupGen, groupOK = p.group.allow()
	p.ownGen, ownOK = p.own.allow()
	switch {
	case !groupOK:
		return p, p.group
	case !ownOK:
		return p, p.own
	}
	return p, nil
}

// lasted returns how long outages have lasted so far: those of all jobs, and the sum of those
// of each queue.
func (b *breakers) lasted() (all, queues time.Duration) {
	if b.shared != nil {
		all = b.shared.lasted()
	}
	b.queues.Range(func(_, v any) bool {
		queues += v.(*breaker).lasted()
		return true
	})
	return all, queues
}

// stops reports whether jobs of the queue go to the spool.
func (b *breakers) stops(queue string) bool {
	if b.open.Load() == 0 {
		return false
	}
	_, stopped := b.enter(queue)
	return stopped != nil
}

// all returns the breakers that are open.
func (b *breakers) all() []*breaker {
	if b.open.Load() == 0 {
		return nil
	}
	var open []*breaker
	if b.shared != nil && b.shared.open() {
		open = append(open, b.shared)
	}
	b.queues.Range(func(_, v any) bool {
		if q := v.(*breaker); q.open() {
			open = append(open, q)
		}
		return true
	})
	return open
}
