package queue

import (
	"errors"
	"fmt"
	"time"
)

// of returns the breaker that an error of the attempt speaks of.
func (at pass) of(err error) *breaker {
	if classify(err).ofQueue() {
		return at.own
	}
	return at.group
}

// failed tells the breaker of an attempt that failed, and the log and the caller of New
// if an outage begins. hasty: only the caller's own haste made it fail.
func (p *Producer) failed(at pass, hasty bool, err error, n *notes) {
	c := classify(err)
	b, generation := at.group, at.groupGen
	if c.ofQueue() {
		b, generation = at.own, at.ownGen
	} else if !c.outage() {
		return
	}
	var silent silentError
	o := outage{
		since: time.Now(), cause: err.Error(), unanswered: c == inDoubt, ofJobs: c == odd || errors.As(err, &silent),
	}
	began := p.changes.note(p, n, func() (StateChange, bool) {
		return StateChange{Queue: b.queue, Outage: true, Cause: o.cause, Since: o.since}, b.failed(generation, hasty, o)
	})
	if !began {
		return
	}
	p.breakers.open.Add(1)
	p.counters.outages.Add(1)
	if b.queue != "" {
		p.counters.queueOutages.Add(1)
	}
	p.cfg.Logger.Warn("queue: outage begins, jobs go to the spool", append(b.attrs(), "err", err, "target", p.cfg.Target)...)
	p.replayer.poke()
}

// recovered tells the breaker that Redis took a write, and the log and the caller of New
// if that ends an outage.
func (p *Producer) recovered(b *breaker, n *notes) {
	var c StateChange
	ended := p.changes.note(p, n, func() (StateChange, bool) {
		o, ended := b.recovered()
		c = StateChange{Queue: b.queue, Cause: o.cause, Since: o.since, Lasted: time.Since(o.since), Spooled: b.spooled.Load()}
		return c, ended
	})
	if !ended {
		return
	}
	p.sender.forget()
	p.breakers.open.Add(-1)
	p.cfg.Logger.Info("queue: outage ends, jobs go to Redis", append(b.attrs(), "err", c.Cause, "target", p.cfg.Target,
		"lasted", c.Lasted.Round(time.Millisecond), "spooled", c.Spooled)...)
}

// outageErrors names the outages there are.
func (p *Producer) outageErrors() (errs []error) {
	for _, b := range p.breakers.all() {
		switch o, open := b.current(); {
		case !open:
		case b.queue == "":
			errs = append(errs, o.error())
		default:
			errs = append(errs, fmt.Errorf("queue %q: %w", b.queue, o.error()))
		}
	}
	return errs
}

func (o outage) error() error {
	return fmt.Errorf("outage since %v: %s", o.since.Format(time.RFC3339), o.cause)
}

// attrs names the queue in the log if the outage is that of one.
func (b *breaker) attrs() []any {
	if b.queue == "" {
		return nil
	}
	return []any{"queue", b.queue}
}
