package spool

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// copy takes over what a segment holds: a page of records at a time, each read in one
// run of step, so that no read transaction is open while it writes. A record once copied
// may be settled before the end; the state, read last, says so.
func (b *builder) copy(seg *segment, step func(func() error) error) error {
	copied := 0
	for from, more := uint64(0), true; more; {
		var p livePage
		if err := step(func() (err error) {
			p, err = seg.live(from, pageRecords)
			return err
		}); err != nil {
			return err
		}
		if err := errors.Join(b.add(bucketRecords, p.records), b.add(bucketTwins, p.twins)); err != nil {
			return err
		}
		copied += len(p.records)
		if more = p.more; more {
			from = p.records[len(p.records)-1].seq + 1
			continue
		}
		if want := p.state.pending() + int(p.state.Counts[Dead]); copied < want {
			return fmt.Errorf("%w: of %d records %d are there", ErrDamaged, want, copied)
		}
		if err := errors.Join(b.add(bucketHeld, p.held), b.add(bucketDead, p.dead)); err != nil {
			return err
		}
		return b.finish(p.state)
	}
	return nil
}

// livePage is a part of what a segment holds.
type livePage struct {
	records []keyValue
	twins   []keyValue // of these records
	more    bool

	// With the last page: the rest, as of the same commit.
	held, dead []keyValue
	state      *state
}

// live returns copies of at most count records from a sequence number on that are
// pending or dead, in order.
func (s *segment) live(from uint64, count int) (p livePage, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		p = livePage{}
		if p.state, err = decodeState(tx.Bucket([]byte(bucketMeta)).Get([]byte(keyState)), s.header.ties()); err != nil {
			return err
		}
		if err := p.takeRecords(s, tx, from, count); err != nil {
			return err
		}
		p.twins = twinsOf(tx, p.records)
		if p.more = len(p.records) == count; !p.more {
			p.held, p.dead = copyAll(tx.Bucket([]byte(bucketHeld))), copyAll(tx.Bucket([]byte(bucketDead)))
		}
		return nil
	})
	return p, err
}

// takeRecords merges pending records and dead letters.
func (p *livePage) takeRecords(s *segment, tx *bolt.Tx, from uint64, count int) error {
	records, dead := tx.Bucket([]byte(bucketRecords)), tx.Bucket([]byte(bucketDead)).Cursor()
	d, _ := dead.Seek(key(from))
	takeDead := func(before []byte) error {
		for ; d != nil && len(p.records) < count && (before == nil || bytes.Compare(d, before) < 0); d, _ = dead.Next() {
			v := records.Get(d)
			if v == nil || len(d) != 8 {
				return fmt.Errorf("%w: record %x is missing", ErrDamaged, d)
			}
			p.records = append(p.records, copyOf(d, v))
		}
		return nil
	}
	err := s.walk(tx, p.state, from, func(k, v []byte, _ int) (more bool, err error) {
		if err := takeDead(k); err != nil {
			return false, err
		}
		if len(p.records) < count {
			p.records = append(p.records, copyOf(k, v))
		}
		return len(p.records) < count, nil
	})
	return cmp.Or(err, takeDead(nil))
}

func copyAll(b *bolt.Bucket) (values []keyValue) {
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		values = append(values, copyOf(k, v))
	}
	return values
}

func copyOf(k, v []byte) keyValue {
	return keyValue{seq: binary.BigEndian.Uint64(k), value: bytes.Clone(v)}
}
