package queue

import (
	"time"

	"golang.org/x/time/rate"
)

// maxBatch is the number of records in a full batch.
const maxBatch = 500

// ramp is how many records a batch has after an outage, if the ones before went well. The
// first is the try that showed its end.
func ramp() []int { return []int{1, 16, 128, maxBatch} }

// pace says how many records the next batch may have, and when it may be sent. Not safe
// for concurrent use.
type pace struct {
	size    int
	ramping bool          // since an outage
	limiter *rate.Limiter // nil: no bound
}

// newPace returns the pace for so many jobs per second at most, or for as many as can be
// if that is not positive.
func newPace(perSecond int) *pace {
	p := &pace{size: ramp()[0], ramping: true}
	if perSecond > 0 {
		// Bursts of a tenth of a second are small enough to be called a rate.
		p.limiter = rate.NewLimiter(rate.Limit(perSecond), min(max(perSecond/10, 1), maxBatch))
	}
	return p
}

// next is the number of records for a batch. One who is in a hurry skips the ramp.
func (p *pace) next(hurry bool) int {
	size := p.size
	if hurry && p.ramping {
		size = maxBatch
	}
	if p.limiter != nil {
		size = min(size, p.limiter.Burst())
	}
	return size
}

// wait returns how long a batch of n has to wait, and if that is zero counts it as sent.
func (p *pace) wait(n int, now time.Time) time.Duration {
	if p.limiter == nil {
		return 0
	}
	r := p.limiter.ReserveN(now, min(n, p.limiter.Burst()))
	d := r.DelayFrom(now)
	if d > 0 {
		r.CancelAt(now)
	}
	return d
}

// restart begins the ramp, after a try that went well.
func (p *pace) restart() { p.size, p.ramping = ramp()[1], true }

// grow expects a batch to go well.
func (p *pace) grow() {
	for _, size := range ramp() {
		if size > p.size {
			p.size = size
			return
		}
	}
	p.ramping = false
}

// halve follows a batch of n that Redis did not answer although it takes writes: one of
// its records may be the cause, or it was too much at once.
func (p *pace) halve(n int) { p.size, p.ramping = max(n/2, 1), false }
