package queue

import (
	"sync"
	"time"
)

// progressSpan is the number of seconds over which a rate of replay averages.
const progressSpan = 10

// progress counts jobs by second.
type progress struct {
	mu      sync.Mutex
	began   time.Time // of the replay that goes on: what came before it does not count
	last    time.Time
	seconds [progressSpan]struct{ at, n int64 } // by Unix second
}

// add counts jobs that are settled now.
func (p *progress) add(n int, now time.Time) {
	if n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.last) > progressSpan*time.Second {
		p.began = now
	}
	p.last = now
	s := &p.seconds[now.Unix()%progressSpan]
	if s.at != now.Unix() {
		s.at, s.n = now.Unix(), 0
	}
	s.n += int64(n)
}

// rate returns jobs per second over the last seconds, or since the replay began.
func (p *progress) rate(now time.Time) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.last) > progressSpan*time.Second {
		return 0
	}
	sum := int64(0)
	for _, s := range p.seconds {
		if now.Unix()-s.at < progressSpan {
			sum += s.n
		}
	}
	span := progressSpan*time.Second - time.Second + time.Duration(now.Nanosecond())
	if age := now.Sub(p.began); age < span {
		span = max(age, 100*time.Millisecond)
	}
	return float64(sum) / span.Seconds()
}

// addStats adds how the replay gets on.
func (r *replayer) addStats(st *Stats, now time.Time) {
	st.Deferred = int(r.deferring.Load())
	if err := r.guard.err(); err != nil {
		st.ReplayWaits = err.Error()
	}
	st.ReplayRate = r.progress.rate(now)
	if st.Pending > 0 && st.ReplayRate > 0 {
		st.EmptyIn = time.Duration(min(float64(st.Pending)/st.ReplayRate, maxSeconds) * float64(time.Second))
	}
}

// maxSeconds is less than what a time.Duration can hold.
const maxSeconds = 1 << 33
