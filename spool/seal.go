package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// formatVersion is the first byte of every value in a segment but its state. A value of
// another version is not for this program: it is kept, reported and left alone.
const formatVersion = 1

// sealSize is the length of what seal puts before a body.
const sealSize = 1 + crc32.Size

// newSealed returns room for a body behind the seal, to be appended to.
func newSealed(size int) []byte {
	b := make([]byte, sealSize, sealSize+size)
	b[0] = formatVersion
	return b
}

// seal fills in the checksum of a value that begins with newSealed's bytes.
//
//	0         1                 5
//	+---------+-----------------+------
//	| version | CRC32C XOR tie  | body
//	+---------+-----------------+------
//	            of version and body
//
// The tie is the checksum of where the value belongs: a good value in the wrong
// place is damage as well.
func seal(b []byte, tie uint32) []byte {
	binary.BigEndian.PutUint32(b[1:], checksum(b)^tie)
	return b
}

// retie changes a value sealed with tie 0.
func retie(b []byte, tie uint32) {
	binary.BigEndian.PutUint32(b[1:], binary.BigEndian.Uint32(b[1:])^tie)
}

// unseal returns the body of a value.
func unseal(b []byte, tie uint32) ([]byte, error) {
	_, body, err := unsealUpTo(formatVersion, b, tie)
	return body, err
}

// unsealUpTo is unseal for a value of which there are several versions.
func unsealUpTo(newest byte, b []byte, tie uint32) (version byte, body []byte, err error) {
	if len(b) < sealSize {
		return 0, nil, fmt.Errorf("%w: a value of %d bytes", ErrDamaged, len(b))
	}
	if got, want := checksum(b)^tie, binary.BigEndian.Uint32(b[1:]); got != want {
		return 0, nil, fmt.Errorf("%w: checksum %08x, want %08x", ErrDamaged, got, want)
	}
	if b[0] == 0 || b[0] > newest {
		return 0, nil, fmt.Errorf("%w %d, this program knows %d", ErrVersion, b[0], newest)
	}
	return b[0], b[sealSize:], nil
}

func checksum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(b[:1], table), table, b[sealSize:])
}

// The kinds of values that are tied to a segment and a sequence number.
const (
	kindState  = 's' // number 0
	kindRecord = 'r'
	kindHeld   = 'h'
	kindDead   = 'd'
	kindTwin   = 't'
)

// ties computes the ties of one segment's values. The segment is named by its owner
// and its first sequence number: both are known also where its header is lost.
type ties struct {
	owner string
	first uint64
}

// of returns a function that gives the tie of each value of a kind.
func (t ties) of(kind byte) func(seq uint64) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	b := append([]byte{kind}, t.owner...)
	base := crc32.Checksum(binary.BigEndian.AppendUint64(b, t.first), table)
	return func(seq uint64) uint32 {
		var k [8]byte
		binary.BigEndian.PutUint64(k[:], seq)
		return crc32.Update(base, table, k[:])
	}
}

// tie returns the tie of a single value.
func (t ties) tie(kind byte, seq uint64) uint32 { return t.of(kind)(seq) }

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

// bytes returns a part of b, not a copy.
func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	s := d.b[:n]
	d.b = d.b[n:]
	return s
}

func (d *decoder) string() string { return string(d.bytes()) }

// err says that the fields of a value did not fit its length.
func (d *decoder) err(what string) error {
	if d.bad {
		return fmt.Errorf("%w: %s ends early", ErrDamaged, what)
	}
	return nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
