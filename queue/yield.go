package queue

import (
	"sync/atomic"
	"time"
)

const (
	// slowCall is how long a call at Redis may take before it counts as slow, unless Redis
	// is so far away that slowFactor times what is usual is more.
	slowCall   = 3 * time.Millisecond
	slowFactor = 3

	// slowPercent is how many calls of a hundred may be slow while replay goes on as it does.
	slowPercent = 1

	// yieldEvery is the shortest time over which calls are judged, yieldSpan the time after
	// which calls have stopped coming.
	yieldEvery = 20 * time.Millisecond
	yieldSpan  = time.Second

	// maxYield bounds the rest after a batch, as a multiple of the time that took, and
	// restMost as a time: replay never stands still.
	maxYield = 64.0
	restMost = 250 * time.Millisecond

	// yieldBatch is the number of records in a full batch beside calls.
	yieldBatch = 128
)

// live counts the calls that Redis answered at once. Safe for concurrent use.
type live struct {
	calls, slow, nanos atomic.Int64
	limit              atomic.Int64 // nanoseconds from which on a call is slow
}

func (l *live) add(d time.Duration) {
	l.calls.Add(1)
	l.nanos.Add(int64(d))
	if limit := l.limit.Load(); int64(d) > limit && limit > 0 {
		l.slow.Add(1)
	}
}

// yield makes replay rest when calls become slow, so that they are first. It looks at
// nothing but the calls: that a batch takes long says nothing of them. Not safe for
// concurrent use.
type yield struct {
	live   *live
	usual  time.Duration // mean of calls, as it was when it was lowest; rises slowly
	factor float64       // rest after each batch, in times that it took
	last   time.Time     // that calls were judged
	called time.Time     // that there were some
}

// rest returns how long to rest after a batch that took so long.
func (y *yield) rest(took time.Duration, now time.Time) time.Duration {
	if now.Sub(y.last) >= yieldEvery {
		y.judge(y.live.calls.Swap(0), y.live.slow.Swap(0), time.Duration(y.live.nanos.Swap(0)), now)
	}
	return min(time.Duration(y.factor*float64(took)), restMost)
}

// judge doubles the rest if too many calls were slow, and shortens it if not.
func (y *yield) judge(calls, slow int64, sum time.Duration, now time.Time) {
	y.last = now
	switch {
	case calls == 0 && now.Sub(y.called) < yieldSpan:
		return
	case calls == 0:
		y.factor = 0
		return
	}
	y.called = now
	if mean := sum / time.Duration(calls); y.usual == 0 || mean < y.usual {
		y.usual = mean
	} else {
		y.usual += (mean - y.usual) / 1024
	}
	y.live.limit.Store(int64(max(slowCall, slowFactor*y.usual)))
	if slow*100 > calls*slowPercent {
		y.factor = min(max(2*y.factor, 1), maxYield)
	} else {
		y.factor *= 0.95
	}
}

// beside reports whether there have been calls of late.
func (y *yield) beside(now time.Time) bool { return now.Sub(y.called) < yieldSpan }
