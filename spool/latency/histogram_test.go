package latency_test

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool/latency"
)

func TestHistogram(t *testing.T) {
	t.Parallel()
	var h latency.Histogram
	empty := h.Snapshot()
	if empty.Count != 0 || empty.Sum != 0 || len(empty.Buckets) == 0 {
		t.Fatalf("empty: %+v", empty)
	}
	for i, b := range empty.Buckets {
		if b.Count != 0 || i > 0 && b.UpTo <= empty.Buckets[i-1].UpTo {
			t.Errorf("bucket %d: %+v", i, b)
		}
	}
	first, last := empty.Buckets[0].UpTo, empty.Buckets[len(empty.Buckets)-1].UpTo
	h.Add(-time.Second) // counts as zero
	h.Add(first)        // bounds belong to the bucket below
	h.Add(first + 1)
	h.Add(last)
	h.Add(last + 1)
	got := h.Snapshot()
	if got.Count != 5 || got.Sum != 2*first+1+2*last+1 {
		t.Errorf("count %d, sum %v", got.Count, got.Sum)
	}
	for i, b := range got.Buckets {
		want := uint64(3)
		switch {
		case i == 0:
			want = 2
		case i == len(got.Buckets)-1:
			want = 4
		}
		if b.Count != want {
			t.Errorf("up to %v: %d, want %d", b.UpTo, b.Count, want)
		}
	}
}

func TestHistogramOfMany(t *testing.T) {
	t.Parallel()
	var h latency.Histogram
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 1000 {
				h.Add(time.Duration(i) * time.Millisecond)
				h.Snapshot()
			}
		})
	}
	wg.Wait()
	if s := h.Snapshot(); s.Count != 8000 || s.Sum != 28*time.Second {
		t.Errorf("%d, %v", s.Count, s.Sum)
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, d := range []time.Duration{0, 60 * time.Microsecond, 3 * time.Millisecond, math.MaxInt64} {
		b.Run(d.String(), func(b *testing.B) {
			var h latency.Histogram
			for b.Loop() {
				h.Add(d)
			}
		})
	}
}
