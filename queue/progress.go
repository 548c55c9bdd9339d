package queue

import (
	"sync"
	"time"
)

const (
	// progressSpan is the number of seconds over which a rate of replay averages.
	progressSpan = 10

	// progressLeast is the shortest time to take a rate over.
	progressLeast = 100 * time.Millisecond
)

// progress counts jobs by second since the first one. It looks at the monotonic clock
// only: a wall clock that is set makes no difference. Safe for concurrent use.
type progress struct {
	mu      sync.Mutex
	first   time.Time     // of the first jobs; the times below count from there
	began   time.Duration // the replay that goes on: what came before it does not count
	last    time.Duration
	seconds [progressSpan]struct{ at, n int64 }
}

// add counts jobs that are settled now.
func (p *progress) add(n int, now time.Time) {
	if n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first.IsZero() {
		p.first = now
	}
	at := now.Sub(p.first)
	if at-p.last > progressSpan*time.Second {
		p.began = at
	}
	p.last = at
	second := int64(at / time.Second)
	s := &p.seconds[second%progressSpan]
	if s.at != second {
		s.at, s.n = second, 0
	}
	s.n += int64(n)
}

// rate returns jobs per second over the last ten seconds, or since the replay began. It is
// zero if there were none for so long.
func (p *progress) rate(now time.Time) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := now.Sub(p.first)
	if p.first.IsZero() || at-p.last > progressSpan*time.Second {
		return 0
	}
	sum, second := int64(0), int64(at/time.Second)
	for _, s := range p.seconds {
		if second-s.at < progressSpan {
			sum += s.n
		}
	}
	span := (progressSpan-1)*time.Second + at%time.Second
	return float64(sum) / max(min(span, at-p.began), progressLeast).Seconds()
}

// addStats adds how the replay gets on.
func (r *replayer) addStats(st *Stats, now time.Time) {
	st.Deferred, st.Paused = int(r.deferring.Load()), r.pausing.current()
	if err := r.room.err(); err != nil {
		st.ReplayWaits = err.Error()
	}
	st.ReplayRate = r.progress.rate(now)
	st.EmptyIn = emptyIn(st.Pending, st.ReplayRate)
}

// emptyIn returns the time that so many jobs take at a rate, zero if there are none or
// none is replayed.
func emptyIn(pending int, rate float64) time.Duration {
	if pending == 0 || rate == 0 {
		return 0
	}
	return time.Duration(min(float64(pending)/rate, maxSeconds) * float64(time.Second))
}

// maxSeconds is less than what a time.Duration can hold.
const maxSeconds = 1 << 33
