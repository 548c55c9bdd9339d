package spool

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Settle records what became of entries that Read returned: one commit per
// segment, durable on return. Entries before the last one settled that are not
// mentioned stay pending. Settling a record twice changes nothing. Segments and
// adopted owners with nothing left in them are removed.
//
// An error means that some of it may not be recorded: settle the same again, or its
// records will be read again. A segment that turns out to be damaged is salvaged
// first. One that cannot be used, see Stats.Bad, makes nobody wait: what is settled of it
// from then on is kept in memory, and recorded by the Adopt that can use it again.
func (s *Spool) Settle(settlements ...Settlement) error {
	for _, st := range settlements {
		if st.Outcome >= Unreadable {
			return fmt.Errorf("spool: settle: %v", st.Outcome)
		}
	}
	return s.alone(func() error {
		now := time.Now()
		return s.revise(settlements, (*badSegment).owe, func(seg *segment, batch []Settlement) (changes, error) {
			return seg.settle(batch, now)
		})
	})
}

// changes counts how many records got each outcome anew.
type changes [outcomes]int

// revise runs fn for each segment with its part of the batch, or away for one that cannot
// be used, and then removes what is empty. What belongs to a segment that is gone was
// settled before.
func (s *Spool) revise(batch []Settlement, away func(*badSegment, []Settlement) error, fn func(*segment, []Settlement) (changes, error)) error {
	var errs []error
	for len(batch) > 0 {
		at := batch[0].Position
		n := slices.IndexFunc(batch, func(st Settlement) bool {
			return st.Position.owner != at.owner || st.Position.segment != at.segment
		})
		if n < 0 {
			n = len(batch)
		}
		if o := s.owner(at.owner); o != nil {
			if seg := s.segment(o, at.segment); seg != nil {
				errs = append(errs, s.reviseSegment(o, seg, batch[:n], fn))
			} else if bad := s.badSegment(o, filepath.Join(o.dir, segmentName(at.segment))); bad != nil {
				errs = append(errs, away(bad, batch[:n]))
			}
		}
		batch = batch[n:]
	}
	return errors.Join(errs...)
}

func (s *Spool) reviseSegment(o *owner, seg *segment, batch []Settlement, fn func(*segment, []Settlement) (changes, error)) error {
	done, err := fn(seg, batch)
	if err != nil {
		cause, again := err, false
		done = changes{}
		if again, err = s.mend(o, seg, cause); again {
			done, err = fn(seg, batch)
		} else if err == nil && s.badSegment(o, seg.path) != nil {
			err = cause // others need not wait, but this is not recorded
		}
	}
	if err != nil {
		return fmt.Errorf("spool: settle: %w", err)
	}
	for outcome, n := range done {
		s.settled[outcome].Add(int64(n))
	}
	s.tidy(errors.Join(s.shrink(o, seg, batch), s.releaseIfEmpty(o)))
	return nil
}

// tidy logs what could not be removed: that is no error of the settling, which
// would be tried again for ever. The next adopter removes it.
func (s *Spool) tidy(err error) {
	if err != nil {
		s.opts.Logger.Warn("spool: what is settled cannot be removed", "err", err)
	}
}

// settle records outcomes in one commit. Records of a flow below its new watermark that
// got none are held. It returns how many records each outcome was new for: settling twice
// changes nothing.
func (s *segment) settle(batch []Settlement, now time.Time) (done changes, err error) {
	bySeq := func(a, b Settlement) int { return cmp.Compare(a.Position.seq, b.Position.seq) }
	if !slices.IsSortedFunc(batch, bySeq) {
		batch = slices.Clone(batch)
		slices.SortStableFunc(batch, bySeq)
	}
	known, err := s.look()
	if err != nil {
		return done, err
	}
	err = s.commit(settleCost(batch, s.state.Load(), known), nil, func(tx *bolt.Tx, st *state) error {
		done = changes{}
		t := newSettler(tx, st, s.header.ties(), known)
		for _, settlement := range batch {
			if err := t.settle(settlement, now, &done); err != nil {
				return err
			}
		}
		t.catchUp()
		return t.findOldest(tx)
	})
	return done, err
}

// look returns what is known of the records ahead, as of now.
func (s *segment) look() (known ahead, err error) {
	st := s.state.Load() // before the transaction: that may know more, never less
	if s.knows(st) {
		return s.lookAhead(nil, st)
	}
	err = s.view(func(tx *bolt.Tx) error {
		known, err = s.lookAhead(tx, st)
		return err
	})
	return known, err
}

// settleCost is how many bytes a commit that settles may add to the file: for the
// records it holds back or sets aside, and a few pages. Less than slack, unless it has
// many exceptions.
func settleCost(batch []Settlement, st *state, known ahead) int64 {
	const perException = 16 + 8 + sealSize + 2*binary.MaxVarintLen64
	cost := slack() / 4
	from := map[int]uint64{} // by flow
	for i := range batch {
		at := &batch[i].Position
		f := st.Flows.of(at.class)
		if f < 0 {
			continue
		}
		begin, ok := from[f]
		if !ok {
			begin = st.Flows[f].watermark
		}
		if at.seq > begin {
			cost += int64(known.count(f, begin, at.seq)) * perException
		}
		from[f] = max(begin, at.seq+1)
		if o := batch[i].Outcome; o == Kept || o == Dead {
			cost += int64(perException + len(batch[i].Reason))
		}
	}
	return cost * 5 / 4
}

// settler moves the watermarks of one segment over a batch.
type settler struct {
	st           *state
	known        ahead
	held, dead   *bolt.Bucket
	heldT, deadT func(seq uint64) uint32
	recordT      func(seq uint64) uint32
}

func newSettler(tx *bolt.Tx, st *state, t ties, known ahead) *settler {
	return &settler{
		st: st, known: known, held: tx.Bucket([]byte(bucketHeld)), dead: tx.Bucket([]byte(bucketDead)),
		heldT: t.of(kindHeld), deadT: t.of(kindDead), recordT: t.of(kindRecord),
	}
}

// settle gives one record its outcome, unless it is not pending any more.
func (t *settler) settle(st Settlement, now time.Time, done *changes) error {
	seq, flow := st.Position.seq, t.st.Flows.of(st.Position.class)
	if seq >= t.st.Next {
		return fmt.Errorf("spool: settling record %d, the last is %d", seq, t.st.Next-1)
	}
	if flow < 0 {
		return nil // lost by salvage: nothing of it was pending
	}
	pending, attempts, err := t.reach(flow, seq)
	if err != nil || !pending {
		return err
	}
	if st.Outcome == Kept {
		counted := max(attempts, st.Attempts+1)
		if counted > attempts {
			done[Kept]++
		}
		return t.hold(seq, counted)
	}
	done[st.Outcome]++
	t.st.take(flow, st.Position.class, st.Position.size)
	t.st.Counts[st.Outcome]++
	if st.Outcome == Dead {
		t.st.DeadBytes += uint64(st.Position.size)
		return t.dead.Put(key(seq), encodeDead(deadInfo{attempts: attempts, since: now, reason: st.Reason}, t.deadT(seq)))
	}
	return nil
}

// reach moves the watermark of a flow past one of its records, or takes the record from
// those that are held. It reports whether the record was pending.
func (t *settler) reach(flow int, seq uint64) (pending bool, attempts int, err error) {
	mark := &t.st.Flows[flow].watermark
	if seq >= *mark {
		for skipped := t.known.after(flow, *mark); skipped < seq; skipped = t.known.after(flow, skipped+1) {
			if err := t.hold(skipped, 0); err != nil { // what the batch skipped stays pending
				return false, 0, err
			}
		}
		*mark = seq + 1
		return true, 0, nil
	}
	v := t.held.Get(key(seq))
	if v == nil {
		return false, 0, nil
	}
	if attempts, err = decodeHeld(v, t.heldT(seq)); err == nil {
		err = t.held.Delete(key(seq))
	}
	if err != nil {
		return false, 0, err
	}
	t.st.Held--
	t.st.moves.free(seq)
	return true, attempts, nil
}

func (t *settler) hold(seq uint64, attempts int) error {
	t.st.Held++
	t.st.moves.hold(seq)
	return t.held.Put(key(seq), encodeHeld(attempts, t.heldT(seq)))
}

// catchUp moves each watermark to the next record of its flow, or to the end of what is
// known, so that nobody looks for it again in what lies between.
func (t *settler) catchUp() {
	for i := range t.st.Flows {
		mark := &t.st.Flows[i].watermark
		*mark = max(*mark, t.known.after(i, *mark))
	}
}

// findOldest notes when the first pending record was accepted.
func (t *settler) findOldest(tx *bolt.Tx) error {
	t.st.Oldest = 0
	if t.st.pending() == 0 {
		return nil
	}
	first := t.st.Flows.low(t.st.Next)
	if k, _ := t.held.Cursor().First(); len(k) == 8 {
		first = min(first, binary.BigEndian.Uint64(k))
	}
	v := tx.Bucket([]byte(bucketRecords)).Get(key(first))
	r, err := decodeRecord(v, t.recordT(first))
	if err != nil {
		return fmt.Errorf("record %d: %w", first, err)
	}
	t.st.Oldest = unixNano(r.At)
	return nil
}

// encodeHeld makes a value of the held bucket.
func encodeHeld(attempts int, tie uint32) []byte {
	return seal(binary.AppendUvarint(newSealed(binary.MaxVarintLen64), uint64(attempts)), tie)
}

func decodeHeld(b []byte, tie uint32) (attempts int, err error) {
	body, err := unseal(b, tie)
	if err != nil {
		return 0, fmt.Errorf("held: %w", err)
	}
	d := decoder{b: body}
	n := d.uvarint()
	return int(min(n, 1<<30)), d.err("held")
}
