package queue

import (
	"testing"
	"time"
)

// TestPaceOfARate sends batches for ten seconds, by a clock of its own.
func TestPaceOfARate(t *testing.T) {
	for _, perSecond := range []int{1, 7, 100, 5000, 100_000} {
		for _, hurry := range []bool{false, true} {
			p := newPace(perSecond)
			start := time.Now()
			end, sent := start.Add(10*time.Second), 0
			for now := start; now.Before(end); {
				n := p.next(hurry)
				if d := p.wait(n, now); d > 0 {
					now = now.Add(d)
					continue
				}
				most := float64(perSecond)*now.Sub(start).Seconds() + float64(max(perSecond/10, 1))
				if sent += n; float64(sent) > most+0.01 { // clocks are rounded
					t.Errorf("%d/s: %d sent after %v", perSecond, sent, now.Sub(start))
					break
				}
				p.grow()
			}
			if sent < 9*perSecond {
				t.Errorf("%d/s: only %d sent in 10 s", perSecond, sent)
			}
		}
	}
	for _, none := range []int{0, -1} {
		if d := newPace(none).wait(maxBatch, time.Now()); d != 0 {
			t.Errorf("rate %d waits %v", none, d)
		}
	}
}

// TestPaceAfterATooLargeBatch: the next one is half of it, also for one who is in a hurry, and
// from there it grows again.
func TestPaceAfterATooLargeBatch(t *testing.T) {
	p := newPace(0)
	if got := p.next(true); got != maxBatch {
		t.Errorf("in a hurry: %d", got)
	}
	for _, want := range []int{1, 16, 128, 500, 500} {
		if got := p.next(false); got != want {
			t.Errorf("%d, want %d", got, want)
		}
		p.grow()
	}
	for n := maxBatch; n > 1; n /= 2 {
		p.halve(n)
		if got := p.next(true); got != n/2 {
			t.Errorf("after %d: %d", n, got)
		}
	}
	p.halve(1)
	for _, want := range []int{1, 16, 128, 500} {
		if got := p.next(true); got != want {
			t.Errorf("in a hurry after a halving: %d, want %d", got, want)
		}
		p.grow()
	}
	p.restart()
	if a, b := p.next(false), p.next(true); a != 16 || b != maxBatch {
		t.Errorf("after an outage %d, and %d in a hurry", a, b)
	}
}
