package spool

import "time"

// Stats is what a Spool holds and what it has done since it was opened.
type Stats struct {
	Pending      int       // records that wait
	PendingBytes int64     // their encoded size
	Oldest       time.Time // when the oldest pending record was accepted; zero without one
	DeadLetters  int       // records set aside

	Appended int64 // records that Append made durable
	Adopted  int64 // pending records that came with adopted owners

	// Settled counts records by outcome. Appended + Adopted equals the sum of the
	// final outcomes and Pending.
	Settled map[Outcome]int64

	Owners  int      // shares held, its own included
	Foreign int      // owners of another target seen by the last Adopt
	Bad     []string // segments that could not be read: owner/file: reason
}

// Stats reports what the Spool holds. The counts are those of the last commits;
// only Oldest needs a read. After Close it returns the last counts.
func (s *Spool) Stats() Stats {
	s.reading.Lock()
	defer s.reading.Unlock()
	st := Stats{Appended: s.appended.Load(), Adopted: s.adoptions.Load(), Settled: map[Outcome]int64{}}
	for o := range s.settled {
		st.Settled[Outcome(o)] = s.settled[o].Load()
	}
	for _, o := range s.owners() {
		st.Owners++
		for _, seg := range s.segments(o) {
			m := seg.meta.Load()
			if m.pending() > 0 && st.Oldest.IsZero() && !s.closed {
				st.Oldest = seg.oldest()
			}
			st.Pending += m.pending()
			st.PendingBytes += int64(m.PendingBytes)
			st.DeadLetters += int(m.Counts[Dead])
		}
		s.mu.Lock()
		st.Bad = append(st.Bad, o.bad...)
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Foreign = s.foreign
	return st
}

// oldest returns when the segment's first pending record was accepted, or zero.
func (s *segment) oldest() time.Time {
	entries, _, err := s.read("", 1, 0)
	if err != nil || len(entries) == 0 {
		return time.Time{}
	}
	return entries[0].At
}

// Mark is a point in the order of records.
type Mark struct {
	seq uint64
}

// Mark returns the point behind everything that is pending now.
func (s *Spool) Mark() Mark {
	s.active.Lock()
	defer s.active.Unlock()
	return Mark{seq: s.nextSeq}
}

// Before returns how many records before the mark are pending, adopted ones
// included.
func (s *Spool) Before(m Mark) int {
	n := 0
	for _, o := range s.owners() {
		for _, seg := range s.segments(o) {
			if o == s.own {
				n += seg.meta.Load().pendingBefore(m.seq)
			} else {
				n += seg.meta.Load().pending()
			}
		}
	}
	return n
}
