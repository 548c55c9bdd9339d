package queue

import (
	"time"

	"github.com/jobspool/jobspool/spool"
)

// StateChange is the beginning or the end of an outage.
type StateChange struct {
	Queue   string        // the queue whose jobs it concerns; empty: all
	Outage  bool          // true: it begins
	Cause   string        // the first error of the outage, without anything secret
	Since   time.Time     // when it began
	Lasted  time.Duration // at its end
	Spooled int64         // at its end: jobs that went to the spool because of it
}

// JobEvent is something that happened to one job. It holds no payload.
type JobEvent struct {
	TaskID string
	Queue  string
	Type   string
	At     time.Time // of the call of Enqueue

	// InDoubt: an attempt got no reply, so Redis may have had the job before.
	InDoubt bool

	// Outcome is what became of it at the replay: "delivered", "already there",
	// "superseded" or "dead"; empty when it was spooled.
	Outcome string
	Reason  string // of a dead letter
}

// notes are calls of a Config's callbacks, to be made once no lock is held.
type notes []func()

func (n *notes) add(fn func()) { *n = append(*n, fn) }

// deliver makes the calls. A panic of a callback's ends there: the replayer, or a call
// whose job is safe, must not end with it.
func (p *Producer) deliver(n notes) {
	for _, fn := range n {
		p.safely(fn)
	}
}

func (p *Producer) safely(fn func()) {
	defer func() {
		if r := recover(); r != nil {
			p.cfg.Logger.Error("queue: a callback of Config panicked", "err", r)
		}
	}()
	fn()
}

func (p *Producer) noteSpooled(n *notes, j job) {
	if fn := p.cfg.OnSpooled; fn != nil {
		e := j.event()
		n.add(func() { fn(e) })
	}
}

// noteSettled notes what became of a job at its replay, if that is final.
func (p *Producer) noteSettled(n *notes, e JobEvent, o spool.Outcome, reason string) {
	e.Outcome, e.Reason = o.String(), reason
	switch o {
	case spool.Delivered, spool.AlreadyThere, spool.Superseded:
		if fn := p.cfg.OnReplayed; fn != nil {
			n.add(func() { fn(e) })
		}
	case spool.Dead:
		if fn := p.cfg.OnDead; fn != nil {
			n.add(func() { fn(e) })
		}
	case spool.Kept, spool.Removed, spool.Unreadable:
	}
}

func (j job) event() JobEvent {
	return JobEvent{TaskID: j.ID, Queue: j.Queue, Type: j.Type, At: j.At, InDoubt: j.InDoubt}
}
