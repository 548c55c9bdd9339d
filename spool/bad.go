package spool

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// badSegment is a segment that cannot be used. It stays on disk as it is, and the next
// Adopt tries again.
type badSegment struct {
	reason string       // for people; written on reading only, with Spool.mu held
	known  *state       // as last seen in use, and in the books; nil: it never was in use
	owed   []Settlement // of its records; used on reading only
}

// owe takes settlements that are to be recorded once the segment can be used again: what
// was read of it before need not be read again.
func (b *badSegment) owe(batch []Settlement) error {
	b.owed = append(b.owed, batch...)
	return nil
}

// refuse says that nothing can be done with its records.
func (b *badSegment) refuse([]Settlement) error {
	return fmt.Errorf("spool: a segment cannot be used: %s", b.reason)
}

// badSegment returns what is known of a segment that cannot be used, or nil.
func (s *Spool) badSegment(o *owner, path string) *badSegment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return o.bad[path]
}

// giveUp stops using a segment that fails.
func (s *Spool) giveUp(o *owner, seg *segment, cause error) {
	s.retire(seg)
	s.forget(o, seg)
	s.reportBad(o, seg.path, &badSegment{known: seg.state.Load()}, errors.Join(cause, seg.close()))
}

// reportBad notes that a segment cannot be used, and logs that once.
func (s *Spool) reportBad(o *owner, path string, bad *badSegment, cause error) {
	s.mu.Lock()
	text := filepath.Join(o.name, filepath.Base(path)) + ": " + cause.Error()
	known := bad.reason == text
	bad.reason = text
	o.bad[path] = bad
	s.mu.Unlock()
	if !known {
		s.opts.Logger.Error("spool: a segment cannot be read, its records are kept and not replayed", "segment", path, "err", cause)
	}
}

// retryBad tries the segments again that could not be used.
func (s *Spool) retryBad() (records int) {
	for _, o := range s.owners() {
		s.mu.Lock()
		paths := slices.Sorted(maps.Keys(o.bad))
		s.mu.Unlock()
		for _, path := range paths {
			records += s.enrol(o, path)
		}
		s.tidy(s.releaseIfEmpty(o))
	}
	return records
}

// enrol adds a segment to a share, salvaging it first if it is damaged, and returns how
// many records it has pending. What is owed is settled before anybody can read it.
func (s *Spool) enrol(o *owner, path string) (records int) {
	bad := cmp.Or(s.badSegment(o, path), &badSegment{})
	seg, err := openSegment(path, s.opts.opening(), &s.twins.some)
	var kept, unreadable int
	if err == nil {
		kept, err = seg.pay(bad.owed)
	}
	if errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
		var report Quarantined
		if report, err = s.salvage(o, seg, err); err == nil {
			unreadable = report.Unreadable
			kept, err = seg.pay(bad.owed)
		}
	}
	if err != nil {
		seg.claims.clear()
		s.reportBad(o, path, bad, err)
		return 0
	}
	st := seg.state.Load()
	records = st.pending()
	if bad.known != nil {
		s.book(bad.known, st)
		s.settled[Kept].Add(int64(kept))
	} else {
		s.adoptions.Add(int64(records + unreadable))
		s.settled[Unreadable].Add(int64(unreadable))
	}
	s.mu.Lock()
	delete(o.bad, path)
	o.segs = append(o.segs, seg)
	slices.SortFunc(o.segs, func(a, b *segment) int { return cmp.Compare(a.path, b.path) })
	s.mu.Unlock()
	s.tidy(s.shrink(o, seg, nil))
	return records
}

// pay settles what is owed, and leaves the segment closed. It returns how many records were
// Kept.
func (s *segment) pay(owed []Settlement) (kept int, err error) {
	if len(owed) == 0 {
		return 0, nil
	}
	done, err := s.settle(owed, time.Now())
	return done[Kept], errors.Join(err, s.close())
}

// book brings a segment's share of the books up to date: a commit that failed may have
// brought or settled something all the same, and salvage may have lost something.
func (s *Spool) book(before, after *state) {
	s.appended.Add(int64(after.Next - before.Next))
	for o, n := range after.Counts {
		s.settled[o].Add(int64(n) - int64(before.Counts[o]))
	}
}
