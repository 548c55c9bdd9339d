package pages_test

import (
	"encoding/binary"
	"slices"
	"testing"
)

// TestBranchesInCircles has branches that name pages which they must not.
func TestBranchesInCircles(t *testing.T) {
	s := newSample(t, 1<<10, 500)
	branches := s.of("branch")
	for _, tc := range []struct {
		name  string
		child uint64
	}{
		{"itself", uint64(s.top)},
		{"the root", uint64(s.root)},
		{"a meta page", 0},
		{"the freelist", uint64(s.of("freelist")[0])},
		{"another's child", uint64(s.leafOf(3))},
		{"beyond the end", 1 << 40},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := s.clone()
			for _, id := range branches {
				// The second of its children; see page.go for the layout.
				binary.NativeEndian.PutUint64(c.page(id)[16+16+8:], tc.child)
			}
			got, errs := walk(open(c.b), buckets()...)
			if len(errs) == 0 || len(got) == 0 || len(got) >= len(s.pairs) {
				t.Errorf("%d pairs, errors %v", len(got), errs)
			}
			for _, p := range got {
				if n := found(got)[p]; n > 1 {
					t.Fatalf("key %x comes %d times", p.key, n)
				}
			}
			if all, _ := scan(open(c.b)); len(s.lost(all)) > 0 {
				t.Errorf("Scan lost %v", s.lost(all))
			}
		})
	}
}

func TestWalkOfAMissingBucket(t *testing.T) {
	for name, b := range map[string][]byte{
		"others": newSample(t, 1<<10, 10).b,
		"none":   makeFile(t, 1<<10),
	} {
		_, errs := walk(open(b), "record")
		if len(errs) != 1 || !says(errs[0], `bucket "record": is not there`) {
			t.Errorf("%s: errors %v", name, errs)
		}
		allDamaged(t, errs...)
	}
}

// TestBranchCount has a branch that says it has more children than a page holds: no
// error for each.
func TestBranchCount(t *testing.T) {
	s := newSample(t, 1<<10, 500)
	binary.NativeEndian.PutUint16(s.page(s.parentOf(s.leafOf(3)))[10:], 0xFFFF)
	got, errs := walk(open(s.b), "records")
	if len(got) != 500 || len(errs) == 0 || len(errs) > s.pageSize/16 {
		t.Errorf("%d records, %d errors", len(got), len(errs))
	}
}

// TestDeepTree has branches with one child each between the file and its root.
func TestDeepTree(t *testing.T) {
	for _, tc := range []struct {
		depth int
		found bool
	}{{1, true}, {20, true}, {40, false}, {1000, false}} {
		s := newSample(t, 1<<10, 100)
		pages := len(s.b) / s.pageSize
		for i := range tc.depth {
			child := pages + i + 1
			if i == tc.depth-1 {
				child = s.root
			}
			s.b = append(s.b, branchPage(s.pageSize, pages+i, child)...)
		}
		for i := range 2 {
			setMeta(s.b, s.pageSize, i, metaRoot, uint64(pages))
			setMeta(s.b, s.pageSize, i, metaPages, uint64(pages+tc.depth))
		}
		f := open(s.b)
		got, errs := walk(f, buckets()...)
		if sound := slices.Equal(got, s.pairs) && len(errs) == 0; sound != tc.found || f.Check() != nil {
			t.Errorf("depth %d: %d pairs, errors %v, check: %v", tc.depth, len(got), errs, f.Check())
		}
	}
}

// branchPage is a branch with one child, whose keys begin with "a" or later.
func branchPage(pageSize, id, child int) []byte {
	b := make([]byte, pageSize)
	binary.NativeEndian.PutUint64(b, uint64(id))
	binary.NativeEndian.PutUint16(b[8:], 1)   // branch
	binary.NativeEndian.PutUint16(b[10:], 1)  // count
	binary.NativeEndian.PutUint32(b[16:], 16) // pos
	binary.NativeEndian.PutUint32(b[20:], 1)  // ksize
	binary.NativeEndian.PutUint64(b[24:], uint64(child))
	b[32] = 'a'
	return b
}
