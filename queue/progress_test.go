package queue

import (
	"math"
	"testing"
	"time"
)

// TestProgress replays by a clock of its own: steadily from one time to another, n jobs
// at a time.
func TestProgress(t *testing.T) {
	type steady struct {
		from, to, every time.Duration
		n               int
	}
	const s, ms = time.Second, time.Millisecond
	thousand := func(from, to time.Duration) steady { return steady{from, to, 10 * ms, 10} }
	for _, c := range []struct {
		name   string
		did    []steady
		at     time.Duration
		want   float64
		within float64 // of want
	}{
		{"nothing", nil, 5 * s, 0, 0},
		{"the first job", []steady{{0, 1, s, 1}}, 0, 10, 0},
		{"the first batch", []steady{{0, 1, s, 500}}, 20 * ms, 5000, 0},
		{"a batch, and a second after", []steady{{0, 1, s, 500}}, s, 500, 0},
		{"in the first second", []steady{thousand(0, s)}, 500 * ms, 1000, 0.03},
		{"after a second", []steady{thousand(0, 2*s)}, s, 1000, 0.02},
		{"a last that is just over", []steady{thousand(0, 9*s)}, 9 * s, 1000, 0.01},
		{"ten seconds", []steady{thousand(0, 20*s)}, 10 * s, 1000, 0.01},
		{"in the middle of a second", []steady{thousand(0, 20*s)}, 13*s + 370*ms, 1000, 0.01},
		{"at the end of a second", []steady{thousand(0, 20*s)}, 13*s + 999*ms, 1000, 0.01},
		{"ten times slower for long", []steady{thousand(0, 20*s), {20 * s, 40 * s, 100 * ms, 10}}, 30*s - 1, 100, 0.02},
		{"an hour", []steady{{0, time.Hour, 100 * ms, 100}}, time.Hour - 1, 1000, 0.02},
		{"half of the time a gap", []steady{thousand(0, 5*s)}, 10*s - 1, 500, 0.02},
		{"a gap, and no more", []steady{thousand(0, 5*s)}, 15*s + 1, 0, 0},
		{"long after", []steady{thousand(0, 5*s)}, 24 * time.Hour, 0, 0},
		{"again after a long gap", []steady{thousand(0, 5*s), thousand(100*s, 105*s)}, 102 * s, 1000, 0.02},
		{"the first job again", []steady{thousand(0, 5*s), {15*s + 1, 15*s + 2, s, 1}}, 15*s + 1, 10, 0},
		{"a short gap counts", []steady{thousand(0, 5*s), thousand(9*s, 20*s)}, 10 * s, 600, 0.12},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p progress
			start := time.Date(2026, 11, 23, 10, 0, 0, 700_000_000, time.UTC)
			for _, d := range c.did {
				for at := d.from; at < d.to && at <= c.at; at += d.every {
					p.add(d.n, start.Add(at))
				}
			}
			p.add(0, start.Add(c.at)) // counts for nothing
			if got := p.rate(start.Add(c.at)); math.Abs(got-c.want) > c.within*c.want {
				t.Errorf("%v jobs per second, want %v", got, c.want)
			}
		})
	}
}

func TestEmptyIn(t *testing.T) {
	for _, c := range []struct {
		pending int
		rate    float64
		want    time.Duration
	}{
		{0, 0, 0},
		{0, 1000, 0},
		{1000, 0, 0},
		{1000, 1000, time.Second},
		{1, 1000, time.Millisecond},
		{1e6, 25_000, 40 * time.Second},
		{math.MaxInt, 0.1, maxSeconds * time.Second},
	} {
		if got := emptyIn(c.pending, c.rate); got != c.want {
			t.Errorf("%d jobs at %v per second: %v, want %v", c.pending, c.rate, got, c.want)
		}
	}
}
