package spool

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

// salvaged is what can be had of a damaged segment without trusting bbolt: values whose
// checksum says that they were written here.
type salvaged struct {
	header header
	state  *state // nil if none can be read: then everything counts as pending
	exact  bool   // held and dead are those of the last commit
	held   map[uint64]int
	dead   map[uint64]deadInfo
	why    []error // what cannot be understood
}

// survey reads all but the records. The segment was created by owner, unless its header
// says otherwise; known is the state that was last seen, nil if none was. An error means
// that the segment is not to be touched.
func survey(f *pages.File, owner string, first uint64, known *state) (*salvaged, error) {
	v := &salvaged{
		header: header{Owner: owner, First: first},
		exact:  true, held: map[uint64]int{}, dead: map[uint64]deadInfo{},
	}
	if err := v.takeMeta(func(fn func(k, b []byte)) {
		v.note(f.Walk(bucketMeta, pairs(fn)))
	}); err != nil {
		return nil, err
	}
	if walked := v.state; walked == nil || f.Stale() != nil { // there may be copies, and newer ones
		if err := v.takeMeta(func(fn func(k, b []byte)) {
			f.Scan(func(bucket, k, b []byte) bool {
				if bucket == nil || string(bucket) == bucketMeta { // with many classes it has a page of its own
					fn(k, b)
				}
				return true
			})
		}); err != nil {
			return nil, err
		}
		v.exact = v.exact && v.state == walked
	}
	if known != nil && (v.state == nil || v.state.Commits < known.Commits) {
		v.state, v.exact = known, false
	}
	v.takeLists(f)
	return v, nil
}

// takeLists reads the lists of what is held and dead. Old copies fill the gaps of one that
// is damaged; what the other one says is sure.
func (v *salvaged) takeLists(f *pages.File) {
	exact := v.exact
	heldSure := v.walkList(f, bucketHeld, v.takeHeld) && exact
	deadSure := v.walkList(f, bucketDead, v.takeDead) && exact
	if v.exact {
		return
	}
	sure := maps.Clone(v.dead)
	f.Scan(func(_, k, b []byte) bool {
		if len(k) != 8 {
			return true
		}
		if _, ok := sure[binary.BigEndian.Uint64(k)]; !ok && !heldSure {
			v.takeHeld(k, b)
		}
		if !deadSure {
			v.takeDead(k, b)
		}
		return true
	})
}

// walkList reports whether it could read the whole list.
func (v *salvaged) walkList(f *pages.File, bucket string, take func(k, b []byte) bool) bool {
	var bad []error
	errs := f.Walk(bucket, func(k, b []byte) bool {
		if !take(k, b) && len(bad) == 0 {
			bad = append(bad, fmt.Errorf("%w: an entry of bucket %q", ErrDamaged, bucket))
		}
		return true
	})
	return v.note(append(errs, bad...))
}

func pairs(fn func(k, b []byte)) func(k, b []byte) bool {
	return func(k, b []byte) bool {
		fn(k, b)
		return true
	}
}

// maxNotes bounds what a report says: a file of zeros has a complaint for each page.
const maxNotes = 10

// note reports whether there is nothing to note.
func (v *salvaged) note(errs []error) bool {
	v.why = append(v.why, errs[:min(len(errs), maxNotes-len(v.why))]...)
	v.exact = v.exact && len(errs) == 0
	return len(errs) == 0
}

// takeMeta looks for the header and the newest state among the pairs of a meta bucket.
func (v *salvaged) takeMeta(each func(func(k, b []byte))) (unknown error) {
	var states [][]byte
	each(func(k, b []byte) {
		switch string(k) {
		case keyHeader:
			h, err := decodeHeader(b)
			switch {
			case errors.Is(err, ErrVersion):
				unknown = err
			case err == nil && h.First != v.header.First: // its records could be read under its own name only
				unknown = fmt.Errorf("%w: the segment that begins with record %d is named %d", ErrDamaged, h.First, v.header.First)
			case err == nil:
				v.header = h
			}
		case keyState:
			states = append(states, bytes.Clone(b))
		}
	})
	for _, b := range states { // which only the header's owner can read
		st, err := decodeState(b, v.header.ties())
		if errors.Is(err, ErrVersion) {
			unknown = err
		}
		if err == nil && (v.state == nil || v.state.Commits < st.Commits) {
			v.state = st
		}
	}
	return unknown
}

// takeHeld and takeDead keep an entry, if it is one.
func (v *salvaged) takeHeld(k, b []byte) bool {
	if len(k) != 8 {
		return false
	}
	seq := binary.BigEndian.Uint64(k)
	attempts, err := decodeHeld(b, v.header.ties().tie(kindHeld, seq))
	if err == nil {
		v.held[seq] = max(v.held[seq], attempts)
	}
	return err == nil
}

func (v *salvaged) takeDead(k, b []byte) bool {
	if len(k) != 8 {
		return false
	}
	seq := binary.BigEndian.Uint64(k)
	info, err := decodeDead(b, v.header.ties().tie(kindDead, seq))
	if err == nil {
		v.dead[seq] = info
	}
	return err == nil
}

// fate says what a readable record is in the new segment.
type fate uint8

const (
	settled fate = iota
	pending
	dead
)

// reasonUncertain is why a record became a dead letter that may have been delivered.
const reasonUncertain = "it may have been sent already: the list of what was not is damaged"

func (v *salvaged) fate(seq uint64, class string) fate {
	if v.state == nil {
		return pending
	}
	_, isHeld := v.held[seq]
	_, isDead := v.dead[seq]
	switch {
	case seq >= v.state.Next && v.exact: // was never acknowledged; an older state does not know
		return settled
	case isHeld || v.state.awaits(class, seq):
		return pending
	case isDead:
		return dead
	case !v.exact && v.state.Held+v.state.Counts[Dead] > 0:
		return dead // reasonUncertain
	}
	return settled
}

// rescue writes a segment with what is worth keeping, under the same sequence numbers.
// All that is pending in it is held, so that gaps do no harm.
type rescue struct {
	*salvaged
	b     *builder
	now   time.Time
	st    *state
	seen  map[uint64]fate
	tail  uint64     // of seen: pending as the watermarks of the state tell
	first uint64     // sequence number of the first pending record; 0: none
	batch []keyValue // to be added
	size  int
	err   error
}

// rescueBytes is how much of the records is kept in memory.
const rescueBytes = 4 << 20

// rebuild makes the new segment's file, not published yet, from all pages of the old.
func (v *salvaged) rebuild(f *pages.File, path string, now time.Time) (*builder, *state, error) {
	b, err := newBuilder(path, v.header)
	if err != nil {
		return nil, nil, err
	}
	st := newState(v.header.First)
	if v.state != nil {
		st.Next, st.Counts, st.Commits = v.state.Next, v.state.Counts, v.state.Commits+1
	}
	st.Counts[Dead] = 0
	r := &rescue{salvaged: v, b: b, now: now, st: st, seen: map[uint64]fate{}}
	record := v.header.ties().of(kindRecord)
	take := func(k, value []byte) bool {
		if len(k) == 8 {
			seq := binary.BigEndian.Uint64(k)
			r.take(seq, value, record(seq))
		}
		return r.err == nil
	}
	f.Walk(bucketRecords, take) // what the tree leads to comes first, then copies of what it has lost
	v.note(f.Scan(func(_, k, value []byte) bool { return take(k, value) }))
	if err := cmp.Or(r.err, r.flush(), r.finish()); err != nil {
		return nil, nil, errors.Join(err, b.discard())
	}
	return b, st, nil
}

// take keeps a record, if it is one, the first time it is seen.
func (r *rescue) take(seq uint64, value []byte, tie uint32) {
	if _, ok := r.seen[seq]; ok {
		return
	}
	rec, err := decodeRecord(value, tie)
	if err != nil {
		return
	}
	what := r.fate(seq, rec.Class)
	switch what {
	case settled:
		return
	case pending:
		r.keep(seq, len(value), rec)
	case dead:
		r.bury(seq, len(value))
	}
	r.seen[seq] = what
	r.st.Next = max(r.st.Next, seq+1)
	r.batch = append(r.batch, keyValue{seq, slices.Clone(value)})
	if r.size += len(value); r.size >= rescueBytes {
		r.err = r.flush()
	}
}

func (r *rescue) keep(seq uint64, size int, rec Record) {
	at := unixNano(rec.At)
	class := string([]byte(rec.Class)) // the record's is part of a page
	r.st.add(class, size, at)
	if r.first == 0 || seq < r.first {
		r.first, r.st.Oldest = seq, at
	}
	r.st.Held++
	if r.state != nil && seq < r.state.Next && r.state.awaits(class, seq) {
		r.tail++
	}
	if _, ok := r.held[seq]; !ok {
		r.held[seq] = 0
	}
}

func (r *rescue) bury(seq uint64, size int) {
	r.st.Counts[Dead]++
	r.st.DeadBytes += uint64(size)
	if _, ok := r.dead[seq]; !ok {
		r.dead[seq] = deadInfo{since: r.now, reason: reasonUncertain}
	}
}

func (r *rescue) flush() error {
	err := r.b.add(bucketRecords, r.batch)
	r.batch, r.size = nil, 0
	return err
}

// finish writes what is not a record.
func (r *rescue) finish() error {
	t := r.header.ties()
	var held, dead []keyValue
	for seq, what := range r.seen {
		if what == pending {
			held = append(held, keyValue{seq, encodeHeld(r.held[seq], t.tie(kindHeld, seq))})
		} else {
			dead = append(dead, keyValue{seq, encodeDead(r.dead[seq], t.tie(kindDead, seq))})
		}
	}
	for i := range r.st.Flows {
		r.st.Flows[i].watermark = r.st.Next
	}
	r.st.Counts[Unreadable] += r.missing(t.first)
	r.st.balance(t.first)
	return cmp.Or(r.b.add(bucketHeld, held), r.b.add(bucketDead, dead), r.b.finish(r.st))
}

// missing counts the records that must be there and are not.
func (r *rescue) missing(first uint64) (n uint64) {
	if r.state == nil {
		return r.st.Next - first - uint64(len(r.seen))
	}
	n = r.state.Flows.pending() - r.state.Held // as the watermarks tell
	n -= min(n, r.tail)
	for seq := r.state.Next; seq < r.st.Next; seq++ {
		if _, ok := r.seen[seq]; !ok {
			n++
		}
	}
	high := r.state.Flows.high() // above, what is listed is counted already
	count := func(seq uint64) {
		if _, ok := r.seen[seq]; !ok && seq < high {
			n++
		}
	}
	for seq := range r.held {
		count(seq)
	}
	for seq := range r.dead {
		count(seq)
	}
	return n
}

// balance makes the counts add up to what was appended: what is missing is unreadable,
// and what became a dead letter to be on the safe side was not settled for certain.
func (st *state) balance(first uint64) {
	all, known := st.Next-first, st.settled()+uint64(st.pending())
	st.Counts[Unreadable] += all - min(all, known)
	for _, o := range []Outcome{Delivered, AlreadyThere, Superseded, Removed, Unreadable} {
		excess := known - min(all, known)
		known -= min(excess, st.Counts[o])
		st.Counts[o] -= min(excess, st.Counts[o])
	}
}
