package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// Read returns the oldest pending records, adopted ones first, at most count and,
// but for the first, at most size bytes. All come from one segment. They stay
// pending until settled: the next Read returns them again. The entries are
// copies and belong to the caller. No entries and no error: nothing is pending.
//
// To read on without waiting for what was read to be settled, or flow by flow, use a
// [Reader]. A segment that turns out to be damaged is salvaged first.
func (s *Spool) Read(count, size int) ([]Entry, error) {
	return exclusively(s, func() ([]Entry, error) {
		for _, o := range s.owners() {
			for _, seg := range s.segments(o) {
				if seg.state.Load().pending() == 0 {
					continue
				}
				s.use(seg)
				entries, err := mending(s, o, seg, func() ([]Entry, error) { return seg.read(o.name, count, size) })
				if err != nil || len(entries) > 0 {
					return entries, err
				}
			}
		}
		return nil, nil
	})
}

// maxHeads is how many segments are kept open to be read from: in each, another flow may
// have its oldest records.
const maxHeads = 16

// use notes that a segment is being read, and closes those that have not been for long:
// few files are open at a time.
func (s *Spool) use(seg *segment) {
	if len(s.heads) > 0 && s.heads[0] == seg {
		return
	}
	known := slices.Contains(s.heads, seg)
	heads := []*segment{seg}
	for _, h := range s.heads {
		if h != seg && len(heads) < maxHeads && h.state.Load().pending() > 0 {
			heads = append(heads, h)
		}
	}
	old := s.heads
	s.heads = heads
	for _, h := range old {
		if !slices.Contains(heads, h) {
			h.index = nil
			s.closeIdle(h)
		}
	}
	if !known {
		seg.readAhead()
	}
}

// read returns copies of the oldest pending records, at most count and, but for the first,
// at most size bytes.
func (s *segment) read(owner string, count, size int) (entries []Entry, err error) {
	st := s.state.Load() // before the transaction: that may know more, never less
	err = s.view(func(tx *bolt.Tx) error {
		taken := newTaker(s, owner, tx, count, size)
		err := s.walk(tx, st, 0, taken.take)
		entries = taken.entries
		if err == nil && len(entries) == 0 && st.pending() > 0 {
			err = fmt.Errorf("%w: %d pending records are missing", ErrDamaged, st.pending())
		}
		return err
	})
	return entries, err
}

// walk calls fn for the pending records from a number on, in order, until that returns
// false. What it is given dies with the transaction.
func (s *segment) walk(tx *bolt.Tx, st *state, from uint64, fn func(k, v []byte, attempts int) (more bool, err error)) error {
	records := tx.Bucket([]byte(bucketRecords))
	held, tail := tx.Bucket([]byte(bucketHeld)).Cursor(), records.Cursor()
	ties := s.header.ties()
	heldTie, tie := ties.of(kindHeld), ties.of(kindRecord)
	hk, hv := held.Seek(key(from))
	k, v := tail.Seek(key(max(from, st.Flows.low(st.Next))))
	for more := true; more; {
		var err error
		switch {
		case hk != nil && (k == nil || bytes.Compare(hk, k) <= 0):
			attempts := 0
			value := records.Get(hk)
			if value == nil || len(hk) != 8 {
				return fmt.Errorf("%w: record %x is missing", ErrDamaged, hk)
			}
			if attempts, err = decodeHeld(hv, heldTie(binary.BigEndian.Uint64(hk))); err == nil {
				more, err = fn(hk, value, attempts)
			}
			hk, hv = held.Next()
		case k != nil && bytes.Compare(k, key(st.Next)) < 0:
			var awaited bool
			if awaited, err = awaits(st, k, v, tie); awaited && err == nil {
				more, err = fn(k, v, 0)
			}
			k, v = tail.Next()
		case k != nil:
			return s.checkEnd(tx, k)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkEnd returns an error for the key of a record that was never appended: behind it there
// may be others. The state that a reader has may be older than its transaction.
func (s *segment) checkEnd(tx *bolt.Tx, k []byte) error {
	st, err := decodeState(tx.Bucket([]byte(bucketMeta)).Get([]byte(keyState)), s.header.ties())
	if err == nil && bytes.Compare(k, key(st.Next)) >= 0 {
		err = fmt.Errorf("%w: record %x, the last is %d", ErrDamaged, k, st.Next-1)
	}
	return err
}

// awaits reports whether a record that is not held is pending.
func awaits(st *state, k, v []byte, tie func(uint64) uint32) (bool, error) {
	if len(k) != 8 {
		return false, fmt.Errorf("%w: record %x", ErrDamaged, k)
	}
	seq := binary.BigEndian.Uint64(k)
	if len(st.Flows) == 1 {
		return seq >= st.Flows[0].watermark, nil
	}
	r, err := decodeRecord(v, tie(seq))
	if err != nil {
		return false, fmt.Errorf("record %d: %w", seq, err)
	}
	return st.awaits(r.Class, seq), nil
}

// taker makes entries of records up to a count and, but for the first, a size.
type taker struct {
	*batch
	count, size int
	some        bool // there was a first
	entries     []Entry
}

func newTaker(s *segment, owner string, tx *bolt.Tx, count, size int) *taker {
	return &taker{batch: newBatch(s, owner, tx), count: count, size: size}
}

// take reports whether there is room for more.
func (t *taker) take(k, v []byte, attempts int) (more bool, err error) {
	if t.some && len(v) > t.size {
		return false, nil
	}
	e, err := t.decode(k, v)
	if err != nil {
		return false, err
	}
	e.Attempts = attempts
	t.some = true
	t.size -= len(v)
	t.entries = append(t.entries, e)
	return len(t.entries) < t.count, nil
}

// batch makes entries of records. What they point to lies in slabs of many records: a
// few allocations instead of several for each.
type batch struct {
	owner   string
	segment uint64
	records *bolt.Cursor
	tie     func(seq uint64) uint32
	last    uint64 // sequence number of the entry before
	slab    []byte
}

// slabBytes is how much of the records' bytes is allocated at a time.
const slabBytes = 64 << 10

func newBatch(s *segment, owner string, tx *bolt.Tx) *batch {
	return &batch{
		owner: owner, segment: s.header.First, tie: s.header.ties().of(kindRecord),
		records: tx.Bucket([]byte(bucketRecords)).Cursor(),
	}
}

// entry returns the record with a key that another bucket has.
func (b *batch) entry(k []byte) (Entry, error) {
	if len(k) != 8 {
		return Entry{}, fmt.Errorf("%w: a key of %d bytes", ErrDamaged, len(k))
	}
	rk, v := b.records.Seek(k)
	if !bytes.Equal(rk, k) {
		return Entry{}, fmt.Errorf("%w: record %x is missing", ErrDamaged, k)
	}
	return b.decode(k, v)
}

func (b *batch) decode(k, v []byte) (Entry, error) {
	if len(k) != 8 {
		return Entry{}, fmt.Errorf("%w: record %x", ErrDamaged, k)
	}
	seq := binary.BigEndian.Uint64(k)
	if seq <= b.last { // Settle would not find it
		return Entry{}, fmt.Errorf("%w: record %d behind record %d", ErrDamaged, seq, b.last)
	}
	b.last = seq
	if cap(b.slab)-len(b.slab) < len(v) {
		b.slab = make([]byte, 0, max(slabBytes, len(v)))
	}
	n := len(b.slab)
	b.slab = append(b.slab, v...)
	r, err := decodeRecord(b.slab[n:len(b.slab):len(b.slab)], b.tie(seq))
	if err != nil {
		return Entry{}, fmt.Errorf("record %d: %w", seq, err)
	}
	at := Position{owner: b.owner, segment: b.segment, seq: seq, size: len(v), class: r.Class}
	return Entry{Record: r, Position: at}, nil
}

// readAhead asks for the segment to be read into the page cache.
func (s *segment) readAhead() {
	_ = s.withDB(func(*bolt.DB) error { // what goes wrong here shows when it is read
		readAhead(s.file, 0, s.blocks.size.Load())
		return nil
	})
}
