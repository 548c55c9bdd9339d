package spool

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// header says what a segment is and where it belongs. It is written once.
type header struct {
	Owner   string
	First   uint64 // sequence number of the first record
	Target  string
	Created time.Time
}

func (h header) ties() ties { return ties{owner: h.Owner, first: h.First} }

func (h header) encode() []byte {
	b := newSealed(len(h.Owner) + len(h.Target) + 4*binary.MaxVarintLen64)
	b = appendString(b, h.Owner)
	b = binary.AppendUvarint(b, h.First)
	b = appendString(b, h.Target)
	b = binary.AppendVarint(b, unixNano(h.Created))
	return seal(b, 0)
}

func decodeHeader(b []byte) (header, error) {
	body, err := unseal(b, 0)
	if err != nil {
		return header{}, fmt.Errorf("segment header: %w", err)
	}
	d := decoder{b: body}
	h := header{Owner: d.string(), First: d.uvarint(), Target: d.string(), Created: timeOf(d.varint())}
	return h, d.err("segment header")
}

// state is what a segment counts; each commit writes it anew. Counts of what the
// segment holds come from here, never from a scan. A state in use is not changed.
type state struct {
	Commits      uint64           // grows with each commit: the newest of several copies
	Next         uint64           // sequence number of the next record to be appended
	Watermark    uint64           // records below are settled, but for held and dead
	Held         uint64           // records below the watermark that are pending
	PendingBytes uint64           // encoded bytes of pending records
	DeadBytes    uint64           // of dead letters
	Oldest       int64            // when the first pending record was accepted; 0 without one
	Counts       [outcomes]uint64 // records by outcome; [Dead] are those still there, [Kept] stays 0
	Classes      tally

	moves *moves // what the commit under way changes in memory alone
}

func newState(first uint64) *state {
	return &state{Next: first, Watermark: first}
}

func (st *state) pending() int { return int(st.Held + st.Next - st.Watermark) }

// empty reports whether nothing in the segment needs to be kept.
func (st *state) empty() bool { return st.pending() == 0 && st.Counts[Dead] == 0 }

// settled returns how many records have a final outcome.
func (st *state) settled() uint64 {
	n := uint64(0)
	for _, k := range st.Counts {
		n += k
	}
	return n
}

// pendingBefore returns how many records below seq are pending. Held records are
// counted without a look at their number: they soon are settled or dead.
func (st *state) pendingBefore(seq uint64) int {
	left := int(st.Held)
	if end := min(seq, st.Next); end > st.Watermark {
		left += int(end - st.Watermark)
	}
	return left
}

// add counts a record that becomes pending, take one that is not so any more.
func (st *state) add(class string, size int, at int64) {
	if st.pending() == 0 || st.Oldest == 0 {
		st.Oldest = at
	}
	st.PendingBytes += uint64(size)
	st.Classes.add(class, size, at)
}

func (st *state) take(class string, size int) {
	st.PendingBytes -= min(st.PendingBytes, uint64(size))
	st.Classes.take(class, size)
}

// clone returns a copy to be changed.
func (st *state) clone() *state {
	c := *st
	c.Classes = slices.Clone(st.Classes)
	return &c
}

func (st *state) encode(t ties) []byte {
	b := newSealed(256)
	for _, v := range []uint64{st.Commits, st.Next, st.Watermark, st.Held, st.PendingBytes, st.DeadBytes} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendVarint(b, st.Oldest)
	b = binary.AppendUvarint(b, uint64(len(st.Counts)))
	for _, v := range st.Counts {
		b = binary.AppendUvarint(b, v)
	}
	b = st.Classes.append(b)
	return seal(b, t.tie(kindState, 0))
}

func decodeState(b []byte, t ties) (*state, error) {
	body, err := unseal(b, t.tie(kindState, 0))
	if err != nil {
		return nil, fmt.Errorf("segment state: %w", err)
	}
	d := decoder{b: body}
	st := &state{Commits: d.uvarint(), Next: d.uvarint(), Watermark: d.uvarint(), Held: d.uvarint(), PendingBytes: d.uvarint(), DeadBytes: d.uvarint(), Oldest: d.varint()}
	if n := d.uvarint(); n != uint64(len(st.Counts)) {
		return nil, fmt.Errorf("%w: segment state with %d outcomes, want %d", ErrDamaged, n, len(st.Counts))
	}
	for i := range st.Counts {
		st.Counts[i] = d.uvarint()
	}
	st.Classes.decode(&d)
	if err := d.err("segment state"); err != nil {
		return nil, err
	}
	if t.first > st.Watermark || st.Watermark > st.Next || st.Held > st.Watermark-t.first {
		return nil, fmt.Errorf("%w: segment watermark %d, %d held, of %d to %d", ErrDamaged, st.Watermark, st.Held, t.first, st.Next)
	}
	return st, nil
}
