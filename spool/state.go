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

// stateVersion is the version of a state: 2 has a watermark for each flow, where 1 had one
// for all.
const stateVersion = 2

// state is what a segment counts; each commit writes it anew. Counts of what the
// segment holds come from here, never from a scan. A state in use is not changed.
type state struct {
	Commits      uint64           // grows with each commit: the newest of several copies
	Next         uint64           // sequence number of the next record to be appended
	Held         uint64           // records below the watermarks that are pending
	PendingBytes uint64           // encoded bytes of pending records
	DeadBytes    uint64           // of dead letters
	Oldest       int64            // when the first pending record was accepted; 0 without one
	Counts       [outcomes]uint64 // records by outcome; [Dead] are those still there, [Kept] stays 0
	Classes      tally
	Flows        flows

	moves *moves // what the commit under way changes in memory alone
}

func newState(first uint64) *state { return &state{Next: first} }

func (st *state) pending() int { return int(st.Flows.pending()) }

// allHeld reports whether every record that is pending is held.
func (st *state) allHeld() bool { return st.Flows.pending() == st.Held }

// awaits reports whether a record is pending as the watermarks tell; those that are held
// are as well. After a salvage a flow of which nothing was pending is not counted.
func (st *state) awaits(class string, seq uint64) bool {
	i := st.Flows.of(class)
	return seq >= st.Next || i >= 0 && seq >= st.Flows[i].watermark
}

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

// add counts a record that becomes pending, and returns the number of its flow; take
// counts one that is not so any more.
func (st *state) add(class string, size int, at int64) (flow int) {
	if st.pending() == 0 || st.Oldest == 0 {
		st.Oldest = at
	}
	st.PendingBytes += uint64(size)
	st.Classes.add(class, size, at)
	flow = st.Flows.enter(class, st.Next)
	st.Flows[flow].pending++
	return flow
}

func (st *state) take(flow int, class string, size int) {
	st.PendingBytes -= min(st.PendingBytes, uint64(size))
	st.Classes.take(class, size)
	st.Flows[flow].pending -= min(st.Flows[flow].pending, 1)
}

// clone returns a copy to be changed.
func (st *state) clone() *state {
	c := *st
	c.Classes, c.Flows = slices.Clone(st.Classes), slices.Clone(st.Flows)
	return &c
}

func (st *state) encode(t ties) []byte {
	b := newSealed(256)
	b[0] = stateVersion
	for _, v := range []uint64{st.Commits, st.Next, st.Held, st.PendingBytes, st.DeadBytes} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendVarint(b, st.Oldest)
	b = binary.AppendUvarint(b, uint64(len(st.Counts)))
	for _, v := range st.Counts {
		b = binary.AppendUvarint(b, v)
	}
	b = st.Classes.append(b)
	b = st.Flows.append(b)
	return seal(b, t.tie(kindState, 0))
}

func decodeState(b []byte, t ties) (*state, error) {
	version, body, err := unsealUpTo(stateVersion, b, t.tie(kindState, 0))
	if err != nil {
		return nil, fmt.Errorf("segment state: %w", err)
	}
	d := decoder{b: body}
	st, watermark := &state{Commits: d.uvarint(), Next: d.uvarint()}, uint64(0)
	if version == 1 {
		watermark = d.uvarint()
	}
	st.Held, st.PendingBytes, st.DeadBytes, st.Oldest = d.uvarint(), d.uvarint(), d.uvarint(), d.varint()
	if n := d.uvarint(); n != uint64(len(st.Counts)) {
		return nil, fmt.Errorf("%w: segment state with %d outcomes, want %d", ErrDamaged, n, len(st.Counts))
	}
	for i := range st.Counts {
		st.Counts[i] = d.uvarint()
	}
	st.Classes.decode(&d)
	if version == 1 {
		st.Flows = flowsOf(st.Classes, watermark, st.Held+st.Next-watermark)
	} else {
		st.Flows.decode(&d)
	}
	if err := d.err("segment state"); err != nil {
		return nil, err
	}
	return st, st.check(t.first)
}

// check returns an error if the counts cannot be those of a segment.
func (st *state) check(first uint64) error {
	for _, f := range st.Flows {
		if f.watermark < first || f.watermark > st.Next {
			return fmt.Errorf("%w: segment watermark %d, of %d to %d", ErrDamaged, f.watermark, first, st.Next)
		}
	}
	if all := st.Flows.pending(); st.Next < first || st.Held > all || all > st.Next-first {
		return fmt.Errorf("%w: %d pending and %d held, of %d to %d", ErrDamaged, all, st.Held, first, st.Next)
	}
	return nil
}
