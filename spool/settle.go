package spool

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Settle records what became of entries that Read returned: one commit per
// segment, durable on return. Entries before the last one settled that are not
// mentioned stay pending. Settling a record twice changes nothing. Segments and
// adopted owners with nothing left in them are removed.
//
// An error means that some of it was not recorded: settle the same again, or its
// records will be read again. A segment that turns out to be damaged is no error:
// it is not read any more and reported by Stats.
func (s *Spool) Settle(settlements ...Settlement) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.closed {
		return ErrClosed
	}
	byOwner := map[string][]Settlement{}
	for _, st := range settlements {
		if st.Outcome >= outcomes {
			return fmt.Errorf("spool: settle: %v", st.Outcome)
		}
		byOwner[st.Position.owner] = append(byOwner[st.Position.owner], st)
	}
	var err error
	for name, batch := range byOwner {
		if o := s.owner(name); o != nil { // else it is gone: all settled
			err = errors.Join(err, s.settle(o, batch))
		}
	}
	return err
}

// settle settles records of one owner.
func (s *Spool) settle(o *owner, batch []Settlement) error {
	var err error
	bySegment := map[*segment][]Settlement{}
	s.mu.Lock()
	for _, st := range batch {
		if seg := o.segmentOf(st.Position); seg != nil { // else its segment is gone: all settled
			bySegment[seg] = append(bySegment[seg], st)
		}
	}
	s.mu.Unlock()
	for seg, part := range bySegment {
		applied, serr := seg.settle(part, time.Now())
		if serr != nil {
			if errors.Is(serr, ErrDamaged) { // it would fail for ever, and hold up all others
				s.giveUp(o, seg, serr)
				continue
			}
			err = errors.Join(err, fmt.Errorf("spool: settle: %w", serr))
			continue
		}
		for outcome, k := range applied {
			s.settled[outcome].Add(int64(k))
		}
		s.tidy(s.dropIfEmpty(o, seg))
	}
	s.tidy(s.releaseIfEmpty(o))
	return err
}

// tidy logs what could not be removed: that is no error of the settling, which
// would be tried again for ever. The next adopter removes it.
func (s *Spool) tidy(err error) {
	if err != nil {
		s.opts.Logger.Warn("spool: what is settled cannot be removed", "err", err)
	}
}

// settle records outcomes in one commit. Records below the new watermark that
// got none are held. It returns how many records each outcome was new for:
// settling twice changes nothing.
func (s *segment) settle(batch []Settlement, now time.Time) (applied [outcomes]int, err error) {
	slices.SortFunc(batch, func(a, b Settlement) int { return cmp.Compare(a.Position.seq, b.Position.seq) })
	err = s.commit(func(tx *bolt.Tx, m *meta) error {
		applied = [outcomes]int{}
		return settler{m: m, held: tx.Bucket(bucketHeld()), dead: tx.Bucket(bucketDead()), now: now}.run(batch, &applied)
	})
	return applied, err
}

// settler moves the watermark of one segment over a batch.
type settler struct {
	m          *meta
	held, dead *bolt.Bucket
	now        time.Time
}

func (t settler) run(batch []Settlement, applied *[outcomes]int) error {
	for _, st := range batch {
		pending, err := t.settle(st)
		if err != nil {
			return err
		}
		if pending {
			applied[st.Outcome]++
		}
	}
	return nil
}

// settle gives one record its outcome. It reports false for one that is not
// pending any more.
func (t settler) settle(st Settlement) (pending bool, err error) {
	seq := st.Position.seq
	if seq >= t.m.Next {
		return false, fmt.Errorf("spool: settling record %d, the last is %d", seq, t.m.Next-1)
	}
	for ; t.m.Watermark < seq; t.m.Watermark++ { // what the batch skipped stays pending
		if err := t.hold(t.m.Watermark, 0); err != nil {
			return false, err
		}
	}
	attempts := 0
	if seq == t.m.Watermark {
		t.m.Watermark++
	} else {
		v := t.held.Get(key(seq))
		if v == nil {
			return false, nil
		}
		attempts = decodeAttempts(v)
		if err := t.held.Delete(key(seq)); err != nil {
			return false, err
		}
		t.m.Held--
	}
	if st.Outcome == Kept {
		return true, t.hold(seq, attempts+1)
	}
	t.m.PendingBytes -= min(t.m.PendingBytes, uint64(st.Position.size))
	t.m.Counts[st.Outcome]++
	if st.Outcome == Dead {
		return true, t.dead.Put(key(seq), encodeDead(attempts, t.now, st.Reason))
	}
	return true, nil
}

func (t settler) hold(seq uint64, attempts int) error {
	t.m.Held++
	return t.held.Put(key(seq), encodeAttempts(attempts))
}

// encodeAttempts and encodeDead are the values of the held and dead buckets.
func encodeAttempts(n int) []byte {
	return binary.AppendUvarint(nil, uint64(n))
}

func decodeAttempts(b []byte) int {
	n, _ := binary.Uvarint(b)
	return int(min(n, 1<<30))
}

func encodeDead(attempts int, at time.Time, reason string) []byte {
	b := binary.AppendUvarint(nil, uint64(attempts))
	b = binary.AppendVarint(b, unixNano(at))
	return append(b, reason...)
}
