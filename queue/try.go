package queue

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jobspool/jobspool/spool"
)

const (
	// tryEvery is the shortest time between the beginnings of two tries whether an outage
	// is over; up to tryJitter comes on top at random, so that producers do not march in
	// step. So the first job is sent within a second of Redis being back.
	tryEvery  = 500 * time.Millisecond
	tryJitter = 400 * time.Millisecond

	// tryTimeout bounds a try.
	tryTimeout = 2 * time.Second

	// maxHeads bounds the records of one try.
	maxHeads = 128
)

// pause is the time from the beginning of one try to the next.
func pause() time.Duration { return tryEvery + rand.N(tryJitter) }

// trials are the tries whether outages are over, each in a goroutine of its own: a server
// that hangs holds up no other.
type trials struct {
	next    map[*breaker]*trial // the one that runs, or is to be made, by outage
	done    chan struct{}       // capacity 1: one has ended
	running sync.WaitGroup

	mu    sync.Mutex
	ended []*trial // guarded by mu
}

func newTrials() *trials {
	return &trials{next: map[*breaker]*trial{}, done: make(chan struct{}, 1)}
}

// trial is a try whether one outage is over: with the oldest records that it stops, or
// with a probe.
type trial struct {
	b       *breaker
	at      time.Time // of its beginning
	heads   int       // how many records it may send
	running bool

	items []item
	dead  []settlement // records that nobody can send

	silent   bool // the one before got no answer, then this one
	batch    *batch
	answered bool // Redis took a write
	over     bool
	hope     bool // it is over as far as can be told without a job
}

// due returns the time until the next try.
func (ts *trials) due() time.Duration {
	wait := idle
	for _, t := range ts.next {
		if !t.running {
			wait = min(wait, time.Until(t.at))
		}
	}
	return wait
}

func (ts *trials) end(t *trial) {
	ts.mu.Lock()
	ts.ended = append(ts.ended, t)
	ts.mu.Unlock()
	poke(ts.done)
}

func (ts *trials) collect() (ended []*trial) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ended, ts.ended = ts.ended, nil
	return ended
}

// begin returns those tries whose time has come, and sets a time for outages that are new.
// An outage of all stands for those of single queues.
func (ts *trials) begin(outages *breakers, now time.Time) (due []*trial) {
	open := outages.all()
	if shared := outages.shared; shared != nil && slices.Contains(open, shared) {
		open = []*breaker{shared}
	}
	maps.DeleteFunc(ts.next, func(b *breaker, t *trial) bool { return !t.running && !slices.Contains(open, b) })
	for _, b := range open {
		t := ts.next[b]
		switch {
		case t == nil:
			ts.next[b] = &trial{b: b, at: now.Add(pause()), heads: 1}
		case !t.running && !now.Before(t.at):
			t.at, t.running = now, true
			due = append(due, t)
		}
	}
	return due
}

// again sets the time of the try that follows one. Where only a job can show that an
// outage is over, it takes more and more of them: the oldest may be the only bad one.
func (ts *trials) again(t *trial, now time.Time) {
	delete(ts.next, t.b)
	o, open := t.b.current()
	if !open {
		return
	}
	next := &trial{b: t.b, at: t.at.Add(pause()), heads: 1, silent: t.silent}
	if next.at.Before(now) {
		next.at = now
	}
	if o.ofJobs {
		next.heads = min(2*t.heads, maxHeads)
	}
	ts.next[t.b] = next
}

// tryOutages settles what tries have brought, and begins those whose time has come. An
// error is one of the disk's.
func (r *replayer) tryOutages(n *notes) (err error) {
	err = r.endTrials(n)
	for _, t := range r.trials.begin(r.p.breakers, time.Now()) {
		if err == nil {
			err = r.settled(n)
		}
		if err == nil && !r.pausing.paused() { // else there is only the probe
			err = r.load(t)
		}
		r.trials.running.Go(func() {
			r.try(t)
			r.trials.end(t)
		})
	}
	return err
}

// endTrials settles what tries have brought.
func (r *replayer) endTrials(n *notes) (err error) {
	if ended := r.trials.collect(); len(ended) > 0 {
		var settlements []settlement
		for _, t := range ended {
			settlements = append(append(settlements, t.dead...), t.batch.settlements...)
		}
		err = r.settle(settlements, n)
		for _, t := range ended {
			r.afterTrial(t, n)
		}
	}
	return err
}

// finishTrials waits for the tries that are being made. Then nothing is on its way, and nothing
// unsettled but with an error.
func (r *replayer) finishTrials(n *notes) error {
	r.trials.running.Wait()
	if err := r.endTrials(n); err != nil {
		return err
	}
	return r.settled(n)
}

// load reads the oldest records that the outage of a try stops.
func (r *replayer) load(t *trial) error {
	r.ahead.wait()
	entries, err := r.backlog.heads(t.heads+len(r.deferred), func(queue string) bool {
		return queue != spool.OtherFlow && !r.p.breakers.heads(t.b, queue)
	})
	r.complain(&r.readErr, "queue: the spool cannot be read", err)
	d := draft{at: time.Now()}
	for _, e := range entries {
		if !r.deferred.defers(e.Position, d.at) && r.wanted(e) && len(d.items) < t.heads {
			d.add(r, e)
		}
	}
	for i := range d.items {
		d.items[i].tries = r.deferred[d.items[i].entry.Position].own
	}
	t.items, t.dead = d.items, d.dead
	return err
}

// heads reports whether a record of the queue can show that an outage is over.
func (b *breakers) heads(o *breaker, queue string) bool {
	if o == b.shared {
		_, own := b.of(queue)
		return !own.open()
	}
	return queue == o.queue
}

// try makes a try. Only a write that Redis took proves anything. Where it takes a job to tell,
// and no record can be sent, there is hope: the outage ends, and the next call of Enqueue tells.
func (r *replayer) try(t *trial) {
	ctx, cancel := context.WithTimeout(r.ctx, tryTimeout)
	defer cancel()
	r.p.sender.refresh(ctx)
	o, _ := t.b.current()
	if (o.unanswered || t.silent) && !o.ofJobs {
		r.p.sender.renew(ctx, r.probeQueue(t.b))
	}
	t.silent = false
	t.batch = r.replay(ctx, t.items)
	if len(t.batch.delivered) > 0 {
		t.answered, t.over = true, true
		return
	}
	own, ofJobs := false, false
	for _, u := range t.batch.left {
		switch {
		case errors.Is(u.err, errUnclear):
		case u.own:
			own = true
		case u.class == odd, u.class == inDoubt:
			ofJobs = ofJobs || u.breaker() == t.b
		case u.breaker() == t.b:
			return // it lasts
		}
	}
	err := r.p.sender.probe(ctx, r.probeQueue(t.b))
	t.answered, t.silent = err == nil, err != nil && classify(err) == inDoubt
	t.hope = o.ofJobs && len(t.items)+len(t.dead) == 0 && time.Since(o.since) >= hopeAfter(t.b.hopes.Load())
	// What is a record's own error may be all that there was.
	t.over = t.answered && !ofJobs && (!o.ofJobs || own || t.hope)
}

// probeQueue returns the queue in whose slot to probe for the end of an outage.
func (r *replayer) probeQueue(b *breaker) string {
	if b.queue != "" {
		return b.queue
	}
	if q := r.lastQueue.Load(); q != nil {
		return *q
	}
	return probeQueue
}

// afterTrial draws the conclusions from a try.
func (r *replayer) afterTrial(t *trial, n *notes) {
	for _, u := range r.afterTrouble(t.batch, n) {
		if t.answered {
			r.postpone(u)
		} else {
			r.p.failed(u.at, false, u.err, n)
		}
	}
	if t.over {
		if t.hope {
			t.b.hopes.Add(1)
		}
		r.p.recovered(t.b, n)
		r.reread.Store(true)
		if all := r.p.breakers.shared; t.b == all || all == nil {
			r.pace.restart()
		}
	}
	r.trials.again(t, time.Now())
}
