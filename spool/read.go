package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Read returns the oldest pending records, adopted ones first, at most count and,
// but for the first, at most size bytes. All come from one segment. They stay
// pending until settled: the next Read returns them again. The entries are
// copies and belong to the caller. No entries and no error: nothing is pending.
//
// A segment that turns out to be damaged is salvaged first.
func (s *Spool) Read(count, size int) ([]Entry, error) {
	return exclusively(s, func() ([]Entry, error) {
		for _, o := range s.owners() {
			for _, seg := range s.segments(o) {
				if seg.state.Load().pending() == 0 {
					continue
				}
				s.readFrom(seg)
				entries, err := mending(s, o, seg, func() ([]Entry, error) { return seg.read(o.name, count, size) })
				if err != nil || len(entries) > 0 {
					return entries, err
				}
			}
		}
		return nil, nil
	})
}

// readFrom notes which segment is being read, and closes the one before: few files are
// open at a time.
func (s *Spool) readFrom(seg *segment) {
	if s.head == seg {
		return
	}
	if s.head != nil {
		s.closeIdle(s.head)
	}
	s.head = seg
	seg.readAhead()
}

// read returns copies of the oldest pending records, held ones first, at most
// count and, but for the first, at most size bytes.
func (s *segment) read(owner string, count, size int) (entries []Entry, err error) {
	st := s.state.Load() // before the transaction: that may know more, never less
	err = s.view(func(tx *bolt.Tx) error {
		batch := newBatch(s, owner, tx)
		full := func(next int) bool {
			size -= next
			return len(entries) == count || (size < 0 && len(entries) > 0)
		}
		if st.Held > 0 {
			tie := s.header.ties().of(kindHeld)
			held := tx.Bucket([]byte(bucketHeld)).Cursor()
			for k, v := held.First(); k != nil; k, v = held.Next() {
				e, err := batch.entry(k)
				if err == nil {
					e.Attempts, err = decodeHeld(v, tie(e.Position.seq))
				}
				if err != nil {
					return err
				}
				if full(e.Position.size) {
					return nil
				}
				entries = append(entries, e)
			}
		}
		for k, v := batch.records.Seek(key(st.Watermark)); k != nil && !full(len(v)); k, v = batch.records.Next() {
			e, err := batch.decode(k, v)
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		if len(entries) == 0 && st.pending() > 0 {
			return fmt.Errorf("%w: %d pending records are missing", ErrDamaged, st.pending())
		}
		return nil
	})
	return entries, err
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
