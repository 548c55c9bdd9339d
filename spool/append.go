package spool

import (
	"errors"
	"fmt"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

// DefaultMaxRecordBytes is the length up to which a record is taken.
const DefaultMaxRecordBytes = 16 << 20

// maxAppendBytes bounds what one Append takes: it is one commit to one segment.
const maxAppendBytes = 64 << 20

// encoded is a record on its way to the disk.
type encoded struct {
	value []byte
	tie   uint32 // that value is sealed with
	class string
	at    int64
	twin  *twin // nil: it claims nothing
}

// bind ties the value to the place where it is going to lie.
func (e *encoded) bind(tie uint32) {
	retie(e.value, e.tie^tie)
	e.tie = tie
}

// Append stores the records, in their order, in one commit shared with every
// other caller that waits. It returns nil when they are durable: after fsync of
// the file, and of its directory where the file is new. It waits for the disk, a
// commit no longer than Options.Timeout.
//
// The records are encoded before Append waits; the caller may reuse their Data
// afterwards. Safe for concurrent use.
//
// A record with a twin is refused, and with it the whole call: one with its Key, or with
// its Lock while LockUntil has not passed, that is pending in this Spool, being appended, or
// earlier in the same call. What other processes hold is not known before it is adopted.
// Records that are not stored, or of which nobody can tell, claim nothing.
//
// Errors: [*TwinsError] for records with twins; [ErrMaybeStored] where nobody can tell; all others mean that nothing was
// stored, among them [ErrFull], [ErrTooLarge], [ErrStalled], [ErrClosed],
// [ErrAdoptOnly], and the disk's own.
func (s *Spool) Append(records ...Record) error {
	if s.writer == nil {
		return ErrAdoptOnly
	}
	if len(records) == 0 {
		return nil
	}
	batch := make([]encoded, len(records))
	sum, now, claims := 0, time.Now(), false
	for i := range records {
		r := &records[i]
		batch[i] = encoded{value: r.encode(), class: r.Class, at: unixNano(r.At), twin: newTwin(r, now)}
		claims = claims || batch[i].twin != nil
		n := len(batch[i].value)
		if limit := s.opts.MaxRecordBytes; limit >= 0 && n > limit {
			return fmt.Errorf("%w: a record of %d bytes, the limit is %d", ErrTooLarge, n, limit)
		}
		sum += n
	}
	if sum > maxAppendBytes && len(records) > 1 {
		return fmt.Errorf("%w: %d bytes in one call, the limit is %d", ErrTooLarge, sum, maxAppendBytes)
	}
	if claims {
		if err := s.claim(batch, now); err != nil {
			return err
		}
		defer s.twins.land(batch)
	}
	began := time.Now()
	err := s.writer.append(batch, sum)
	s.appends.Add(time.Since(began))
	return err
}

// commit writes records to the active segment, and where it can be told that the
// segment did not take them, to a new one. It runs on the appending lane.
func (s *Spool) commit(records []encoded) error {
	s.active.Lock()
	defer s.active.Unlock()
	if s.released {
		return ErrClosed
	}
	defer func(began time.Time) { s.commits.Add(time.Since(began)) }(time.Now())
	err := s.tryCommit(records)
	if errors.Is(err, errNotTaken) && !errors.Is(err, ErrFull) {
		err = s.tryCommit(records)
	}
	return err
}

// errNotTaken says that a segment surely did not take what a commit was to bring.
var errNotTaken = errors.New("nothing was stored")

// tryCommit writes records to the active segment; active is held.
func (s *Spool) tryCommit(records []encoded) error {
	seg, err := s.activeSegment()
	if err != nil {
		return fmt.Errorf("spool: new segment: %w", orFull(err))
	}
	used := seg.usedBytes()
	err = seg.append(records, s.room)
	switch {
	case errors.Is(err, ErrFull) && errors.Is(err, errNotTaken): // no fault of the segment
		if seg.state.Load().empty() {
			err = errors.Join(err, s.dropLocked(s.own, seg))
		}
		return fmt.Errorf("spool: append: %w", err)
	case err != nil:
		return s.commitFailed(seg, records, err)
	}
	s.nextSeq.Add(uint64(len(records)))
	s.appended.Add(int64(len(records)))
	grown := seg.usedBytes()
	s.growth.add(grown-used, time.Now())
	if grown >= s.opts.SegmentBytes {
		s.sealLocked(seg)
	}
	return nil
}

// sealLocked takes no more records into the active segment; active is held.
func (s *Spool) sealLocked(seg *segment) {
	s.active.seg = nil
	if err := errors.Join(seg.trim(), seg.close()); err != nil { // what was appended is durable all the same
		s.opts.Logger.Warn("spool: closing a full segment", "segment", seg.path, "err", err)
	}
}

// activeSegment returns the segment that takes records, a new one if need be; active
// is held.
func (s *Spool) activeSegment() (*segment, error) {
	if seg := s.active.seg; seg != nil && seg.inPlace() {
		return seg, nil
	}
	h := header{Owner: s.own.name, First: s.nextSeq.Load(), Target: s.opts.Target, Created: s.own.started}
	seg, err := createSegment(s.own.dir, h, s.opts.opening(), &s.twins.some, s.room)
	if err != nil {
		s.nextSeq.Add(1) // the name may be taken now, by a file that cannot be removed
		return nil, err
	}
	s.active.seg = seg
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own.segs = append(s.own.segs, seg)
	return seg, nil
}

// commitFailed retires the segment whose commit failed and finds out what is in
// it: bbolt may have written the records before the error. A later fsync that
// succeeds would prove nothing about earlier pages, so the segment takes no more.
// The sequence numbers are never given out again.
func (s *Spool) commitFailed(seg *segment, records []encoded, cause error) error {
	first := s.nextSeq.Load()
	s.nextSeq.Add(uint64(len(records)))
	s.active.seg = nil
	s.opts.Logger.Error("spool: a commit failed, its segment takes no more records", "segment", seg.path, "err", cause)
	err := seg.close()
	if !errors.Is(cause, errNotTaken) {
		st, rerr := readState(seg.path)
		if rerr != nil {
			return fmt.Errorf("%w: %w", ErrMaybeStored, errors.Join(cause, err, rerr))
		}
		if st.Next > first {
			seg.state.Store(st)
			s.appended.Add(int64(len(records)))
			return fmt.Errorf("%w: %w", ErrMaybeStored, errors.Join(cause, err))
		}
	}
	if seg.state.Load().empty() { // a failing disk must not fill with empty segments
		err = errors.Join(err, s.dropLocked(s.own, seg))
	}
	return errors.Join(fmt.Errorf("spool: append: %w: %w", errNotTaken, orFull(cause)), err)
}

// append adds records in one commit.
func (s *segment) append(records []encoded, room *room) error {
	record, twin := s.header.ties().of(kindRecord), s.header.ties().of(kindTwin)
	err := s.commit(appendCost(records)+s.tail.cost()+slack(), room, func(tx *bolt.Tx, st *state) error {
		b := tx.Bucket([]byte(bucketRecords))
		b.FillPercent = fillPercent
		for i := range records {
			r := &records[i]
			r.bind(record(st.Next))
			if err := b.Put(key(st.Next), r.value); err != nil {
				return err
			}
			flow := st.add(r.class, len(r.value), r.at)
			if r.twin != nil {
				t := *r.twin
				t.flow = flow
				if err := putTwin(tx, st.Next, t, twin(st.Next)); err != nil {
					return err
				}
				st.moves.claim(st.Next, t)
			}
			st.Next++
		}
		return nil
	})
	if err == nil {
		s.tail.add(records)
	}
	return err
}

// tail is the sizes of the last records of a segment: those that may share a page with the
// next one, and are written again with it. bbolt splits a page only when it holds more than
// four, however large they are.
type tail [4]int64

func (t *tail) add(records []encoded) {
	for i := range records {
		copy(t[:], t[1:])
		t[len(t)-1] = int64(len(records[i].value))
	}
}

// cost is how many bytes of pages they take at most.
func (t *tail) cost() int64 {
	cost := int64(0)
	for _, n := range t {
		cost += n + int64(os.Getpagesize())
	}
	return cost
}

// appendCost is how many bytes of pages a commit of these records takes at most: the
// records, what stays empty in their pages, and the path of pages above them.
func appendCost(records []encoded) int64 {
	page := int64(os.Getpagesize())
	cost := slack()
	for i := range records {
		r := &records[i]
		const entry = 24 // bbolt's element and key
		if r.twin != nil {
			cost += int64(twinSize+entry) * 5 / 4
		}
		n := int64(len(r.value)) + entry
		cost += n + n/4
		if n > page/8 {
			cost += page
		}
	}
	return cost
}
