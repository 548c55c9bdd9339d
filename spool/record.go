package spool

import (
	"encoding/binary"
	"math"
	"time"
	"unsafe"
)

// Record is one spooled job. The spool looks at its fields only to count and to find
// it.
type Record struct {
	ID        string    // names the job; not necessarily unique
	Class     string    // what the job counts under, for example queue\0type
	Lock      string    // name of a lock the job would hold, or empty: no two pending records share one that is not over
	LockUntil time.Time // end of that lock; zero: it lasts as long as the record is pending
	At        time.Time // when the job was accepted
	Data      []byte    // the job itself

	// Key is a name that no two pending records may share, for example of a task whose id
	// the caller chose; empty: none. Only a hash of it is kept: Read returns it empty.
	Key string
}

// encode returns the record as it lies on disk, but for its tie. Times are
// nanoseconds since the Unix epoch, 0 for the zero time; lengths are uvarints.
//
//	+------+----+-----------+------------+---------------+--------------+------
//	| seal | at | lockUntil | len and id | len and class | len and lock | data
//	+------+----+-----------+------------+---------------+--------------+------
func (r Record) encode() []byte {
	const varints = 5 * binary.MaxVarintLen64
	b := newSealed(varints + len(r.ID) + len(r.Class) + len(r.Lock) + len(r.Data))
	b = binary.AppendVarint(b, unixNano(r.At))
	b = binary.AppendVarint(b, unixNano(r.LockUntil))
	b = appendString(b, r.ID)
	b = appendString(b, r.Class)
	b = appendString(b, r.Lock)
	return seal(append(b, r.Data...), 0)
}

// decodeRecord is the inverse of encode. The record's fields share b, which must
// not change any more.
func decodeRecord(b []byte, tie uint32) (Record, error) {
	body, err := unseal(b, tie)
	if err != nil {
		return Record{}, err
	}
	d := decoder{b: body}
	r := Record{At: timeOf(d.varint()), LockUntil: timeOf(d.varint())}
	id, class, lock := d.bytes(), d.bytes(), d.bytes()
	r.ID, r.Class, r.Lock = shared(id), shared(class), shared(lock)
	r.Data = d.b[:len(d.b):len(d.b)]
	return r, d.err("record")
}

// shared returns b as a string without a copy.
func shared(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func timeOf(ns int64) time.Time {
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
