package spool

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

const (
	// maxCommitBytes bounds what one commit takes, so that one large caller does
	// not make all others wait.
	maxCommitBytes = 8 << 20

	// regroup is how long the writer yields to the callers it has just woken, so
	// that the next commit holds as many as the last. Longest useful wait as
	// measured for design.md; about one fsync.
	regroup = 100 * time.Microsecond
)

// appendCall is one waiting Append.
type appendCall struct {
	records [][]byte
	size    int
	done    chan error // buffered: the writer never waits for a caller
}

// writer is the one goroutine that appends. It takes all waiting callers into one
// commit and wakes them when that is durable.
type writer struct {
	commit func([][]byte) error
	ended  chan struct{}

	mu      sync.Mutex
	cond    *sync.Cond // signals waiting and closed
	waiting []*appendCall
	closed  bool
}

func startWriter(commit func([][]byte) error) *writer {
	w := &writer{commit: commit, ended: make(chan struct{})}
	w.cond = sync.NewCond(&w.mu)
	go w.run()
	return w
}

// append waits until the records are durable, or could not be made so.
func (w *writer) append(records [][]byte) error {
	c := &appendCall{records: records, done: make(chan error, 1)}
	for _, r := range records {
		c.size += len(r)
	}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return ErrClosed
	}
	w.waiting = append(w.waiting, c)
	w.cond.Signal()
	w.mu.Unlock()
	return <-c.done
}

// close lets the calls that wait be written and ends the goroutine.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.cond.Signal()
	w.mu.Unlock()
	<-w.ended
}

func (w *writer) run() {
	defer close(w.ended)
	last := 0
	for {
		calls := w.next(last)
		if calls == nil {
			return
		}
		last = len(calls)
		var records [][]byte
		for _, c := range calls {
			records = append(records, c.records...)
		}
		err := w.commit(records)
		for _, c := range calls {
			c.done <- err
		}
	}
}

// next waits for calls and takes as many as fit one commit. It yields for a
// moment while fewer are back than the last commit had. It returns nil when the
// writer is closed and nobody waits.
func (w *writer) next(last int) []*appendCall {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.waiting) == 0 {
		if w.closed {
			return nil
		}
		w.cond.Wait()
	}
	for end := time.Now().Add(regroup); len(w.waiting) < last && time.Now().Before(end); {
		w.mu.Unlock()
		runtime.Gosched()
		w.mu.Lock()
	}
	n, size := 0, 0
	for ; n < len(w.waiting); n++ {
		size += w.waiting[n].size
		if n > 0 && size > maxCommitBytes {
			break
		}
	}
	calls := w.waiting[:n:n]
	w.waiting = w.waiting[n:]
	return calls
}

// Append stores the records, in their order, in one commit shared with every
// other caller that waits. It returns nil when they are durable: after fsync of
// the file, and of its directory where the file is new. It waits as long as the
// disk takes.
//
// The records are encoded before Append waits; the caller may reuse their Data
// afterwards. Safe for concurrent use.
//
// Errors: [ErrClosed], [ErrAdoptOnly], [ErrMaybeStored], or the cause for which
// nothing was stored.
func (s *Spool) Append(records ...Record) error {
	if s.writer == nil {
		return ErrAdoptOnly
	}
	if len(records) == 0 {
		return nil
	}
	encoded := make([][]byte, len(records))
	for i, r := range records {
		encoded[i] = r.encode()
	}
	return s.writer.append(encoded)
}

// commit writes records to the active segment. Only the writer calls it.
func (s *Spool) commit(records [][]byte) error {
	s.active.Lock()
	defer s.active.Unlock()
	seg, err := s.activeSegment()
	if err != nil {
		return fmt.Errorf("spool: new segment: %w", err)
	}
	size, err := seg.append(records)
	if err != nil {
		return s.commitFailed(seg, len(records), err)
	}
	s.nextSeq += uint64(len(records))
	s.appended.Add(int64(len(records)))
	if size >= s.opts.SegmentBytes {
		s.active.seg = nil
		if err := seg.close(); err != nil { // what was appended is durable all the same
			s.opts.Logger.Warn("spool: closing a full segment", "segment", seg.path, "err", err)
		}
	}
	return nil
}

// activeSegment returns the segment that takes records, a new one if need be.
func (s *Spool) activeSegment() (*segment, error) {
	if s.active.seg != nil {
		return s.active.seg, nil
	}
	seg, err := createSegment(s.own.dir, s.nextSeq, s.opts.mmapBytes())
	if err != nil {
		return nil, err
	}
	s.active.seg = seg
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own.segs = append(s.own.segs, seg)
	return seg, nil
}

// commitFailed retires the segment whose commit failed and finds out what is in
// it: bbolt may have written the records before the error (H23). Their sequence
// numbers are never given out again.
func (s *Spool) commitFailed(seg *segment, n int, cause error) error {
	first := s.nextSeq
	s.nextSeq += uint64(n)
	s.active.seg = nil
	stored, err := seg.has(first)
	switch {
	case err != nil || stored:
		return errors.Join(fmt.Errorf("%w: %w", ErrMaybeStored, errors.Join(cause, err)), seg.close())
	case seg.meta.Load().empty():
		err = s.dropLocked(s.own, seg) // a full disk must not fill with empty segments
	default:
		err = seg.close()
	}
	return errors.Join(fmt.Errorf("spool: append: %w", cause), err)
}
