package spool

import (
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// segmentFormat is the version of all that a segment holds.
const segmentFormat = 1

// meta is the one value in a segment's meta bucket, fixed-size, big-endian, in
// this order. Counts of what the segment holds come from here, never from a scan.
type meta struct {
	Format       uint64
	First        uint64           // sequence number of the first record
	Next         uint64           // of the next one to be appended
	Watermark    uint64           // records below are settled, but for held and dead
	Held         uint64           // records below the watermark that are pending
	PendingBytes uint64           // encoded bytes of pending records
	Counts       [outcomes]uint64 // settled records by outcome; [Kept] stays 0
}

func (m meta) pending() int { return int(m.Held + m.Next - m.Watermark) }

// empty reports whether nothing in the segment needs to be kept.
func (m meta) empty() bool { return m.pending() == 0 && m.Counts[Dead] == 0 }

// pendingBefore returns how many records below seq are pending. Held records are
// counted without a look at their number: they soon are settled or dead.
func (m meta) pendingBefore(seq uint64) int {
	if seq <= m.First {
		return 0
	}
	left := int(m.Held)
	if end := min(seq, m.Next); end > m.Watermark {
		left += int(end - m.Watermark)
	}
	return left
}

func readMeta(tx *bolt.Tx) (meta, error) {
	var m meta
	b := tx.Bucket(bucketMeta())
	if b == nil {
		return m, fmt.Errorf("%w: segment without meta", ErrDamaged)
	}
	v := b.Get(bucketMeta())
	if _, err := binary.Decode(v, binary.BigEndian, &m); err != nil {
		return m, fmt.Errorf("%w: segment meta of %d bytes", ErrDamaged, len(v))
	}
	if m.Format != segmentFormat {
		return m, fmt.Errorf("%w: segment format %d, this program knows %d", ErrDamaged, m.Format, segmentFormat)
	}
	if m.First > m.Watermark || m.Watermark > m.Next {
		return m, fmt.Errorf("%w: segment watermark %d outside %d to %d", ErrDamaged, m.Watermark, m.First, m.Next)
	}
	return m, nil
}

func writeMeta(tx *bolt.Tx, m meta) error {
	v, err := binary.Append(nil, binary.BigEndian, m)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketMeta()).Put(bucketMeta(), v)
}
