package bench_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// One page of a replay, as queue reads it.
const (
	pageRecords = 500
	pageBytes   = 512 << 10
)

// BenchmarkAppend: so many callers, each waiting for its own append.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64, 256, 1024} {
		for _, st := range stores { // next to each other in time
			b.Run(fmt.Sprintf("store=%s/callers=%d", st.name, callers), func(b *testing.B) {
				s, err := st.open(b.TempDir())
				if err != nil {
					b.Fatal(err)
				}
				benchAppend(b, s, callers)
			})
		}
	}
}

// BenchmarkAppendTwins: what it costs to look for twins, where there are none.
func BenchmarkAppendTwins(b *testing.B) {
	for _, claims := range []string{"none", "key", "lock", "key and lock"} {
		b.Run(fmt.Sprintf("claims=%s/callers=64", claims), func(b *testing.B) {
			s := open(b, spoolOptions(b.TempDir()))
			benchAppend(b, &claimingStore{spoolStore: spoolStore{s}, claims: claims}, 64)
		})
	}
}

// claimingStore gives each record a key or a lock of its own.
type claimingStore struct {
	spoolStore
	claims string
	last   atomic.Int64
}

func (s *claimingStore) append(rec []byte) error {
	r := spoolRecord(rec)
	name := strconv.FormatInt(s.last.Add(1), 10)
	if strings.Contains(s.claims, "key") {
		r.Key = name
	}
	if strings.Contains(s.claims, "lock") {
		r.Lock, r.LockUntil = name, time.Now().Add(time.Hour)
	}
	return s.Append(r)
}

// BenchmarkAppendAfterDrain: what an outage leaves behind must not slow down the
// next one.
func BenchmarkAppendAfterDrain(b *testing.B) {
	b.Run("store=spool/callers=1", func(b *testing.B) {
		const n = 50_000
		s := open(b, spoolOptions(b.TempDir()))
		fill(b, s, n, 5000)
		drain(b, s, n)
		benchAppend(b, spoolStore{s}, 1)
	})
}

// benchAppend times b.N appends by so many callers, and closes the store. The
// first append of all, which may make files, is not timed.
func benchAppend(b *testing.B, s store, callers int) {
	b.Helper()
	if err := s.append(record(0)); err != nil {
		b.Fatal(err)
	}
	var ticket atomic.Int64
	start := make(chan struct{})
	ended := make(chan error)
	for range callers {
		go func() {
			<-start
			for {
				n := ticket.Add(1)
				if n > int64(b.N) {
					ended <- nil
					return
				}
				if err := s.append(record(int(n))); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	clean()
	b.ResetTimer()
	close(start)
	var err error
	for range callers {
		err = errors.Join(err, <-ended)
	}
	b.StopTimer()
	if err := errors.Join(err, s.close()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

// BenchmarkReadSettle: a replay whose destination takes no time.
func BenchmarkReadSettle(b *testing.B) {
	const n = 1_000_000
	for _, cache := range []string{"warm", "cold"} {
		b.Run("cache="+cache, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				dir := b.TempDir()
				s := open(b, spoolOptions(dir))
				fill(b, s, n, 1000)
				if cache == "cold" {
					closeSpool(b, s)
					coldCache(b, dir)
					s = adopt(b, dir, n)
				}
				clean()
				b.StartTimer()
				drain(b, s, n)
				b.StopTimer()
				discard(b, s, dir)
				b.StartTimer()
			}
			reportRate(b, n)
		})
	}
}

// The two sizes of a backlog whose rates are compared.
func backlogs() []int { return []int{100_000, 5_000_000} }

// recordsPerCall is how many records one Append of a growing backlog takes.
const recordsPerCall = 100

// BenchmarkAppendRate: a backlog grows. It reports what the backlog costs, too:
// disk beyond the records' own bytes, and memory.
func BenchmarkAppendRate(b *testing.B) {
	for _, n := range backlogs() {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				dir := b.TempDir()
				memory := anonMemory(b)
				s := open(b, spoolOptions(dir))
				clean()
				b.StartTimer()
				fill(b, s, n, recordsPerCall)
				b.StopTimer()
				reportMemory(b, memory)
				reportDisk(b, dir, n)
				discard(b, s, dir)
				b.StartTimer()
			}
			reportRate(b, n)
		})
	}
}

// BenchmarkSettleRate: a backlog is read and settled.
func BenchmarkSettleRate(b *testing.B) {
	for _, n := range backlogs() {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				dir := b.TempDir()
				s := open(b, spoolOptions(dir))
				fill(b, s, n, recordsPerCall)
				memory := anonMemory(b)
				clean()
				b.StartTimer()
				drain(b, s, n)
				b.StopTimer()
				reportMemory(b, memory)
				discard(b, s, dir)
				b.StartTimer()
			}
			reportRate(b, n)
		})
	}
}

// BenchmarkOpen: Open and Adopt over what a dead owner left: 5,000,000 records,
// in segments of the default size and in four times as many.
func BenchmarkOpen(b *testing.B) {
	const n = 5_000_000
	for _, mib := range []int64{spool.DefaultSegmentBytes >> 20, spool.DefaultSegmentBytes >> 22} {
		b.Run(fmt.Sprintf("segment=%dMiB", mib), func(b *testing.B) {
			dir := b.TempDir()
			opts := spoolOptions(dir)
			opts.SegmentBytes = mib << 20
			s := open(b, opts)
			fill(b, s, n, 1000)
			closeSpool(b, s)
			for _, cache := range []string{"warm", "cold"} {
				b.Run("cache="+cache, func(b *testing.B) { benchOpen(b, dir, n, cache == "cold") })
			}
		})
	}
}

func benchOpen(b *testing.B, dir string, n int, cold bool) {
	b.Helper()
	for b.Loop() {
		b.StopTimer()
		if cold {
			coldCache(b, dir)
		}
		clean()
		b.StartTimer()
		s := adopt(b, dir, n)
		b.StopTimer()
		closeSpool(b, s)
		b.StartTimer()
	}
	segments, err := filepath.Glob(filepath.Join(dir, "*", "*.seg"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(segments)), "segments")
}

func open(b *testing.B, opts spool.Options) *spool.Spool {
	b.Helper()
	s, err := spool.Open(opts)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// adopt opens a Spool on the n records that a dead owner left in dir.
func adopt(b *testing.B, dir string, n int) *spool.Spool {
	b.Helper()
	opts := spoolOptions(dir)
	opts.AdoptOnly = true
	s := open(b, opts)
	if got, err := s.Adopt(); err != nil || got != n {
		b.Fatalf("adopted %d records of %d: %v", got, n, err)
	}
	return s
}

func closeSpool(b *testing.B, s *spool.Spool) {
	b.Helper()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// discard closes s and removes its files now, not at the end of the benchmark:
// there may be gigabytes.
func discard(b *testing.B, s *spool.Spool, dir string) {
	b.Helper()
	closeSpool(b, s)
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
}

// fill appends n records, so many per call.
func fill(b *testing.B, s *spool.Spool, n, perCall int) {
	b.Helper()
	call := make([]spool.Record, perCall)
	for done := 0; done < n; done += len(call) {
		call = call[:min(perCall, n-done)]
		for i := range call {
			call[i] = spoolRecord(record(done + i))
		}
		if err := s.Append(call...); err != nil {
			b.Fatal(err)
		}
	}
}

// drain reads and settles what is pending, which must be n records.
func drain(b *testing.B, s *spool.Spool, n int) {
	b.Helper()
	settlements := make([]spool.Settlement, 0, pageRecords)
	r := s.Reader(spool.FlowOf(spoolRecord(record(0)).Class))
	for done := 0; ; done += len(settlements) {
		entries, err := r.Read(pageRecords, pageBytes)
		if err != nil {
			b.Fatal(err)
		}
		if len(entries) == 0 {
			if done != n {
				b.Fatalf("drained %d records of %d", done, n)
			}
			return
		}
		settlements = settlements[:0]
		for _, e := range entries {
			settlements = append(settlements, spool.Settlement{Position: e.Position, Outcome: spool.Delivered})
		}
		if err := s.Settle(settlements...); err != nil {
			b.Fatal(err)
		}
	}
}

// clean makes neither the disk nor the collector owe anything for the setup.
func clean() {
	flushDisk()
	runtime.GC()
}

func coldCache(b *testing.B, dir string) {
	b.Helper()
	switch err := dropCache(dir); {
	case errors.Is(err, errors.ErrUnsupported):
		b.Skip("this system's page cache cannot be dropped")
	case err != nil:
		b.Fatal(err)
	}
}
