package pages_test

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestOneByte damages each byte of a small file in turn. Whatever it is, no more is
// lost than the pair it belongs to, or the inline bucket.
func TestOneByte(t *testing.T) {
	s := newSample(t, 1<<10, 30)
	for i := range s.b {
		for _, bits := range []byte{0xFF, 1 << (i % 8)} {
			s.b[i] ^= bits
			f := open(s.b)
			allDamaged(t, f.Check())
			lost := s.lostByBoth(t)
			if len(lost) > 1 && (i/s.pageSize != s.root || !oneBucket(lost)) {
				t.Errorf("bits %#x at %d of page %d: lost %d pairs", bits, i%s.pageSize, i/s.pageSize, len(lost))
			}
			for _, p := range lost {
				if s.leaf(p) != s.at(i/s.pageSize).id {
					t.Errorf("bits %#x at %d of page %d: lost a pair in page %d", bits, i%s.pageSize, i/s.pageSize, s.leaf(p))
				}
			}
			s.b[i] ^= bits
		}
	}
}

// TestManyBytes damages several bytes at random places: what is lost lies in pages
// with one of them.
func TestManyBytes(t *testing.T) {
	s := newSample(t, os.Getpagesize(), 500)
	rnd := rand.New(rand.NewPCG(1, 2))
	healthy := s.b
	for round := range 3000 {
		s.b = append([]byte(nil), healthy...)
		hit := map[int]bool{}
		for range 2 + round%8 {
			at := rnd.IntN(len(s.b))
			s.b[at] = byte(rnd.Uint32())
			hit[s.at(at/s.pageSize).id] = true
		}
		for _, p := range s.lostByBoth(t) {
			if !hit[s.leaf(p)] {
				t.Errorf("round %d: pages %v were hit, a pair in %d is lost", round, hit, s.leaf(p))
			}
		}
	}
}

// lostByBoth returns the pairs that neither Walk nor Scan finds.
func (s *sample) lostByBoth(t *testing.T) []pair {
	t.Helper()
	all, errs := scan(open(s.b))
	if len(errs) > 0 {
		t.Errorf("Scan: %v", errs)
	}
	got, errs := walk(open(s.b), buckets()...)
	allDamaged(t, errs...)
	for _, p := range got {
		all[p]++
	}
	return s.lost(all)
}

func oneBucket(pairs []pair) bool {
	for _, p := range pairs {
		if p.bucket != pairs[0].bucket || p.bucket == "records" {
			return false
		}
	}
	return true
}

// TestScanWithoutATree finds every pair when all that is not a leaf is gone.
func TestScanWithoutATree(t *testing.T) {
	s := newSample(t, os.Getpagesize(), 5000)
	for _, kind := range []string{"meta", "freelist", "branch", "free"} {
		for _, id := range s.of(kind) {
			clear(s.page(id))
		}
	}
	if all, errs := scan(open(s.b)); len(s.lost(all)) > 0 || len(errs) > 0 {
		t.Errorf("lost %d pairs, errors %v", len(s.lost(all)), errs)
	}
}

// TestScanLooksIntoOverflow has a leaf where another one's value goes on, as when a
// stale page is half overwritten, and a value across the border of two reads.
func TestScanLooksIntoOverflow(t *testing.T) {
	at := 1<<20/forgedPage - 1
	b := forgedFile(1000)
	copy(b[at*forgedPage:], leafPage(at, "ab", make([]byte, 3*forgedPage)))
	copy(b[(at+1)*forgedPage:], leafPage(at+1, "c", []byte("inside")))
	var sizes []int
	errs := open(b).Scan(func(_, _, v []byte) bool {
		sizes = append(sizes, len(v))
		return true
	})
	if want := []int{3 * forgedPage, 3 * forgedPage, 6}; !slices.Equal(sizes, want) || len(errs) > 0 {
		t.Errorf("values of %d bytes, want %d; errors %v", sizes, want, errs)
	}
}

// TestPairsThatAllOverlap has 200 pairs in each page that all claim the next 100 pages:
// no more than a few dozen times the file's length may be spent on that.
func TestPairsThatAllOverlap(t *testing.T) {
	b := forgedFile(1000)
	for at := 2; at < 900; at++ {
		copy(b[at*forgedPage:], leafPage(at, strings.Repeat("k", 200), nil))
		for i := range 200 {
			binary.NativeEndian.PutUint32(b[at*forgedPage+16+16*i+12:], 100*forgedPage)
		}
		binary.NativeEndian.PutUint32(b[at*forgedPage+12:], 100)
	}
	total := 0
	if errs := open(b).Scan(func(_, _, v []byte) bool { total += len(v); return true }); len(errs) > 0 {
		t.Error(errs)
	}
	if total == 0 || total > 64*len(b) {
		t.Errorf("Scan hands out %d bytes of a file of %d", total, len(b))
	}
}

// TestBucketsInBucketsInBuckets has ten pairs on each of eight levels, all with the
// same value: a hundred million.
func TestBucketsInBucketsInBuckets(t *testing.T) {
	names := strings.Repeat("b", 10)
	value := []byte("end")
	for range 8 {
		inner := leafPage(0, names, value)
		for i := range len(names) {
			inner[16+16*i] = 1
		}
		value = append(make([]byte, 16), inner...)
	}
	page := leafPage(2, names, value)
	for i := range len(names) {
		page[16+16*i] = 1
	}
	b := forgedFile(3)
	copy(b[2*forgedPage:], page)
	n := 0
	open(b).Scan(func(_, _, _ []byte) bool { n++; return true })
	if n != 100 {
		t.Errorf("%d pairs, want those on two levels", n)
	}
}

// TestElementsThatAreNone are such as bbolt cannot have written.
func TestElementsThatAreNone(t *testing.T) {
	for _, tc := range []struct {
		name  string
		field int
		value uint32
		want  bool
	}{
		{"untouched", 12, 5000, true},
		{"value beyond the end", 12, 100 * forgedPage, false},
		{"no key", 8, 0, false},
		{"long key", 8, 32768, true},
		{"too long key", 8, 32769, false},
		{"key in the table", 4, 15, false},
		{"a bucket, but longer than a page", 0, 1, true},
	} {
		b := forgedFile(20)
		copy(b[2*forgedPage:], leafPage(2, "k", append(make([]byte, 16), leafPage(0, "i", make([]byte, 5000))...)))
		binary.NativeEndian.PutUint32(b[2*forgedPage+16+tc.field:], tc.value)
		n, inside := 0, 0
		open(b).Scan(func(bucket, _, _ []byte) bool {
			n++
			inside += len(bucket)
			return true
		})
		if n > 0 != tc.want || inside > 0 {
			t.Errorf("%s: %d pairs, %d in buckets", tc.name, n, inside)
		}
	}
}

const forgedPage = 1 << 12

// forgedFile has two valid meta pages, the root at page 2, and zeros.
func forgedFile(pages int) []byte {
	b := make([]byte, pages*forgedPage)
	for i := range 2 {
		m := b[i*forgedPage+16:]
		binary.NativeEndian.PutUint32(m, 0xED0CDAED)
		binary.NativeEndian.PutUint32(m[metaVersion:], 2)
		binary.NativeEndian.PutUint32(m[metaPageSize:], forgedPage)
		binary.NativeEndian.PutUint64(m[metaRoot:], 2)
		binary.NativeEndian.PutUint64(m[metaFreelist:], 1<<64-1)
		binary.NativeEndian.PutUint64(m[metaPages:], uint64(pages))
	}
	return seal(b, forgedPage)
}

// leafPage has a pair for each letter of keys. They share one value.
func leafPage(id int, keys string, value []byte) []byte {
	b := binary.NativeEndian.AppendUint64(nil, uint64(id))
	b = binary.NativeEndian.AppendUint16(b, 2) // leaf
	b = binary.NativeEndian.AppendUint16(b, uint16(len(keys)))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(value)/forgedPage))
	for i := range len(keys) {
		b = binary.NativeEndian.AppendUint32(b, 0)
		b = binary.NativeEndian.AppendUint32(b, uint32(16*(len(keys)-i)+len(keys)-1))
		b = binary.NativeEndian.AppendUint32(b, 1)
		b = binary.NativeEndian.AppendUint32(b, uint32(len(value)))
	}
	return append(append(b, keys...), value...)
}
