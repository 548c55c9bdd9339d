package spool

import (
	"cmp"
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Reader reads the pending records of one flow, oldest first, ahead of their settling: it
// returns each once. Not safe for concurrent use; several Readers are, also of one flow.
type Reader struct {
	s    *Spool
	flow string
	at   place
}

// place is a place in the order of a flow's records: adopted owners come first, by name.
type place struct {
	own   bool
	owner string
	seq   uint64
}

// Reader returns a Reader of a flow, see [FlowOf]. A segment that has more than 256 flows
// does not tell all apart: what it has of the others belongs to [OtherFlow], and they wait
// for each other there.
func (s *Spool) Reader(flow string) *Reader { return &Reader{s: s, flow: flow} }

// Rewind begins anew: what is not settled is read again, and with it what has become
// pending, or was adopted, in front of what has been read.
func (r *Reader) Rewind() { r.at = place{} }

// Read returns the next records, at most count and, but for the first, at most size bytes.
// The entries are copies and belong to the caller. Fewer than asked for and no error:
// there are no more at present, or the next one does not fit.
//
// A segment that turns out to be damaged is salvaged first; with another error nothing
// counts as read. Errors: [ErrClosed], [ErrStalled], and the disk's own.
func (r *Reader) Read(count, size int) ([]Entry, error) {
	type found struct {
		entries []Entry
		at      place
	}
	f, err := exclusively(r.s, func() (f found, err error) {
		f.at = r.at
		f.entries, err = r.read(&f.at, count, size)
		return f, err
	})
	if err != nil {
		return nil, err
	}
	r.at = f.at
	return f.entries, nil
}

// read reads on from a place, and moves it.
func (r *Reader) read(at *place, count, size int) (entries []Entry, err error) {
	for _, o := range r.s.owners() {
		for _, seg := range r.s.segments(o) {
			here, some := r.reach(o, seg, *at)
			if !some {
				continue
			}
			r.s.use(seg)
			full := false
			more, err := mending(r.s, o, seg, func() (more []Entry, err error) {
				more, full, err = seg.readFlow(r.flow, here.seq, func(tx *bolt.Tx) *taker {
					t := newTaker(seg, o.name, tx, count-len(entries), size)
					t.some = len(entries) > 0
					return t
				})
				return more, err
			})
			if err != nil {
				return nil, err
			}
			for _, e := range more {
				size -= e.Position.size
				here.seq = e.Position.seq + 1
			}
			if entries = append(entries, more...); len(more) > 0 {
				*at = here
			}
			if full {
				return entries, nil
			}
		}
	}
	return entries, nil
}

// reach returns from where on a segment is to be read, and false if it has nothing to read.
func (r *Reader) reach(o *owner, seg *segment, at place) (here place, some bool) {
	here = place{own: o == r.s.own, owner: o.name}
	order := here.compare(at)
	if order == 0 {
		here.seq = at.seq
	}
	st := seg.state.Load()
	i := st.Flows.named(r.flow)
	return here, order >= 0 && i >= 0 && st.Flows[i].pending > 0 && here.seq < st.Next
}

// compare compares the owners of two places.
func (p place) compare(q place) int {
	switch {
	case p.own == q.own:
		return cmp.Compare(p.owner, q.owner)
	case p.own:
		return 1
	}
	return -1
}

// readFlow returns copies of the pending records of a flow from a number on, as many as a
// taker takes. full says that it had no room for more.
func (s *segment) readFlow(name string, from uint64, taker func(*bolt.Tx) *taker) (entries []Entry, full bool, err error) {
	st := s.state.Load() // before the transaction: that may know more, never less
	i := st.Flows.named(name)
	if i < 0 || st.Flows[i].pending == 0 {
		return nil, false, nil // lost by salvage
	}
	mark := st.Flows[i].watermark
	err = s.view(func(tx *bolt.Tx) error {
		t := taker(tx)
		known, err := s.lookAhead(tx, st)
		more := err == nil
		if more && from < mark && st.Held > 0 {
			more, err = s.takeHeld(tx, t, i, from, mark)
		}
		records := seeker{c: t.records}
		for seq := known.after(i, max(from, mark)); more && err == nil && seq < known.end; seq = known.after(i, seq+1) {
			var k, v []byte
			if k, v, err = records.value(seq); err == nil {
				more, err = t.take(k, v, 0)
			}
		}
		entries, full = t.entries, !more
		if err == nil && from == 0 && len(entries) == 0 && more {
			err = fmt.Errorf("%w: %d pending records of a flow are missing", ErrDamaged, st.Flows[i].pending)
		}
		return err
	})
	return entries, full, err
}

// takeHeld takes those records of a flow that are held, from one number up to another. It
// reports whether there is room for more.
func (s *segment) takeHeld(tx *bolt.Tx, t *taker, flow int, from, to uint64) (more bool, err error) {
	st, tie := s.state.Load(), s.header.ties().of(kindHeld)
	held, records := tx.Bucket([]byte(bucketHeld)).Cursor(), seeker{c: tx.Bucket([]byte(bucketRecords)).Cursor()}
	for k, v := held.Seek(key(from)); len(k) == 8; k, v = held.Next() {
		seq := binary.BigEndian.Uint64(k)
		if seq >= to {
			break
		}
		rk, rv, err := records.value(seq)
		if err != nil {
			return false, err
		}
		r, err := decodeRecord(rv, t.tie(seq))
		if err != nil {
			return false, err
		}
		if st.Flows.of(r.Class) != flow {
			continue
		}
		attempts, err := decodeHeld(v, tie(seq))
		if err == nil {
			more, err = t.take(rk, rv, attempts)
		}
		if !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

// Flows returns how many records are pending of each flow that has some. It never touches
// the disk.
func (s *Spool) Flows() map[string]int {
	counts := map[string]int{}
	s.eachFlow(func(f *flow) {
		if f.pending > 0 {
			counts[f.name] += int(f.pending)
		}
	})
	return counts
}

// PendingOf returns how many records are pending of a flow, at most: those of [OtherFlow]
// may be of any. It never touches the disk.
func (s *Spool) PendingOf(name string) (n int) {
	s.eachFlow(func(f *flow) {
		if f.name == name || f.name == OtherFlow {
			n += int(f.pending)
		}
	})
	return n
}

// eachFlow calls fn for each flow of each segment. It must not change it.
func (s *Spool) eachFlow(fn func(*flow)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add := func(o *owner) {
		for _, seg := range o.segs {
			st := seg.state.Load()
			for i := range st.Flows {
				fn(&st.Flows[i])
			}
		}
	}
	for _, o := range s.adopted {
		add(o)
	}
	if s.own != nil {
		add(s.own)
	}
}
