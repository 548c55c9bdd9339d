package queue

import (
	"testing"
	"time"
)

// TestTriesGoOnForLong makes tries through an hour of outage, by a clock of its own: they never
// come in a hurry, and never less often than at first.
func TestTriesGoOnForLong(t *testing.T) {
	t.Parallel()
	for _, takes := range []time.Duration{time.Millisecond, tryTimeout} {
		b := newBreakers(false)
		at, _ := b.enter("q")
		now := time.Now()
		if !b.shared.failed(at.groupGen, false, outage{since: now}) {
			t.Fatal("no outage")
		}
		b.open.Add(1)
		ts, end, last := newTrials(), now.Add(time.Hour), now
		for now.Before(end) {
			due := ts.begin(b, now)
			if len(due) == 0 {
				if now = now.Add(5 * time.Millisecond); now.Sub(last) > time.Second {
					t.Fatalf("a try that takes %v: no other for %v", takes, now.Sub(last))
				}
				continue
			}
			if gap := now.Sub(last); len(due) > 1 || gap < tryEvery-takes {
				t.Fatalf("a try that takes %v: %d others after %v", takes, len(due), gap)
			}
			now = now.Add(takes)
			ts.again(due[0], now)
			last = now
		}
		b.shared.recovered()
		b.open.Add(-1)
		if due := ts.begin(b, now.Add(time.Second)); len(due) > 0 || len(ts.next) > 0 {
			t.Errorf("%d tries after the outage", len(due))
		}
	}
	for range 10_000 {
		if p := pause(); p < 500*time.Millisecond || p > 900*time.Millisecond {
			t.Fatalf("a pause of %v", p)
		}
	}
}

// TestTriesOfJobs: where only jobs can show that an outage is over, each try has more of them.
func TestTriesOfJobs(t *testing.T) {
	t.Parallel()
	b := newBreakers(false)
	at, _ := b.enter("q")
	if !at.own.failed(at.ownGen, false, outage{ofJobs: true}) {
		t.Fatal("no outage")
	}
	b.open.Add(1)
	ts, now := newTrials(), time.Now()
	ts.begin(b, now)
	for _, want := range []int{1, 2, 4, 8, 16, 32, 64, 128, 128} {
		now = now.Add(time.Second)
		due := ts.begin(b, now)
		if len(due) != 1 || due[0].heads != want || due[0].b != at.own {
			t.Fatalf("%d tries, %+v, want %d jobs", len(due), due, want)
		}
		ts.again(due[0], now)
	}
}

// TestHopeAfter: the first hope is at once, and then there is ever less.
func TestHopeAfter(t *testing.T) {
	t.Parallel()
	for hopes, want := range map[int32]time.Duration{0: 0, 1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second, 7: time.Minute, 1 << 30: time.Minute} {
		if got := hopeAfter(hopes); got != want {
			t.Errorf("after %d: %v, want %v", hopes, got, want)
		}
	}
}
