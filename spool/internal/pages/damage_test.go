package pages_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

// damage is done to a sample, and what is expected of it.
type damage struct {
	name       string
	do         func(s *sample)
	walk, scan []pair // lost
	check      string // in Check's error; empty for none
	stale      string // in Stale's error; empty for none
	says       string // in the first of Walk's errors; empty for none
}

func (d damage) test(t *testing.T, healthy *sample) {
	t.Helper()
	s := healthy.clone()
	d.do(s)
	f := open(s.b)
	err := f.Check()
	if !says(err, d.check) {
		t.Errorf("Check: %v, want %q", err, d.check)
	}
	if err := f.Stale(); !says(err, d.stale) {
		t.Errorf("Stale: %v, want %q", err, d.stale)
	}
	got, errs := walk(f, buckets()...)
	if lost := s.lost(found(got)); !slices.Equal(lost, d.walk) {
		t.Errorf("Walk lost %d pairs, want %d", len(lost), len(d.walk))
	}
	if len(errs) == 0 && d.says != "" || len(errs) > 0 && !says(errs[0], d.says) {
		t.Errorf("Walk: %v, want %q", errs, d.says)
	}
	allDamaged(t, append(errs, err)...)
	all, errs := scan(f)
	if lost := s.lost(all); !slices.Equal(lost, d.scan) || len(errs) > 0 {
		t.Errorf("Scan lost %d pairs, want %d; errors %v", len(lost), len(d.scan), errs)
	}
}

func says(err error, words string) bool {
	return words == "" && err == nil || words != "" && err != nil && strings.Contains(err.Error(), words)
}

func zero(page int) func(*sample) {
	return func(s *sample) { clear(s.page(page)) }
}

// flip changes bits of one byte.
func flip(page, at int, bits byte) func(*sample) {
	return func(s *sample) { s.page(page)[at] ^= bits }
}

func junk(page int) func(*sample) {
	return func(s *sample) { _, _ = rand.NewChaCha8([32]byte{1}).Read(s.page(page)) }
}

func TestDamagedMetaAndFreelist(t *testing.T) {
	s := newSample(t, os.Getpagesize(), 2000)
	list := s.of("freelist")[0]
	both := func(s *sample) { s.page(0)[60]++; s.page(1)[60]++ }
	for _, d := range []damage{
		{name: "nothing", do: func(*sample) {}},
		{name: "header of meta 0", do: flip(0, 3, 1)}, // bbolt does not look at it
		{name: "meta 0", do: flip(0, 60, 1), stale: "page 0: checksum"},
		{name: "meta 1", do: flip(1, 60, 1), stale: "page 1: checksum"},
		{name: "magic of meta 1", do: flip(1, 16, 1), stale: "page 1: not a meta page"},
		{name: "both", do: both, walk: s.pairs, check: "no valid meta page", stale: "page 0: checksum", says: "no valid meta page"},
		{name: "freelist zeroed", do: zero(list), check: "says it is page 0"},
		{name: "freelist of junk", do: junk(list), check: "says it is page"},
		{name: "freelist flags", do: flip(list, 8, 1), check: "flags 0x11"},
		{name: "freelist count", do: flip(list, 11, 0x80), check: "numbers"},
		{name: "freelist overflow", do: flip(list, 14, 1), check: "pages more"},
		{name: "freelist number", do: flip(list, 18, 1), check: "names page"},
	} {
		t.Run(d.name, func(t *testing.T) { d.test(t, s) })
	}
}

func TestDamagedTree(t *testing.T) {
	s := newSample(t, 1<<10, 1000)
	records := s.pairs[inlinePairs:]
	branch := s.parentOf(s.leafOf(3))
	for _, d := range []damage{
		{name: "root zeroed", do: zero(s.root), walk: s.pairs, scan: s.pairs[:inlinePairs], says: "says it is page 0"},
		{name: "root id", do: flip(s.root, 0, 1), walk: s.pairs, says: "says it is page"},
		{name: "root flags", do: flip(s.root, 8, 1), walk: s.pairs, says: "flags 0x3"},
		{name: "name of held", do: flip(s.root, bytes.Index(s.page(s.root), []byte("held")), 1), walk: s.pairs[1:3], scan: s.pairs[1:3], says: `bucket "held": is not there`},
		{name: "root of held", do: flip(s.root, bytes.Index(s.page(s.root), []byte("held"))+4, 1), walk: s.pairs[1:3], says: "wrong header"},
		{name: "inline page id", do: flip(s.root, bytes.Index(s.page(s.root), []byte("held"))+4+16, 1), walk: s.pairs[1:3], says: "wrong header"},
		{name: "top branch without count", do: func(s *sample) { clear(s.page(s.top)[10:12]) }, walk: records, says: "has no elements"},
		{name: "top branch zeroed", do: zero(s.top), walk: records, says: "says it is page 0"},
		{name: "branch zeroed", do: zero(branch), walk: s.below(branch), says: "says it is page 0"},
		{name: "branch of junk", do: junk(branch), walk: s.below(branch), says: "says it is page"},
		{name: "branch made a leaf", do: flip(branch, 8, 3), walk: s.below(branch), says: "element 0: lies outside"},
		{name: "branch count lower", do: func(s *sample) { s.page(branch)[10]-- }, walk: s.in(s.lastChild(branch)), says: "element 0: does not follow"},
		{name: "branch key position", do: flip(branch, 16+2, 1), says: "element 0: lies outside"},
		{name: "branch key", do: flip(branch, s.firstKey(branch)+7, 0xFF), says: "key out of order"},
		{name: "branch child", do: flip(branch, 16+8+6, 1), walk: s.in(s.child(branch, 0)), says: "named in a tree, but not among"},
	} {
		t.Run(d.name, func(t *testing.T) { d.test(t, s) })
	}
}

func TestDamagedLeaf(t *testing.T) {
	s := newSample(t, 1<<10, 1000)
	leaf, big := s.leafOf(13), s.leafOf(bigSeq)
	in, one := s.in(leaf), s.in(leaf)[1:2]
	last := in[len(in)-1]
	lastBelow := s.lastChild(s.parentOf(leaf))
	lastOfBranch := s.in(lastBelow)[len(s.in(lastBelow))-1]
	bigPair := s.pairs[inlinePairs+bigSeq:][:1]
	element := func(i, at int) int { return 16 + 16*i + at }
	for _, d := range []damage{
		{name: "zeroed", do: zero(leaf), walk: in, scan: in, says: "says it is page 0"},
		{name: "junk", do: junk(leaf), walk: in, scan: in, says: "says it is page"},
		{name: "id", do: flip(leaf, 5, 1), walk: in, says: "says it is page"},
		{name: "flags", do: flip(leaf, 8, 8), walk: in, says: "flags 0xa"},
		{name: "count higher", do: flip(leaf, 11, 0x40), says: "element 0: does not follow"},
		{name: "no count", do: func(s *sample) { clear(s.page(leaf)[10:12]) }, walk: in, says: "has no elements"},
		{name: "overflow", do: flip(leaf, 12, 4), says: "needs less than 4 pages more"},
		{name: "absurd overflow", do: flip(leaf, 15, 0x80), says: "needs less than"},
		{name: "element flags", do: flip(leaf, element(1, 0), 2), says: "element 1: flags 0x2"},
		{name: "element made a bucket", do: flip(leaf, element(1, 0), 1), says: "element 1: is no bucket"},
		{name: "position", do: flip(leaf, element(1, 4), 8), walk: one, scan: one, says: "element 1: does not follow"},
		{name: "position outside", do: flip(leaf, element(1, 7), 0x80), walk: one, scan: one, says: "element 1: lies outside"},
		{name: "key size", do: flip(leaf, element(1, 8), 1), walk: one, scan: one, says: "element 2: does not follow"},
		{name: "key size 0", do: flip(leaf, element(1, 8), 8), walk: one, scan: one, says: "element 1: lies outside"},
		{name: "value size", do: flip(leaf, element(1, 12), 1), walk: one, scan: one, says: "element 2: does not follow"},
		{name: "value size outside", do: flip(leaf, element(1, 15), 0xFF), walk: one, scan: one, says: "element 1: lies outside"},
		{name: "key", do: flip(leaf, s.firstKey(leaf), 1), walk: in[:1], scan: in[:1], says: "key out of order"},
		{name: "key between two", do: flip(leaf, s.key(in[1])+7, 1), walk: one, scan: one, says: "key out of order"},
		{name: "first key lower", do: flip(leaf, s.key(in[0])+7, in[0].key[7]), walk: in[:1], scan: in[:1], says: "key out of order"},
		{name: "last key that of the next leaf", do: flip(leaf, s.key(last)+7, last.key[7]^(last.key[7]+1)), walk: in[len(in)-1:], scan: in[len(in)-1:], says: "key out of order"},
		{name: "last key", do: flip(leaf, s.key(last), 1), walk: in[len(in)-1:], scan: in[len(in)-1:], says: "key out of order"},
		{
			name: "last key below a branch", do: flip(lastBelow, s.key(lastOfBranch), 1),
			walk: []pair{lastOfBranch}, scan: []pair{lastOfBranch}, says: "key out of order",
		},
		{name: "value", do: flip(leaf, s.firstKey(leaf)+8, 1), walk: in[:1], scan: in[:1]}, // for the caller to see
		{name: "overflow page zeroed", do: zero(big + 1), walk: bigPair, scan: bigPair},    // likewise
		{name: "overflow gone", do: func(s *sample) { clear(s.page(big)[12:16]) }, walk: s.reaching(big), says: "lies outside"},
	} {
		t.Run(d.name, func(t *testing.T) { d.test(t, s) })
	}
}

// TestTruncated cuts the file off everywhere: what is in front of the cut is found.
func TestTruncated(t *testing.T) {
	s := newSample(t, 1<<10, 500)
	for cut := 2 * s.pageSize; cut < len(s.b); cut += 300 {
		f := open(s.b[:cut])
		if err := f.Check(); !says(err, "are there") {
			t.Errorf("cut at %d: Check: %v", cut, err)
		}
		all, errs := scan(f)
		missing := s.behind(cut)
		if lost := s.lost(all); !slices.Equal(lost, missing) || len(errs) > 0 {
			t.Errorf("cut at %d: Scan lost %d pairs, want %d; errors %v", cut, len(lost), len(missing), errs)
		}
		if end := s.at(cut / s.pageSize); end.kind == "branch" || end.id == s.root {
			continue // half a branch leads to some of its children
		}
		unreached := slices.DeleteFunc(slices.Clone(s.pairs), func(p pair) bool {
			return !slices.Contains(missing, p) && s.reached(p, cut)
		})
		got, errs := walk(f, buckets()...)
		if lost := s.lost(found(got)); !slices.Equal(lost, unreached) || len(lost) > 0 && len(errs) == 0 {
			t.Errorf("cut at %d: Walk lost %d pairs, want %d; errors %v", cut, len(lost), len(unreached), errs)
		}
	}
}

func TestAlmostNothing(t *testing.T) {
	s := newSample(t, os.Getpagesize(), 10)
	for _, size := range []int{0, 1, 15, 16, 79, 80, 1024, s.pageSize - 1, s.pageSize, s.pageSize + 79, 2*s.pageSize - 1} {
		f := pages.Open(bytes.NewReader(s.b), int64(size)) // what is behind the size must not be read
		got, errs := walk(f, "records")
		if f.Check() == nil || len(got) > 0 || len(errs) == 0 {
			t.Errorf("%d bytes: check %v, %d pairs, errors %v", size, f.Check(), len(got), errs)
		}
		if none := says(f.Check(), "no valid meta page"); none != (size < 80) {
			t.Errorf("%d bytes: check %v", size, f.Check())
		}
		allDamaged(t, append(errs, f.Check())...)
		if all, errs := scan(f); len(all) > 0 || len(errs) > 0 {
			t.Errorf("%d bytes: Scan finds %v, errors %v", size, sorted(all), errs)
		}
	}
}

// child returns the number of a branch's child.
func (s *sample) child(branch, i int) int {
	return int(binary.NativeEndian.Uint64(s.page(branch)[16+16*i+8:]))
}

func (s *sample) count(page int) int {
	return int(binary.NativeEndian.Uint16(s.page(page)[10:]))
}

func (s *sample) lastChild(branch int) int { return s.child(branch, s.count(branch)-1) }

// firstKey is where in a page the first key begins.
func (s *sample) firstKey(page int) int { return 16 + 16*s.count(page) }

// key is where in its page the key of p begins.
func (s *sample) key(p pair) int { return s.offset[p]%s.pageSize - len(p.key) }

// below returns the pairs in the leaves of a branch.
func (s *sample) below(branch int) (pairs []pair) {
	for i := range s.count(branch) {
		pairs = append(pairs, s.in(s.child(branch, i))...)
	}
	return pairs
}

// reaching returns the pairs of a leaf that lie in its overflow pages.
func (s *sample) reaching(leaf int) []pair {
	return slices.DeleteFunc(s.in(leaf), func(p pair) bool { return s.offset[p]+len(p.value) <= (leaf+1)*s.pageSize })
}

// parentOf returns the branch above a leaf.
func (s *sample) parentOf(leaf int) int {
	for _, branch := range s.of("branch") {
		for i := range s.count(branch) {
			if s.child(branch, i) == leaf {
				return branch
			}
		}
	}
	return -1
}

// behind returns the pairs that are not whole in front of a cut.
func (s *sample) behind(cut int) []pair {
	return slices.DeleteFunc(slices.Clone(s.pairs), func(p pair) bool { return s.offset[p]+len(p.value) <= cut })
}

// reached reports whether the branches above p, and the root, are in front of a cut.
func (s *sample) reached(p pair, cut int) bool {
	above := []int{s.root}
	if p.bucket == "records" {
		above = append(above, s.top, s.parentOf(s.leaf(p)))
	}
	return slices.Max(above) < cut/s.pageSize
}
