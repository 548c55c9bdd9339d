package spool

import (
	"maps"
	"slices"
	"time"

	"github.com/jobspool/jobspool/spool/latency"
)

// Stats is what a Spool holds and what it has done since it was opened.
type Stats struct {
	Pending      int                   // records that wait
	PendingBytes int64                 // their encoded size
	Oldest       time.Time             // when the oldest pending record was accepted; zero without one
	DeadLetters  int                   // records set aside
	Classes      map[string]ClassStats // of pending records; "" for those of a class that is not counted apart

	Appended int64 // records that Append made durable
	Adopted  int64 // records that were pending in adopted owners, readable or not
	Retried  int64 // dead letters made pending again

	// Settled counts records by outcome. Appended + Adopted + Retried equals the sum
	// of the final outcomes and Pending, as long as Bad is empty.
	Settled map[Outcome]int64

	UsedBytes int64         // disk blocks of everything in the SpoolDir, at the last look
	LeftBytes int64         // that Append may still reserve, at the last look
	FullIn    time.Duration // until then, at the rate of the last minute; zero if nothing is appended

	Owners      int      // shares held, its own included
	Orphans     int      // of Owners: adopted ones
	Foreign     int      // owners of other targets seen by the last Adopt
	Bad         []string // segments that cannot be used: owner/file: reason
	Quarantined int64    // damaged segments put into quarantine
	Stalled     bool     // the disk does not answer
}

// ClassStats is what is pending of one class.
type ClassStats struct {
	Pending int
	Bytes   int64
	Oldest  time.Time // no record was accepted before
}

// Stats reports what the Spool holds, as of the last commits. It never touches the
// disk: the space that is taken and left is what the last reservation of blocks or the
// last Adopt saw. After Close it returns the last counts.
func (s *Spool) Stats() Stats {
	st := Stats{
		Appended: s.appended.Load(), Adopted: s.adoptions.Load(), Retried: s.retried.Load(),
		Settled: map[Outcome]int64{}, Classes: map[string]ClassStats{},
		Quarantined: s.quarantined.Load(), Stalled: s.appending.stalled() || s.reading.stalled(),
	}
	for o := range s.settled {
		st.Settled[Outcome(o)] = s.settled[o].Load()
	}
	st.UsedBytes, st.LeftBytes = s.room.seen()
	st.FullIn = s.growth.until(st.LeftBytes, time.Now())
	for _, o := range s.owners() {
		st.Owners++
		if o != s.own {
			st.Orphans++
		}
		for _, seg := range s.segments(o) {
			st.add(seg.state.Load())
		}
		s.mu.Lock()
		for _, path := range slices.Sorted(maps.Keys(o.bad)) {
			st.Bad = append(st.Bad, o.bad[path].reason)
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Foreign = s.foreign
	return st
}

// add counts what a segment holds.
func (st *Stats) add(seg *state) {
	st.Pending += seg.pending()
	st.PendingBytes += int64(seg.PendingBytes)
	st.DeadLetters += int(seg.Counts[Dead])
	if seg.pending() > 0 {
		st.Oldest = earlier(st.Oldest, timeOf(seg.Oldest))
	}
	for _, c := range seg.Classes {
		if c.pending == 0 {
			continue
		}
		class := st.Classes[c.class]
		class.Pending += int(c.pending)
		class.Bytes += int64(c.bytes)
		class.Oldest = earlier(class.Oldest, timeOf(max(c.first, seg.Oldest)))
		st.Classes[c.class] = class
	}
}

// Latencies are how long things took that went to the disk, whatever came of them.
type Latencies struct {
	Append latency.Snapshot // calls of Append, from when the records were encoded
	Commit latency.Snapshot // commits of what was appended; many calls share one
}

// Latencies reports how long appending took since the Spool was opened.
func (s *Spool) Latencies() Latencies {
	return Latencies{Append: s.appends.Snapshot(), Commit: s.commits.Snapshot()}
}

// earlier returns the earlier of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Mark is a point in the order of records.
type Mark struct {
	seq uint64
}

// Mark returns the point behind everything that is pending now. What comes next goes to
// another segment: a segment counts what it holds as a whole.
//
// Errors: [ErrClosed], [ErrStalled].
func (s *Spool) Mark() (m Mark, err error) {
	m, _, err = run(s.appending, func() (Mark, error) {
		s.active.Lock()
		defer s.active.Unlock()
		if s.closed.Load() {
			return Mark{}, ErrClosed
		}
		if seg := s.active.seg; seg != nil && !seg.isNew() {
			s.sealLocked(seg)
		}
		return Mark{seq: s.nextSeq.Load()}, nil
	})
	return m, err
}

// Before returns how many records before the mark are pending, adopted ones
// included.
func (s *Spool) Before(m Mark) (n int) {
	for _, o := range s.owners() {
		for _, seg := range s.segments(o) {
			if first, _ := firstOf(seg.path); o != s.own || first < m.seq {
				n += seg.state.Load().pending()
			}
		}
	}
	return n
}
