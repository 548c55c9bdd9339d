package queue

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// maxAttempts is how often Redis may answer a record with an error of its own, while it
// takes others of the same queue, before the record becomes a dead letter.
const maxAttempts = 3

// maxSilent is how many records in a row may get no answer, each alone and while Redis takes
// other writes, before that counts as an outage.
const maxSilent = 3

// batch is what became of some records that were sent together.
type batch struct {
	r           *replayer
	sent        map[*breaker]int // commands by what fails together
	settlements []settlement
	delivered   map[string]bool // queues in which Redis took a job
	half        []trouble       // records that Redis refuses for what an earlier attempt may have left
	left        []trouble       // records that are pending still
	err         error           // the first of those, but for errUnclear
}

// trouble is a record whose job met an error.
type trouble struct {
	item
	at    pass
	err   error
	class class
	own   bool // an odd error that is the record's own, see blame
}

// breaker is the one that the error speaks of.
func (t trouble) breaker() *breaker {
	if t.class.ofQueue() {
		return t.at.own
	}
	return t.at.group
}

func outcome(e spool.Entry, j job, o spool.Outcome, why death) settlement {
	return settlement{
		Settlement: spool.Settlement{Position: e.Position, Outcome: o, Attempts: e.Attempts, Reason: why.text}, event: j.event(), why: why.kind,
	}
}

// replay sends records and judges each. It tells nobody, and settles nothing. Safe for
// concurrent use.
func (r *replayer) replay(ctx context.Context, items []item) *batch {
	b := &batch{r: r, sent: map[*breaker]int{}, delivered: map[string]bool{}}
	if len(items) == 0 {
		return b
	}
	b.settlements = make([]settlement, 0, len(items))
	cmds, passes := make([]command, len(items)), make([]pass, len(items))
	for i := range items {
		it := &items[i]
		it.observe(ctx, r.p)
		passes[i], _ = r.p.breakers.enter(it.job.Queue)
		b.sent[passes[i].group]++
		cmds[i] = it.cmd
	}
	defer r.p.flights.end(r.p.flights.begin())
	began := time.Now()
	results := r.p.sender.batch(ctx, cmds)
	r.batches.Add(time.Since(began))
	for i, res := range results {
		b.judge(ctx, trouble{item: items[i], at: passes[i]}, res)
	}
	b.repair(ctx)
	b.blame(ctx)
	b.keepOdd()
	for _, t := range b.left {
		r.p.end(t.op, t.err)
	}
	return b
}

func (b *batch) settle(it item, o spool.Outcome, why death) {
	if o == spool.Delivered || o == spool.AlreadyThere {
		b.r.p.journal.add(it.job)
	}
	s := outcome(it.entry, it.job, o, why)
	s.op = it.op
	b.settlements = append(b.settlements, s)
}

// judge settles one record by Redis's answer, keeps it with its error, or has it repaired.
func (b *batch) judge(ctx context.Context, t trouble, res result) {
	if res.taken() && t.half() {
		b.half = append(b.half, t)
		return
	}
	o, why, err := b.r.judge(ctx, t.item, res)
	b.judged(t, o, why, err)
}

func (b *batch) judged(t trouble, o spool.Outcome, why death, err error) {
	if err != nil {
		t.err, t.class = err, classify(err)
		b.left = append(b.left, t)
		if b.err == nil && !errors.Is(err, errUnclear) {
			b.err = err
		}
		return
	}
	if o == spool.Delivered {
		b.delivered[t.job.Queue] = true
		t.at.group.taken()
		t.at.own.taken()
	}
	b.settle(t.item, o, why)
}

// keepOdd records every odd error, which may have left half a task in Redis, before
// the record is sent again. Where it is the record's own, for one because Redis took another
// of the same queue, that is a dead letter after maxAttempts of those.
func (b *batch) keepOdd() {
	left := b.left[:0]
	for _, t := range b.left {
		if t.own && t.tries+1 >= maxAttempts {
			b.settle(t.item, spool.Dead, death{failing, "Redis refuses it: " + t.err.Error()})
			continue
		}
		if t.class == odd {
			b.settle(t.item, spool.Kept, death{})
		}
		left = append(left, t)
	}
	b.left = left
}

// afterTrouble tells the breakers of outages, and passes over for a while what others need
// not wait for. It returns the records that got no answer.
func (r *replayer) afterTrouble(b *batch, n *notes) (unanswered []trouble) {
	for _, t := range b.left {
		switch {
		case r.ctx.Err() != nil: // which may be why it failed
		case errors.Is(t.err, errLater):
		case errors.Is(t.err, errUnclear), t.own:
			r.deferred.add(t, time.Now())
		case t.class == inDoubt:
			unanswered = append(unanswered, t)
		default:
			r.p.failed(t.at, false, t.err, n)
		}
	}
	return unanswered
}

// afterSilence finds out, for all that got no answer, what that means.
func (r *replayer) afterSilence(b *batch, unanswered []trouble, n *notes) {
	groups := map[*breaker][]trouble{}
	for _, t := range unanswered {
		groups[t.at.group] = append(groups[t.at.group], t)
	}
	for group, err := range r.probes(groups) {
		r.afterProbe(b.sent[group], groups[group], err, n)
	}
}

// probes finds out, for all that got no answer, whether Redis takes a write right now.
func (r *replayer) probes(unanswered map[*breaker][]trouble) map[*breaker]error {
	ctx, cancel := context.WithTimeout(r.ctx, tryTimeout)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	errs := map[*breaker]error{}
	for group, troubles := range unanswered {
		wg.Go(func() {
			err := r.p.sender.probe(ctx, troubles[0].job.Queue)
			mu.Lock()
			defer mu.Unlock()
			errs[group] = err
		})
	}
	wg.Wait()
	return errs
}

// afterProbe follows commands that got no answer: an outage, if a probe gets none
// either. Otherwise one of them may be the cause, for example by its size, and halving the
// batch finds it.
func (r *replayer) afterProbe(sent int, troubles []trouble, probe error, n *notes) {
	switch t := troubles[0]; {
	case r.ctx.Err() != nil:
	case probe != nil:
		r.p.failed(t.at, false, t.err, n)
	case sent > 1:
		r.pace.halve(sent)
	default:
		r.postpone(t)
		if r.silent++; r.silent >= maxSilent {
			r.p.failed(t.at, false, silentError{t.err}, n)
		}
	}
}

// silentError is an error of jobs only: what got no answer while Redis took other writes.
type silentError struct{ error }

func (e silentError) Unwrap() error { return e.error }

// postpone passes over a record that Redis does not answer although it takes others.
func (r *replayer) postpone(t trouble) {
	if tries := r.deferred.add(t, time.Now()); tries == 1 {
		r.p.cfg.Logger.Warn("queue: Redis does not answer a job and takes others; it is passed over and tried again",
			"queue", t.job.Queue, "task_id", t.job.ID, "err", t.err)
	}
}
