package pages

import (
	"encoding/binary"
	"errors"
	"slices"
)

// A page, all numbers in the byte order of the machine that wrote it:
//
//	0    8       10      12         16
//	+----+-------+-------+----------+----------+----------+-----+-----+-------+--
//	| id | flags | count | overflow | element  | element  | ... | key | value | key ...
//	+----+-------+-------+----------+----------+----------+-----+-----+-------+--
//
//	leaf element    flags | pos | ksize | vsize   4 bytes each
//	branch element  pos | ksize 4 bytes each | page 8 bytes
//	bucket          root page | sequence 8 bytes each | page, if the root is 0
//
// pos counts from the start of its own element. The overflow pages that follow have
// no header: keys and values run on. bbolt writes the elements in the order of their
// keys and no gap between anything; only salvage does not rely on it.
const (
	headerSize       = 16
	elementSize      = 16
	bucketHeaderSize = 16

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10

	// flagBucket is an element's: its value is a bucket.
	flagBucket = 0x01

	// maxCount is as much as the header can say.
	maxCount = 0xFFFF

	// maxKeySize is bbolt's. What claims to be longer is none of its elements.
	maxKeySize = 32768

	// maxPairSize bounds what a size that makes no sense can make us allocate in a
	// file of any length.
	maxPairSize = 1 << 30
)

// errOutside: an element whose key or value is not inside its page.
var errOutside = errors.New("lies outside its page")

// page is a page's header and as much of it as lies in one page.
type page struct {
	id       uint64
	flags    uint16
	count    uint16
	overflow uint32

	data []byte // without the overflow pages
	at   int64  // where in the file, if it is not inline
	size uint64 // how far the elements may reach, into the overflow pages
}

// parsePage reads the header, and lets elements reach to the end of b.
func parsePage(b []byte) (page, bool) {
	if len(b) < headerSize {
		return page{}, false
	}
	return page{
		id:       binary.NativeEndian.Uint64(b),
		flags:    binary.NativeEndian.Uint16(b[8:]),
		count:    binary.NativeEndian.Uint16(b[10:]),
		overflow: binary.NativeEndian.Uint32(b[12:]),
		data:     b,
		size:     uint64(len(b)),
	}, true
}

// element says where in a page a key and a value begin and end.
type element struct {
	flags             uint32
	child             uint64 // in a branch
	start, value, end uint64
}

// element reads entry i of the table, which bbolt never lets run into an overflow
// page: a page with more than four elements has none.
func (p page) element(i int) (element, bool) {
	if i >= p.room() {
		return element{}, false
	}
	off := headerSize + i*elementSize
	b := p.data[off : off+elementSize]
	word := func(i int) uint64 { return uint64(binary.NativeEndian.Uint32(b[4*i:])) }
	e := element{start: uint64(off)}
	if p.flags == flagBranch {
		e.start += word(0)
		e.value = e.start + word(1)
		e.end = e.value
		e.child = binary.NativeEndian.Uint64(b[8:])
		return e, true
	}
	e.flags = uint32(word(0))
	e.start += word(1)
	e.value = e.start + word(2)
	e.end = e.value + word(3)
	return e, true
}

// room is how many elements the table can hold.
func (p page) room() int { return (len(p.data) - headerSize) / elementSize }

// bucket is the value of an element with flagBucket.
type bucket struct {
	root   uint64
	inline bool
	page   page // if inline
}

// parseBucket goes by the length, which cannot be wrong by a flipped bit in the bucket
// itself. bbolt keeps a bucket inline up to a quarter of a page.
func (f *File) parseBucket(value []byte) (bucket, bool) {
	if len(value) < bucketHeaderSize || int64(len(value)) > f.pageSize {
		return bucket{}, false
	}
	b := bucket{root: binary.NativeEndian.Uint64(value)}
	if len(value) == bucketHeaderSize {
		return b, true
	}
	b.page, b.inline = parsePage(value[bucketHeaderSize:])
	return b, b.inline && b.page.leafLike(0)
}

// leafLike reports whether p can be a leaf even if one field of its header is wrong.
func (p page) leafLike(id uint64) bool {
	switch p.flags {
	case flagLeaf:
		return true
	case flagBranch, flagMeta, flagFreelist:
		return false
	}
	return p.id == id
}

// reader takes pairs out of pages. Its buffer serves one pair at a time.
type reader struct {
	f    *File
	left int64 // bytes it will still hand out
	buf  []byte
}

// newReader allows for the file's length many times over: in a sane file no two pairs
// overlap, in a damaged one a few do, in a forged one all could, and never end.
func newReader(f *File) reader {
	const times = 64
	return reader{f: f, left: times * min(f.size, 1<<50)}
}

// pair returns the key and value of e, in p itself or read from its overflow pages.
func (r *reader) pair(p page, i int, e element) (key, value []byte, err error) {
	table := uint64(headerSize + (i+1)*elementSize)
	klen, n := e.value-e.start, e.end-e.start
	if e.start < table || e.end > p.size || klen == 0 || klen > maxKeySize || n > maxPairSize {
		return nil, nil, errOutside
	}
	if r.left -= int64(n); r.left < 0 {
		return nil, nil, errors.New("overlaps too many others")
	}
	b := p.data
	if e.end > uint64(len(b)) {
		r.buf = slices.Grow(r.buf[:0], int(n))[:n]
		if err := r.f.readAt(r.buf, p.at+int64(e.start)); err != nil {
			return nil, nil, err
		}
		return r.buf[:klen:klen], r.buf[klen:n:n], nil
	}
	return b[e.start:e.value:e.value], b[e.value:e.end:e.end], nil
}
