package spool

import (
	"errors"
	"fmt"
	"os"
)

// compactAbove is the size up to which a segment is not worth compacting.
const compactAbove = 1 << 20

// shrink gives back disk space after a batch was settled: a segment that holds nothing is
// unlinked, one that holds little is written anew.
func (s *Spool) shrink(o *owner, seg *segment, batch []Settlement) error {
	s.active.Lock() // no append while we look
	defer s.active.Unlock()
	switch st := seg.state.Load(); {
	case st.empty():
		return s.dropLocked(o, seg)
	case (st.allHeld() || s.active.seg != seg && st.stays(batch)) && seg.sparse():
		if s.active.seg == seg {
			s.active.seg = nil
		}
		return s.compact(seg)
	}
	return nil
}

// stays reports whether what is pending will stay for a while: those flows of which a
// batch was settled have nothing to come.
func (st *state) stays(batch []Settlement) bool {
	for i := range batch {
		if f := st.Flows.of(batch[i].Position.class); f >= 0 && st.Flows[f].pending > 0 && st.Flows[f].watermark < st.Next {
			return false
		}
	}
	return len(batch) > 0
}

// sparse reports whether most of the file is taken by what is settled.
func (s *segment) sparse() bool {
	st := s.state.Load()
	used := s.usedBytes()
	return used > compactAbove && int64(st.PendingBytes+st.DeadBytes)*4 < used
}

// compact writes a segment anew, without what is settled. On a full disk it stays as it
// is.
func (s *Spool) compact(seg *segment) error {
	b, err := newBuilder(seg.path, seg.header)
	if err == nil {
		err = b.copy(seg, func(step func() error) error { return step() })
	}
	if err == nil {
		err = errors.Join(seg.close(), b.publish(seg.path))
	}
	if err != nil && b != nil {
		err = errors.Join(err, b.discard())
	}
	if errors.Is(err, ErrFull) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("spool: compact: %w", err)
	}
	return nil
}

// drop unlinks a segment.
func (s *Spool) drop(o *owner, seg *segment) error {
	s.active.Lock()
	defer s.active.Unlock()
	return s.dropLocked(o, seg)
}

// dropLocked unlinks a segment; active is held.
func (s *Spool) dropLocked(o *owner, seg *segment) error {
	if s.active.seg == seg {
		s.active.seg = nil
	}
	s.forget(o, seg)
	if err := seg.remove(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("spool: remove segment: %w", err)
	}
	return nil
}
