package queue

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// slowCall is how long a call at Redis may take before it counts as slow, unless Redis
	// is so far away that slowFactor times what is usual is more.
	slowCall   = 3 * time.Millisecond
	slowFactor = 3

	// slowShare is the share of calls that replay may make slow. What is not used up of it is
	// good for a few later ones, slowCredit at most.
	slowShare  = 0.01
	slowCredit = 2.0

	// yieldEvery is the shortest time over which calls are judged, yieldSpan the time after
	// which calls have stopped coming.
	yieldEvery = 20 * time.Millisecond
	yieldSpan  = time.Second

	// yieldBatch is the number of records in a full batch beside calls, and leastBatch what
	// restraint makes of it at most. Beyond, a rest follows each batch.
	yieldBatch = 128
	leastBatch = 32

	// mostRestraint bounds the restraint, and restMost the rest: replay never stands still.
	mostRestraint = 16.0
	restMost      = 250 * time.Millisecond

	// restraintHalf is the time in which restraint halves while no call is slow, and usualHalf
	// the time in which half is forgotten of how calls do without replay.
	restraintHalf = time.Second
	usualHalf     = 10 * time.Second

	// fewCalls are too few to say how calls do without replay.
	fewCalls = 50
)

// live counts the calls that Redis answered at once, apart those during which a batch of the
// replay was on its way. Safe for concurrent use.
type live struct {
	batches         atomic.Int64 // odd while one is on its way
	beside, between callCounts
	nanos           atomic.Int64
	limit           atomic.Int64 // nanoseconds from which on a call is slow
}

type callCounts struct{ calls, slow atomic.Int64 }

// begin returns what add wants to know of the beginning of a call.
func (l *live) begin() (batches int64) { return l.batches.Load() }

func (l *live) add(d time.Duration, batches int64) {
	c := &l.between
	if batches%2 == 1 || l.batches.Load() != batches {
		c = &l.beside
	}
	c.calls.Add(1)
	l.nanos.Add(int64(d))
	if limit := l.limit.Load(); int64(d) > limit && limit > 0 {
		c.slow.Add(1)
	}
}

// take returns what was counted since it was called last.
func (l *live) take() window {
	return window{
		beside: l.beside.take(), between: l.between.take(), sum: time.Duration(l.nanos.Swap(0)),
	}
}

func (c *callCounts) take() seen {
	return seen{calls: float64(c.calls.Swap(0)), slow: float64(c.slow.Swap(0))}
}

// window is what was seen of calls in a while.
type window struct {
	beside, between seen
	sum             time.Duration // of what all of them took
}

type seen struct{ calls, slow float64 }

// yield makes replay hold back when it makes calls slow, so that they are first: by smaller
// batches, and when that is not enough by rests between them. It looks at nothing but the
// calls: that a batch takes long says nothing of them. And calls that are slow without a
// batch, too, are no reason. Not safe for concurrent use.
type yield struct {
	live      *live
	usual     time.Duration // mean of calls, as it was when it was lowest; rises slowly
	without   seen          // calls without replay, of late
	credit    float64       // slow calls that replay may cause yet
	restraint float64       // 1 and less: none
	last      time.Time     // that calls were judged
	called    time.Time     // that there were some
}

// batch follows a batch that is on its way: done is to be called when it is settled.
func (y *yield) batch() (done func()) {
	y.live.batches.Add(1)
	return func() { y.live.batches.Add(1) }
}

// size is the number of records that a batch may have.
func (y *yield) size(now time.Time) int {
	if now.Sub(y.called) >= yieldSpan {
		return maxBatch
	}
	return max(int(yieldBatch/max(y.restraint, 1)), leastBatch)
}

// rest returns how long to rest after a batch that took so long.
func (y *yield) rest(took time.Duration, now time.Time) time.Duration {
	if now.Sub(y.last) >= yieldEvery {
		y.judge(y.live.take(), took, now)
	}
	factor := max(y.restraint*leastBatch/yieldBatch-1, 0)
	return time.Duration(min(factor*float64(took), float64(restMost)))
}

// judge doubles the restraint if replay has made too many calls slow, and lessens it if not.
// The last batch took so long.
func (y *yield) judge(w window, took time.Duration, now time.Time) {
	age := now.Sub(y.last)
	y.last = now
	calls := w.beside.calls + w.between.calls
	switch {
	case calls == 0 && now.Sub(y.called) < yieldSpan:
		return
	case calls == 0:
		y.restraint, y.credit = 0, 0
		return
	}
	y.called = now
	y.learn(w.sum / time.Duration(calls))
	if age-took > yieldSpan {
		return // nothing was replayed for most of the time
	}
	y.without.fade(age, usualHalf)
	y.without.calls += w.between.calls
	y.without.slow += w.between.slow
	expected := w.beside.calls * slowFactor * y.without.slow / (y.without.calls + fewCalls)
	y.credit = min(y.credit+calls*slowShare-max(w.beside.slow-expected, 0), slowCredit)
	if y.credit < 0 {
		y.credit = 0
		y.restraint = min(2*max(y.restraint, 1), mostRestraint)
	} else {
		y.restraint *= halved(age, restraintHalf)
	}
}

// learn takes in what calls took on average.
func (y *yield) learn(mean time.Duration) {
	if y.usual == 0 || mean < y.usual {
		y.usual = mean
	} else {
		y.usual += (mean - y.usual) / 1024
	}
	y.live.limit.Store(int64(max(slowCall, slowFactor*y.usual)))
}

func (s *seen) fade(age, halfLife time.Duration) {
	f := halved(age, halfLife)
	s.calls, s.slow = s.calls*f, s.slow*f
}

// halved is what is left after a time of what halves in another.
func halved(age, halfLife time.Duration) float64 {
	return math.Exp2(-float64(age) / float64(halfLife))
}
