package queue

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// trial is a try whether one outage is over: with the oldest record that it stops, or
// with a probe.
type trial struct {
	r    *replayer
	b    *breaker
	head []spool.Entry // at most one

	batch *batch
	over  bool
	notes notes
}

// tryOutages tries those outages whose time for it has come, all at once. An error is
// one of the disk's.
func (r *replayer) tryOutages(n *notes) error {
	due := r.due(time.Now())
	if len(due) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, tryTimeout)
	defer cancel()
	r.p.sender.refresh(ctx)
	trials, diskErr := r.trials(due)
	var wg sync.WaitGroup
	for _, t := range trials {
		wg.Go(func() { t.run(ctx) })
	}
	wg.Wait()
	var settlements []settlement
	for _, t := range trials {
		*n = append(*n, t.notes...)
		settlements = append(settlements, t.batch.settlements...)
		if t.over {
			r.p.recovered(t.b, n)
		}
		r.next[t.b] = time.Now().Add(pause())
	}
	_, err := r.settle(settlements, n)
	return errors.Join(diskErr, err)
}

// due returns the breakers whose outage is to be tried now, and sets a time for those
// that are new. An outage of all stands for those of single queues.
func (r *replayer) due(now time.Time) (due []*breaker) {
	open := r.p.breakers.all()
	if shared := r.p.breakers.shared; shared != nil && slices.Contains(open, shared) {
		open = []*breaker{shared}
	}
	maps.DeleteFunc(r.next, func(b *breaker, _ time.Time) bool { return !slices.Contains(open, b) })
	for _, b := range open {
		at, ok := r.next[b]
		switch {
		case !ok:
			r.next[b] = now.Add(pause())
		case !now.Before(at):
			due = append(due, b)
		}
	}
	return due
}

// trials reads the oldest record that each outage stops. Without the disk, and while
// outcomes are still to be recorded, there is none.
func (r *replayer) trials(due []*breaker) (trials []*trial, err error) {
	for _, b := range due {
		t := &trial{r: r, b: b}
		if err == nil && len(r.unsettled) == 0 {
			t.head, err = r.read(1, func(queue string) bool { return !r.p.breakers.heads(b, queue) })
		}
		trials = append(trials, t)
	}
	return trials, err
}

// heads reports whether a record of the queue can show that an outage is over.
func (b *breakers) heads(o *breaker, queue string) bool {
	if o == b.shared {
		_, own := b.of(queue)
		return !own.open()
	}
	return queue == o.queue
}

// run makes the try. Only a write that Redis took proves anything.
func (t *trial) run(ctx context.Context) {
	t.batch = t.r.replay(ctx, t.head, &t.notes)
	if len(t.batch.delivered) > 0 {
		t.over = true
		return
	}
	o, _ := t.b.current()
	var blamed []trouble
	for _, u := range t.batch.unsettled {
		switch class := classify(u.err); {
		case errors.Is(u.err, errUnclear):
		case class == odd, class == inDoubt:
			blamed = append(blamed, u)
			o.ofJobs = o.ofJobs || u.at.of(u.err) == t.b
		case u.at.of(u.err) == t.b:
			return // it lasts
		}
	}
	if t.r.p.sender.probe(ctx, t.queue()) != nil {
		return
	}
	for _, u := range blamed { // Redis takes other writes at this moment
		t.batch.blame(u)
	}
	t.over = !o.ofJobs
}

// queue returns the queue in whose slot to probe.
func (t *trial) queue() string {
	if t.b.queue != "" {
		return t.b.queue
	}
	if q := t.r.lastQueue.Load(); q != nil {
		return *q
	}
	return probeQueue
}
