package spool

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// index knows which records of a segment belong to which flow, so that the few of one need
// not be looked for among the many of another. It is made when a segment is read, from the
// records themselves, and takes four bytes of memory for each. A segment with one flow
// needs none. Used on the reading lane only.
type index struct {
	first uint64     // of the segment
	next  uint64     // records below have been looked at
	seqs  [][]uint32 // by number of the flow: its records' numbers, less first
}

// extend looks at the records that are new.
func (x *index) extend(tx *bolt.Tx, st *state, tie func(seq uint64) uint32) error {
	c := tx.Bucket([]byte(bucketRecords)).Cursor()
	x.next = max(x.next, st.Flows.low(st.Next))
	for k, v := c.Seek(key(x.next)); k != nil; k, v = c.Next() {
		if len(k) != 8 {
			return fmt.Errorf("%w: record %x", ErrDamaged, k)
		}
		seq := binary.BigEndian.Uint64(k)
		if seq >= st.Next {
			break
		}
		r, err := decodeRecord(v, tie(seq))
		if err != nil {
			return fmt.Errorf("record %d: %w", seq, err)
		}
		i := st.Flows.of(r.Class)
		if i < 0 || seq < x.next {
			return fmt.Errorf("%w: record %d is not where it belongs", ErrDamaged, seq)
		}
		for len(x.seqs) <= i {
			x.seqs = append(x.seqs, nil)
		}
		x.seqs[i] = append(x.seqs[i], uint32(seq-x.first))
		x.next = seq + 1
	}
	x.next = st.Next
	return x.check(st)
}

// check returns an error if records are missing, or keys are damaged so that they seem to:
// settling would pass over them.
func (x *index) check(st *state) error {
	found := uint64(0)
	for i := range st.Flows {
		found += uint64(ahead{x: x}.count(i, st.Flows[i].watermark, st.Next))
	}
	if want := st.Flows.pending() - st.Held; found != want {
		return fmt.Errorf("%w: %d records are ahead, the state says %d", ErrDamaged, found, want)
	}
	return nil
}

// position returns where in the list of a flow the records from seq on begin.
func (x *index) position(flow int, seq uint64) int {
	if flow >= len(x.seqs) {
		return 0
	}
	at, _ := slices.BinarySearchFunc(x.seqs[flow], seq, func(offset uint32, seq uint64) int {
		return cmp.Compare(x.first+uint64(offset), seq)
	})
	return at
}

// ahead is what is known of the records at or above the watermarks of their flows.
type ahead struct {
	x   *index // nil: there is one flow
	end uint64 // of what is known
}

// after returns the number of a flow's first record from seq on, or end.
func (a ahead) after(flow int, seq uint64) uint64 {
	if a.x == nil {
		return min(seq, a.end)
	}
	if at := a.x.position(flow, seq); flow < len(a.x.seqs) && at < len(a.x.seqs[flow]) {
		return min(a.x.first+uint64(a.x.seqs[flow][at]), a.end)
	}
	return a.end
}

// count returns how many records a flow has from one number up to another.
func (a ahead) count(flow int, from, to uint64) int {
	if a.x == nil {
		return int(max(to, from) - from)
	}
	return max(a.x.position(flow, to)-a.x.position(flow, from), 0)
}

// lookAhead makes what is known reach to the end of a state, which may be older than the
// transaction.
func (s *segment) lookAhead(tx *bolt.Tx, st *state) (ahead, error) {
	if len(st.Flows) <= 1 {
		s.index = nil
		return ahead{end: st.Next}, nil
	}
	if s.index == nil {
		s.index = &index{first: s.header.First}
	}
	if s.index.next < st.Next {
		if err := s.index.extend(tx, st, s.header.ties().of(kindRecord)); err != nil {
			s.index = nil
			return ahead{}, err
		}
	}
	return ahead{x: s.index, end: st.Next}, nil
}

// knows reports whether lookAhead needs no transaction.
func (s *segment) knows(st *state) bool {
	return len(st.Flows) <= 1 || s.index != nil && s.index.next >= st.Next
}

// seeker finds records by ascending numbers.
type seeker struct {
	c    *bolt.Cursor
	last uint64
}

// value returns what lies under a number.
func (s *seeker) value(seq uint64) (k, v []byte, err error) {
	if s.last != 0 && seq == s.last+1 {
		k, v = s.c.Next()
	} else {
		k, v = s.c.Seek(key(seq))
	}
	s.last = seq
	if !bytes.Equal(k, key(seq)) {
		return nil, nil, fmt.Errorf("%w: record %d is missing", ErrDamaged, seq)
	}
	return k, v, nil
}
