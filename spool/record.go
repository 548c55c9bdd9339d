package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// Record is one spooled job. The spool looks at none of its fields but their
// length.
type Record struct {
	ID        string    // names the job; not necessarily unique
	Class     string    // what the job counts under, for example queue\0type
	Lock      string    // name of a lock the job would hold, or empty
	LockUntil time.Time // end of that lock; zero without one
	At        time.Time // when the job was accepted
	Data      []byte    // the job itself
}

// recordVersion is the first byte of every encoded record.
const recordVersion = 1

// recordHeader is the length of the version byte and the checksum.
const recordHeader = 1 + crc32.Size

// encode returns the record as it lies on disk. Times are nanoseconds since the
// Unix epoch, 0 for the zero time; lengths are uvarints.
//
//	0         1          5
//	+---------+----------+--------------------------------------------------+
//	| version | CRC32C   | at | lockUntil | len id | len class | len lock | data
//	+---------+----------+--------------------------------------------------+
//	            of everything behind it
func (r Record) encode() []byte {
	const varints = 5 * binary.MaxVarintLen64
	b := make([]byte, recordHeader, recordHeader+varints+len(r.ID)+len(r.Class)+len(r.Lock)+len(r.Data))
	b[0] = recordVersion
	b = binary.AppendVarint(b, unixNano(r.At))
	b = binary.AppendVarint(b, unixNano(r.LockUntil))
	for _, s := range []string{r.ID, r.Class, r.Lock} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, r.Data...)
	binary.BigEndian.PutUint32(b[1:], checksum(b[recordHeader:]))
	return b
}

// decodeRecord is the inverse of encode. It copies: the record outlives b.
func decodeRecord(b []byte) (Record, error) {
	if len(b) < recordHeader {
		return Record{}, fmt.Errorf("%w: record of %d bytes", ErrDamaged, len(b))
	}
	if b[0] != recordVersion {
		return Record{}, fmt.Errorf("%w: record version %d, this program knows %d", ErrDamaged, b[0], recordVersion)
	}
	if got, want := checksum(b[recordHeader:]), binary.BigEndian.Uint32(b[1:]); got != want {
		return Record{}, fmt.Errorf("%w: record checksum %08x, want %08x", ErrDamaged, got, want)
	}
	d := decoder{b: b[recordHeader:]}
	r := Record{At: d.time(), LockUntil: d.time(), ID: d.string(), Class: d.string(), Lock: d.string()}
	r.Data = append([]byte(nil), d.b...)
	if d.bad {
		return Record{}, fmt.Errorf("%w: record ends early", ErrDamaged)
	}
	return r, nil
}

// decoder reads fields off the front of b; bad stays true after the first field
// that does not fit.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	return v * int64(d.skip(n))
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	return v * uint64(d.skip(n))
}

// skip drops n bytes and returns 1, or notes the damage and returns 0.
func (d *decoder) skip(n int) int {
	if n <= 0 || d.bad {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return 1
}

func (d *decoder) string() string {
	n := d.uvarint()
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) time() time.Time {
	ns := d.varint()
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// unixNano is 0 for the zero time. What lies beyond an int64 becomes its end, in
// the year 2262.
func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	if t.Unix() > math.MaxInt64/int64(time.Second) {
		return math.MaxInt64
	}
	return t.UnixNano()
}

func checksum(b []byte) uint32 {
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}
