package queue

import (
	"testing"
	"time"
)

// besideCalls lets a replay run beside calls, by a clock of its own: a thousand calls a
// second, of which those beside a batch and those between two are slow in these shares.
type besideCalls struct {
	yield
	now           time.Time
	took          time.Duration // of a batch
	perSecond     float64
	slow, without float64 // shares

	sent, calls, slowCalls float64
	rested, most           time.Duration // most: longest rest
	owed                   window        // calls not taken yet, in fractions
}

func newBesideCalls(took time.Duration) *besideCalls {
	s := &besideCalls{now: time.Now(), took: took, perSecond: 1000}
	s.live = &live{}
	s.last = s.now
	return s
}

// run replays for so long.
func (s *besideCalls) run(d time.Duration) {
	s.sent, s.calls, s.slowCalls, s.rested, s.most = 0, 0, 0, 0, 0
	for end := s.now.Add(d); s.now.Before(end); {
		s.sent += float64(s.size(s.now))
		s.now = s.now.Add(s.took)
		owe(&s.owed.beside, s.perSecond*s.took.Seconds(), s.slow)
		s.take(&s.live.beside, &s.owed.beside)
		rest := s.rest(s.took, s.now)
		s.now = s.now.Add(rest)
		owe(&s.owed.between, s.perSecond*rest.Seconds(), s.without)
		s.take(&s.live.between, &s.owed.between)
		s.rested += rest
		s.most = max(s.most, rest)
	}
}

func owe(s *seen, calls, slow float64) {
	s.calls += calls
	s.slow += calls * slow
}

// take counts whole calls, each of half a millisecond.
func (s *besideCalls) take(c *callCounts, owed *seen) {
	calls, slow := int64(owed.calls), int64(owed.slow)
	c.calls.Add(calls)
	c.slow.Add(slow)
	s.live.nanos.Add(calls * int64(time.Millisecond/2))
	owed.calls -= float64(calls)
	owed.slow -= float64(slow)
	s.calls += float64(calls)
	s.slowCalls += float64(slow)
}

// TestYieldToSlowCalls: replay holds back when it makes calls slow, never for good, and goes
// on as before when it does not.
func TestYieldToSlowCalls(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 5 * time.Second} {
		s := newBesideCalls(took)
		s.run(10 * time.Second)
		if s.rested > 0 || s.size(s.now) != yieldBatch {
			t.Errorf("batches of %v: it rests for %v and has batches of %d, though no call is slow", took, s.rested, s.size(s.now))
		}
		s.slow = 0.5
		s.run(max(10*took, 100*time.Millisecond))
		if s.size(s.now) == yieldBatch {
			t.Errorf("batches of %v: half of all calls are slow, and nothing follows", took)
		}
		s.run(time.Minute)
		if s.size(s.now) != leastBatch || s.most == 0 || s.most > restMost {
			t.Errorf("batches of %v: half of all calls are slow beside batches of %d and rests of %v", took, s.size(s.now), s.most)
		}
		if rate := s.sent / 60; rate < leastBatch/(4*took.Seconds()+restMost.Seconds()) {
			t.Errorf("batches of %v: %.0f jobs per second", took, rate)
		}
		s.slow = 0
		s.run(max(10*time.Second, 10*took))
		if s.rest(took, s.now) > 0 || s.size(s.now) != yieldBatch {
			t.Errorf("batches of %v: calls are well again, batches are of %d", took, s.size(s.now))
		}
		s.slow = 0.5
		s.run(max(10*time.Second, 10*took))
		s.perSecond = 0
		s.run(max(2*time.Second, 2*took))
		if s.rest(took, s.now) > 0 || s.size(s.now) != maxBatch {
			t.Errorf("batches of %v: there are no calls, batches are of %d", took, s.size(s.now))
		}
	}
}

// TestYieldNotForWhatIsNotItsFault: calls are slow with replay and without.
func TestYieldNotForWhatIsNotItsFault(t *testing.T) {
	for _, slow := range []float64{0.005, 0.02, 0.1, 0.5} {
		s := newBesideCalls(2 * time.Millisecond)
		s.slow, s.without = slow, slow
		s.run(time.Minute)
		s.run(time.Minute)
		if share := s.rested.Seconds() / 60; share > 0.2 {
			t.Errorf("%v of all calls are slow: it rests for %v of its time", slow, share)
		}
		s.slow, s.without = 0.5, slow/10
		s.run(time.Minute)
		s.run(time.Minute)
		if share := s.rested.Seconds() / 60; share < 0.3 {
			t.Errorf("%v of all calls are slow without replay, and half with it: it rests for %v of its time", slow/10, share)
		}
	}
}

// TestYieldKeepsItsShare: over time about one call in a hundred is slow, where restraint
// helps, and no more restraint is used than it takes.
func TestYieldKeepsItsShare(t *testing.T) {
	s := newBesideCalls(2 * time.Millisecond)
	s.run(time.Minute)
	calls, slow, sent := 0.0, 0.0, 0.0
	for range 60_000 { // batches
		s.slow = 0
		if s.size(s.now) > yieldBatch/2 {
			s.slow = 0.08
		}
		s.run(1)
		calls, slow, sent = calls+s.calls, slow+s.slowCalls, sent+s.sent
	}
	if share := slow / calls; share > 0.02 || share < 0.0005 {
		t.Errorf("%.4f of all calls are slow", share)
	}
	if mean := sent / 60_000; mean < leastBatch*1.2 {
		t.Errorf("batches of %.0f on average", mean)
	}
}

// TestYieldForgetsWhatWasBefore: calls that were slow when nothing was replayed, or in the
// replay before, say nothing.
func TestYieldForgetsWhatWasBefore(t *testing.T) {
	s := newBesideCalls(time.Millisecond)
	s.run(time.Second)
	s.live.beside.calls.Add(1000)
	s.live.beside.slow.Add(1000)
	s.now = s.now.Add(time.Hour)
	s.run(time.Second)
	if s.rested > 0 || s.size(s.now) != yieldBatch {
		t.Errorf("it rests for %v and has batches of %d", s.rested, s.size(s.now))
	}
}

// TestSlowCalls: what is slow depends on what is usual, and whose fault it may be on whether
// a batch was on its way.
func TestSlowCalls(t *testing.T) {
	var l live
	y := yield{live: &l}
	for _, far := range []time.Duration{0, 20 * time.Millisecond} {
		y.usual = 0
		y.learn(far)
		limit := max(slowCall, slowFactor*far)
		for _, c := range []struct {
			took   time.Duration
			during func()
			want   window
		}{
			{limit, func() {}, window{between: seen{calls: 1}}},
			{limit + 1, func() {}, window{between: seen{1, 1}}},
			{limit + 1, func() { y.batch() }, window{beside: seen{1, 1}}}, // begins meanwhile
			{limit, func() {}, window{beside: seen{calls: 1}}},            // is on its way
			{limit, func() { l.batches.Add(1) }, window{beside: seen{calls: 1}}},
			{limit, func() { y.batch()() }, window{beside: seen{calls: 1}}},
			{limit, func() {}, window{between: seen{calls: 1}}},
		} {
			batches := l.begin()
			c.during()
			l.add(c.took, batches)
			c.want.sum = c.took
			if got := l.take(); got != c.want {
				t.Errorf("a call of %v: %+v, want %+v", c.took, got, c.want)
			}
		}
	}
	for range 100_000 {
		y.learn(time.Second)
	}
	if limit := time.Duration(l.limit.Load()); limit < 2*time.Second {
		t.Errorf("Redis has gone far away, and %v is slow", limit)
	}
}
