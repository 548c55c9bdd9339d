package spool

import (
	"encoding/binary"
	"slices"
)

// maxClasses bounds the classes that a segment counts one by one. Records of further
// classes count under otherClass. Once counted, a class stays in the tally of its
// segment, so that a record is taken from where it was added.
const (
	maxClasses = 256
	otherClass = ""
)

// classCount is what a segment counts for one class.
type classCount struct {
	class   string
	pending uint64
	bytes   uint64
	first   int64 // when the first of the class in this segment was accepted
}

// tally counts pending records by class.
type tally []classCount

// of returns the counter of a class, or nil for one that is not there.
func (t tally) of(class string) *classCount {
	i := slices.IndexFunc(t, func(c classCount) bool { return c.class == class })
	if i < 0 {
		return nil
	}
	return &t[i]
}

func (t *tally) add(class string, size int, at int64) {
	c := t.of(class)
	if c == nil {
		if len(*t) >= maxClasses {
			class = otherClass
		}
		if c = t.of(class); c == nil {
			*t = append(*t, classCount{class: class, first: at})
			c = &(*t)[len(*t)-1]
		}
	}
	c.pending++
	c.bytes += uint64(size)
}

func (t tally) take(class string, size int) {
	c := t.of(class)
	if c == nil {
		c = t.of(otherClass)
	}
	if c != nil {
		c.pending -= min(c.pending, 1)
		c.bytes -= min(c.bytes, uint64(size))
	}
}

func (t tally) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(t)))
	for _, c := range t {
		b = appendString(b, c.class)
		b = binary.AppendUvarint(b, c.pending)
		b = binary.AppendUvarint(b, c.bytes)
		b = binary.AppendVarint(b, c.first)
	}
	return b
}

func (t *tally) decode(d *decoder) {
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		*t = append(*t, classCount{class: d.string(), pending: d.uvarint(), bytes: d.uvarint(), first: d.varint()})
	}
}
