package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// copy takes over what a segment holds: a page of records at a time, each read in one
// run of step, so that no read transaction is open while it writes. A record once copied
// may be settled before the end; the state, read last, says so.
func (b *builder) copy(seg *segment, step func(func() error) error) error {
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
		if more = p.more; more {
			from = p.records[len(p.records)-1].seq + 1
			continue
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
		records := tx.Bucket([]byte(bucketRecords)).Cursor()
		held, dead := tx.Bucket([]byte(bucketHeld)).Cursor(), tx.Bucket([]byte(bucketDead)).Cursor()
		h, _ := held.Seek(key(from))
		d, _ := dead.Seek(key(from))
		for len(p.records) < count && (h != nil || d != nil) {
			k := h
			if h == nil || d != nil && bytes.Compare(d, h) < 0 {
				k = d
				d, _ = dead.Next()
			} else {
				h, _ = held.Next()
			}
			rk, v := records.Seek(k)
			if !bytes.Equal(rk, k) {
				return fmt.Errorf("%w: record %x is missing", ErrDamaged, k)
			}
			p.records = append(p.records, copyOf(k, v))
		}
		for k, v := records.Seek(key(max(from, p.state.Watermark))); k != nil && len(p.records) < count; k, v = records.Next() {
			p.records = append(p.records, copyOf(k, v))
		}
		p.twins = twinsOf(tx, p.records)
		if p.more = len(p.records) == count; !p.more {
			p.held, p.dead = copyAll(held), copyAll(dead)
		}
		return nil
	})
	return p, err
}

func copyAll(c *bolt.Cursor) (values []keyValue) {
	for k, v := c.First(); k != nil; k, v = c.Next() {
		values = append(values, copyOf(k, v))
	}
	return values
}

func copyOf(k, v []byte) keyValue {
	return keyValue{seq: binary.BigEndian.Uint64(k), value: bytes.Clone(v)}
}
