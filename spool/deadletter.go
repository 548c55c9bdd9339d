package spool

import (
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// DeadLetters returns records that were set aside: at most count of those behind the
// cursor and, but for the last, 8 MiB, and the cursor for the next call. An empty cursor begins; an empty one is
// returned at the end. The order is that of List. What it returns are copies that
// belong to the caller.
func (s *Spool) DeadLetters(after Cursor, count int) (letters []DeadLetter, next Cursor, err error) {
	return page(s, after, count, (*segment).deadLetters, func(d DeadLetter) Position { return d.Position })
}

// deadLetters returns copies of at most count dead letters from a sequence number on, up to
// the one with which they have a size.
func (s *segment) deadLetters(owner string, from uint64, count, size int) (letters []DeadLetter, err error) {
	if s.state.Load().Counts[Dead] == 0 {
		return nil, nil
	}
	err = s.view(func(tx *bolt.Tx) error {
		batch, size := newBatch(s, owner, tx), size
		tie := s.header.ties().of(kindDead)
		dead := tx.Bucket([]byte(bucketDead)).Cursor()
		for k, v := dead.Seek(key(from)); k != nil && len(letters) < count && size > 0; k, v = dead.Next() {
			e, err := batch.entry(k)
			if err != nil {
				return err
			}
			info, err := decodeDead(v, tie(e.Position.seq))
			if err != nil {
				return err
			}
			e.Attempts = info.attempts
			size -= e.Position.size
			letters = append(letters, DeadLetter{Entry: e, Reason: info.reason, Since: info.since})
		}
		return nil
	})
	return letters, err
}

// RetryDead makes dead letters pending again, with one attempt counted if there were any. It
// returns how many of them it found: one that is none any more is passed over. Durable on return.
// Their keys and locks may be other records' by now, and are not claimed again for certain.
func (s *Spool) RetryDead(letters ...Position) (found int, err error) {
	found, err = s.exhume(letters, true)
	s.retried.Add(int64(found))
	return found, err
}

// RemoveDead deletes dead letters for good. It returns how many of them it found: one
// that is none any more is passed over. Durable on return.
func (s *Spool) RemoveDead(letters ...Position) (found int, err error) {
	return s.exhume(letters, false)
}

func (s *Spool) exhume(letters []Position, retry bool) (found int, err error) {
	batch := make([]Settlement, len(letters))
	for i, p := range letters {
		batch[i].Position = p
	}
	return exclusively(s, func() (found int, err error) {
		err = s.revise(batch, (*badSegment).refuse, func(seg *segment, batch []Settlement) (changes, error) {
			n, err := seg.exhume(batch, retry)
			found += n
			return changes{}, err
		})
		return found, err
	})
}

// exhume takes dead letters out, to be pending again or to be gone.
func (s *segment) exhume(batch []Settlement, retry bool) (found int, err error) {
	err = s.commit(settleCost(batch, s.state.Load(), ahead{}), nil, func(tx *bolt.Tx, st *state) error {
		found = 0
		t := newSettler(tx, st, s.header.ties(), ahead{})
		for _, b := range batch {
			k := key(b.Position.seq)
			v := t.dead.Get(k)
			if v == nil {
				continue
			}
			info, err := decodeDead(v, s.header.ties().of(kindDead)(b.Position.seq))
			if err != nil {
				return err
			}
			found++
			if err := t.dead.Delete(k); err != nil {
				return err
			}
			st.Counts[Dead]--
			st.DeadBytes -= min(st.DeadBytes, uint64(b.Position.size))
			if !retry {
				st.Counts[Removed]++
				continue
			}
			st.add(b.Position.class, b.Position.size, 0)
			if err := t.hold(b.Position.seq, min(info.attempts, 1)); err != nil {
				return err
			}
		}
		return t.findOldest(tx)
	})
	if err != nil {
		found = 0
	}
	return found, err
}

// deadInfo is what is known of a dead letter beside its record.
type deadInfo struct {
	attempts int
	since    time.Time
	reason   string
}

// encodeDead makes a value of the dead bucket.
func encodeDead(i deadInfo, tie uint32) []byte {
	b := newSealed(2*binary.MaxVarintLen64 + len(i.reason))
	b = binary.AppendUvarint(b, uint64(i.attempts))
	b = binary.AppendVarint(b, unixNano(i.since))
	return seal(append(b, i.reason...), tie)
}

func decodeDead(b []byte, tie uint32) (deadInfo, error) {
	body, err := unseal(b, tie)
	if err != nil {
		return deadInfo{}, fmt.Errorf("dead letter: %w", err)
	}
	d := decoder{b: body}
	i := deadInfo{attempts: int(min(d.uvarint(), 1<<30)), since: timeOf(d.varint())}
	i.reason = string(d.b)
	return i, d.err("dead letter")
}
