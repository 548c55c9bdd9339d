package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// maxPassed is how many records of skipped classes a Read looks past in one segment. Each
// of them that lies before a record that is settled becomes held: an entry on disk, and
// looked at again by every Read, at about a microsecond.
const maxPassed = 10_000

// Read returns the oldest pending records, adopted ones first, at most count and,
// but for the first, at most size bytes. All come from one segment. They stay
// pending until settled: the next Read returns them again. The entries are
// copies and belong to the caller. No entries and no error: nothing is pending, or nothing
// within reach but what is skipped.
//
// Records of a class for which skip returns true stay pending and are passed over, up to
// 10,000 in one segment: what lies behind those, in later segments too, waits for them.
// So records of one class never overtake each other. A nil skip skips nothing. It is asked
// once for each class, must not block, and must not call the Spool.
//
// A segment that turns out to be damaged is salvaged first.
func (s *Spool) Read(count, size int, skip func(class string) bool) ([]Entry, error) {
	return exclusively(s, func() ([]Entry, error) {
		p := newPasser(skip)
		for _, o := range s.owners() {
			for _, seg := range s.segments(o) {
				if st := seg.state.Load(); st.pending() == 0 || p.passesAll(st) {
					continue
				}
				s.readFrom(seg)
				entries, more, err := s.readSegment(o, seg, count, size, p)
				if err != nil || len(entries) > 0 || more {
					return entries, err
				}
			}
		}
		return nil, nil
	})
}

// readSegment reads from one segment, twice if a class turns up there that skip has not
// been asked about. more says that it has stopped with records left to look at.
func (s *Spool) readSegment(o *owner, seg *segment, count, size int, p *passer) (entries []Entry, more bool, err error) {
	for again := true; again; again = err == nil && p.learn() {
		entries, err = mending(s, o, seg, func() (entries []Entry, err error) {
			entries, more, err = seg.read(o.name, count, size, p)
			return entries, err
		})
	}
	return entries, more, err
}

// passer remembers which classes one Read passes over. skip, which is somebody else's
// code, is never called while a segment is in use.
type passer struct {
	skip  func(class string) bool // nil: nothing is passed over
	known map[string]bool
	asked []string // classes it has been asked about in vain
}

func newPasser(skip func(class string) bool) *passer {
	return &passer{skip: skip, known: map[string]bool{}}
}

// passes reports whether a class is passed over. One that is not known is for now.
func (p *passer) passes(class string) bool {
	if p.skip == nil {
		return false
	}
	pass, ok := p.known[class]
	if !ok {
		class = strings.Clone(class)
		p.known[class] = true
		p.asked = append(p.asked, class)
		return true
	}
	return pass
}

// learn asks skip about the classes that passes did not know. It reports whether one of
// them should not have been passed over.
func (p *passer) learn() (wrong bool) {
	for _, class := range p.asked {
		p.known[class] = p.skip(class)
		wrong = wrong || !p.known[class]
	}
	p.asked = nil
	return wrong
}

// ask is passes for callers that skip may keep waiting.
func (p *passer) ask(class string) bool {
	p.passes(class)
	p.learn()
	return p.known[class]
}

// passesAll reports whether a segment surely has nothing pending but what is passed over.
func (p *passer) passesAll(st *state) bool {
	if p.skip == nil {
		return false
	}
	pending, all := uint64(0), true
	for _, c := range st.Classes {
		switch {
		case c.pending == 0:
		case c.class == otherClass && len(st.Classes) >= maxClasses:
			all = false // several classes in one
		default:
			all = p.ask(c.class) && all // all classes, so that the reading has none to ask about
			pending += c.pending
		}
	}
	return all && pending == uint64(st.pending())
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

// read returns copies of the oldest pending records that p does not pass over, held ones
// first, at most count and, but for the first, at most size bytes. more says that it has
// passed over so many that it stopped.
func (s *segment) read(owner string, count, size int, p *passer) (entries []Entry, more bool, err error) {
	st := s.state.Load() // before the transaction: that may know more, never less
	err = s.view(func(tx *bolt.Tx) error {
		batch := newBatch(s, owner, tx)
		passed := 0
		take := func(e Entry) (done bool) {
			switch n := e.Position.size; {
			case p.passes(e.Class):
				batch.slab = batch.slab[:len(batch.slab)-n]
				passed++
				more = passed > maxPassed
				return more
			case len(entries) > 0 && n > size:
				return true
			default:
				size -= n
				entries = append(entries, e)
				return len(entries) == count
			}
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
				if take(e) {
					return nil
				}
			}
		}
		for k, v := batch.records.Seek(key(st.Watermark)); k != nil; k, v = batch.records.Next() {
			e, err := batch.decode(k, v)
			if err != nil {
				return err
			}
			if take(e) {
				return nil
			}
		}
		if len(entries) == 0 && passed == 0 && st.pending() > 0 {
			return fmt.Errorf("%w: %d pending records are missing", ErrDamaged, st.pending())
		}
		return nil
	})
	return entries, more, err
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
