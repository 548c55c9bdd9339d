// Package latency counts how long operations take, cheaply enough for each of them: an
// addition is a few nanoseconds, without a lock and without a byte on the heap.
//
// The package makes no compatibility promise before v1.
package latency

import (
	"sync/atomic"
	"time"
)

// bounds are the upper bounds of the buckets, each about 2.5 times the one before: from what
// an fsync takes on a good disk to what a hanging one is given.
//
//nolint:gochecknoglobals // a constant, were there constant arrays
var bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	1 * time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	1 * time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Histogram counts durations by size. The zero value is empty and ready. It must not be
// copied. Safe for concurrent use.
type Histogram struct {
	counts [len(bounds) + 1]atomic.Uint64 // the last one: longer than all bounds
	nanos  atomic.Int64
}

// Add counts one duration; a negative one, of a clock that was set, counts as zero.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.nanos.Add(int64(d))
}

// Snapshot returns what was counted so far. Durations that are added meanwhile may be in Sum
// and not in the buckets.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{Buckets: make([]Bucket, len(bounds))}
	for i, b := range bounds {
		s.Count += h.counts[i].Load()
		s.Buckets[i] = Bucket{UpTo: b, Count: s.Count}
	}
	s.Count += h.counts[len(bounds)].Load()
	s.Sum = time.Duration(h.nanos.Load())
	return s
}

// Snapshot is what a Histogram had counted at some time.
type Snapshot struct {
	Buckets []Bucket // from short to long; always the same bounds
	Count   uint64   // of all durations, those beyond the last bucket included
	Sum     time.Duration
}

// Bucket counts the durations up to a bound, those of the buckets before included.
type Bucket struct {
	UpTo  time.Duration
	Count uint64
}
