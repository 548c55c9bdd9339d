package queue

import (
	"maps"
	"time"

	"github.com/jobspool/jobspool/spool"
)

const (
	// deferFor is for how long a record is passed over after its first failed try; each
	// further one doubles it, up to deferMost.
	deferFor  = time.Second
	deferMost = time.Minute
)

// deferrals are records that fail while Redis takes others. They are passed over for a
// while, so that they hold up nobody, and then tried again, each alone. Connection errors
// never make a dead letter of one. In memory only: a new process tries them at once.
type deferrals map[spool.Position]deferral

type deferral struct {
	tries int
	own   int // of them: met an odd error that was the record's own
	until time.Time
	queue string
}

// add passes a record over after a failed try, and returns how many there were.
func (d deferrals) add(t trouble, now time.Time) int {
	one := d[t.entry.Position]
	one.until = now.Add(min(deferFor<<min(one.tries, 10), deferMost))
	if one.tries++; t.own {
		one.own++
	}
	one.queue = t.job.Queue
	d[t.entry.Position] = one
	return one.tries
}

func (d deferrals) has(p spool.Position) bool {
	_, ok := d[p]
	return ok
}

// defers reports whether a record is to be passed over at that time.
func (d deferrals) defers(p spool.Position, at time.Time) bool { return d[p].until.After(at) }

// due returns the time until the next record is to be tried again.
func (d deferrals) due() time.Duration {
	wait := idle
	for _, one := range d {
		if !one.until.IsZero() {
			wait = min(wait, time.Until(one.until))
		}
	}
	return wait
}

// release makes those whose time has come known to be read again. It reports whether there
// are such.
func (d deferrals) release(now time.Time) (some bool) {
	for p, one := range d {
		if !one.until.IsZero() && !one.until.After(now) {
			one.until = time.Time{}
			d[p], some = one, true
		}
	}
	return some
}

// forgetGone forgets records that are not there any more: a person has removed them, or they
// cannot be read. All that no outage stops has been read since the last rewind.
func (r *replayer) forgetGone() {
	maps.DeleteFunc(r.deferred, func(p spool.Position, one deferral) bool {
		return !r.backlog.met[p] && !r.stopped(one.queue)
	})
}
