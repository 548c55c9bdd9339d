package spool

import (
	"math"
	"sync"
	"time"
)

// meterSpan is the time over which a meter averages.
const meterSpan = time.Minute

// meter is a rate of bytes that forgets: what happened meterSpan ago counts for 1/e.
type meter struct {
	mu    sync.Mutex
	sum   float64 // of bytes, decayed to last
	first time.Time
	last  time.Time
}

func (m *meter) add(bytes int64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.first.IsZero() {
		m.first = now
	}
	m.sum = m.decayed(now) + float64(bytes)
	m.last = now
}

// decayed returns what is left of the sum; mu is held.
func (m *meter) decayed(now time.Time) float64 {
	return m.sum * math.Exp(-max(now.Sub(m.last), 0).Seconds()/meterSpan.Seconds())
}

// rate returns bytes per second. A meter that is younger than meterSpan averages over
// its age, but at least a second.
func (m *meter) rate(now time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.first.IsZero() {
		return 0
	}
	age := max(now.Sub(m.first), time.Second).Seconds() / meterSpan.Seconds()
	return m.decayed(now) / (1 - math.Exp(-age)) / meterSpan.Seconds()
}

// until returns when so many bytes will have come, or zero if hardly any do.
func (m *meter) until(bytes int64, now time.Time) time.Duration {
	rate := m.rate(now)
	if rate < 1 {
		return 0
	}
	seconds := float64(bytes) / rate
	return time.Duration(min(seconds, math.MaxInt64/2/float64(time.Second)) * float64(time.Second))
}
