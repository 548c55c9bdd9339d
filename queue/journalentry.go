package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// entry is a job in the journal.
type entry struct {
	seq    uint64
	queue  string
	record spool.Record // zero: the entry says that the queue's marker is seq
	stays  int64        // Unix milliseconds up to which that marker stays in Redis; 0: not known
}

// encode appends an entry to a blob. Its fields are varints, and strings behind their lengths.
// Its data is that of its record, or that of a job, which need not be encoded before. How long a
// marker stays is an entry without a queue, in front of that of the marker.
func (e *entry) encode(b []byte, one *job) []byte {
	r := &e.record
	if r.ID == "" && e.stays != 0 {
		b = append(binary.AppendUvarint(b, uint64(e.stays)), 0, 0)
	}
	b = binary.AppendUvarint(b, e.seq)
	b = appendText(b, e.queue)
	b = appendText(b, r.ID)
	if r.ID == "" {
		return b
	}
	b = binary.AppendVarint(b, r.At.UnixNano())
	b = appendText(b, r.Lock)
	if r.Lock != "" {
		b = binary.AppendVarint(b, r.LockUntil.UnixNano())
	}
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	if one == nil {
		b = append(b, r.Data...)
	} else {
		b = one.appendTo(b)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-dataLength))
	return b
}

// isStay reports whether an entry says how long the marker stays that is in the next one.
func (e *entry) isStay() bool { return e.queue == "" && e.record.ID == "" }

// dataLength is the size of the length of an entry's data.
const dataLength = 4

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

var errBlob = errors.New("queue: a blob of the journal is damaged")

// readEntries hands on the entries of a blob. Their data shares memory with it.
func readEntries(blob []byte, fn func(entry) error) error {
	d := blobDecoder{b: blob}
	for len(d.b) > 0 {
		e, stays := d.entry(), int64(0)
		if e.isStay() {
			stays = int64(e.seq)
			e = d.entry()
		}
		if d.bad || e.isStay() {
			return errBlob
		}
		if e.record.ID == "" {
			e.stays = stays
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// countEntries returns how many jobs a blob has.
func countEntries(blob []byte) (n int, err error) {
	err = readEntries(blob, func(e entry) error {
		if e.record.ID != "" {
			n++
		}
		return nil
	})
	return n, err
}

type blobDecoder struct {
	b   []byte
	bad bool
}

func (d *blobDecoder) entry() entry {
	e := entry{seq: d.uvarint(), queue: d.text()}
	if e.record.ID = d.text(); e.record.ID != "" {
		e.record.At = time.Unix(0, d.varint())
		if e.record.Lock = d.text(); e.record.Lock != "" {
			e.record.LockUntil = time.Unix(0, d.varint())
		}
		e.record.Data = d.data()
	}
	return e
}

func (d *blobDecoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	d.take(n)
	return v
}

func (d *blobDecoder) varint() int64 {
	v, n := binary.Varint(d.b)
	d.take(n)
	return v
}

func (d *blobDecoder) text() string { return string(d.bytes()) }

func (d *blobDecoder) bytes() []byte { return d.next(d.uvarint()) }

func (d *blobDecoder) data() []byte {
	length := d.next(dataLength)
	if d.bad {
		return nil
	}
	return d.next(uint64(binary.BigEndian.Uint32(length)))
}

func (d *blobDecoder) next(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.take(0)
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

// take moves on by what a decoder of binary has read.
func (d *blobDecoder) take(n int) {
	if n <= 0 {
		d.b, d.bad = nil, true
		return
	}
	d.b = d.b[n:]
}

func (e entry) String() string { return fmt.Sprintf("entry %d of queue %s", e.seq, e.queue) }
