package pages_test

import (
	"encoding/binary"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// Where the fields of a meta page lie, behind its header.
const (
	metaVersion  = 4
	metaPageSize = 8
	metaRoot     = 16
	metaFreelist = 32
	metaPages    = 40
	metaTxID     = 48
)

// setMeta changes a field of 8 bytes in meta page i, which stays valid.
func setMeta(b []byte, pageSize, i, field int, v uint64) {
	binary.NativeEndian.PutUint64(b[i*pageSize+16+field:], v)
	seal(b, pageSize)
}

func TestCheck(t *testing.T) {
	s := newSample(t, 1<<10, 500)
	list := s.of("freelist")[0]
	meta := func(field int, v uint64) func(*sample) {
		return func(s *sample) {
			setMeta(s.b, s.pageSize, 0, field, v)
			setMeta(s.b, s.pageSize, 1, field, v)
		}
	}
	free := func(ids ...int) func(*sample) {
		return func(s *sample) {
			p := s.page(list)
			binary.NativeEndian.PutUint16(p[10:], uint16(len(ids)))
			for i, id := range ids {
				binary.NativeEndian.PutUint64(p[16+8*i:], uint64(id))
			}
		}
	}
	for _, tc := range []struct {
		name, want string
		do         func(*sample)
	}{
		{name: "untouched", do: func(*sample) {}},
		{name: "high water beyond the end", do: meta(metaPages, 1<<20), want: "are there"},
		{name: "high water that overflows", do: meta(metaPages, 1<<63+1), want: "are there"},
		{name: "root is meta", do: meta(metaRoot, 1), want: "root at page 1"},
		{name: "root beyond", do: meta(metaRoot, 1<<60), want: "root at page"},
		{name: "no freelist", do: meta(metaFreelist, 1<<64-1)},
		{name: "freelist is meta", do: meta(metaFreelist, 0), want: "not in the file"},
		{name: "freelist beyond", do: meta(metaFreelist, 1<<64-2), want: "not in the file"},
		{name: "freelist is a leaf", do: meta(metaFreelist, uint64(s.leafOf(3))), want: "flags 0x2"},
		{name: "version", do: meta(metaVersion, 3|1<<10<<32), want: "version 3"},
		{name: "small page size", do: meta(metaPageSize, 512), want: "page size 512"},
		{name: "odd page size", do: meta(metaPageSize, 1536), want: "page size 1536"},
		{name: "large page size", do: meta(metaPageSize, 1<<25), want: "page size 33554432"},
		{name: "no page size", do: meta(metaPageSize, 0), want: "page size 0"},
		{name: "nothing free", do: free()},
		{name: "free pages", do: free(2, 3, 4)},
		{name: "in any order", do: free(4, 2, 3)},
		{name: "more than the page holds", do: func(s *sample) { binary.NativeEndian.PutUint16(s.page(list)[10:], 127) }, want: "127 numbers"},
		{name: "free meta", do: free(2, 1), want: "names page 1"},
		{name: "free beyond", do: free(2, 1<<30), want: "names page 1073741824"},
		{name: "free twice", do: free(3, 2, 3), want: "names page 3 twice"},
		{name: "free root", do: free(s.root), want: "in use"},
		{name: "free freelist", do: free(list), want: "in use"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := s.clone()
			tc.do(c)
			err := open(c.b).Check()
			if !says(err, tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			allDamaged(t, err)
		})
	}
}

// TestNewestMeta goes by the transaction, not by the page.
func TestNewestMeta(t *testing.T) {
	s := newSample(t, 1<<10, 100)
	for i := range 2 {
		c := s.clone()
		setMeta(c.b, c.pageSize, i, metaTxID, 1000)
		setMeta(c.b, c.pageSize, i, metaRoot, 1<<30)
		setMeta(c.b, c.pageSize, 1-i, metaTxID, 999)
		if err := open(c.b).Check(); !says(err, "root at page") {
			t.Errorf("meta %d is the newest: %v", i, err)
		}
		setMeta(c.b, c.pageSize, 1-i, metaTxID, 1001)
		if err := open(c.b).Check(); err != nil {
			t.Errorf("meta %d is the older: %v", i, err)
		}
	}
}

// TestPageSizeFromSecondMeta has no first meta page.
func TestPageSizeFromSecondMeta(t *testing.T) {
	for size := 1 << 10; size <= 1<<17; size *= 2 {
		s := newSample(t, size, 100)
		clear(s.page(0))
		if size > 1<<10 {
			copy(s.b[1<<10:], s.page(1)[:80]) // a meta page where none of this size can be
		}
		if got, _ := walk(open(s.b), "records"); len(got) != 100 {
			t.Errorf("page size %d: %d records", size, len(got))
		}
	}
}

// TestLongFreelist has more free pages than a count of 16 bits can tell.
func TestLongFreelist(t *testing.T) {
	const pageSize = 1 << 10
	big := pair{"records", "big", string(make([]byte, 70000*pageSize))}
	drop := func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("records")) }
	b := makeFile(t, pageSize, put(big), drop, put(pair{"records", "k", "v"}))
	if err := open(b).Check(); err != nil {
		t.Fatal(err)
	}
	list := int(binary.NativeEndian.Uint64(b[16+metaFreelist:])) // of transaction 4
	if n := binary.NativeEndian.Uint16(b[list*pageSize+10:]); n != 0xFFFF {
		t.Fatalf("the freelist's count is %d", n)
	}
	for _, count := range []uint64{1 << 62, 1 << 63, 1<<64 - 1, 100000} {
		binary.NativeEndian.PutUint64(b[list*pageSize+16:], count)
		if err := open(b).Check(); !says(err, "numbers") {
			t.Errorf("count %d: %v", count, err)
		}
	}
}
