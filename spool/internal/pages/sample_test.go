package pages_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// extent is a page in use with its overflow pages.
type extent struct {
	id, n int
	kind  string
}

// sample is a file that holds a segment's buckets: records in a tree, the others
// inline.
type sample struct {
	b        []byte
	pageSize int
	pairs    []pair
	extents  []extent
	root     int // page of the root bucket's leaf
	top      int // page of the records' topmost branch
	offset   map[pair]int
}

const (
	inlinePairs    = 4 // that come before the records
	bigSeq, bigLen = 20, 5000
)

func buckets() []string { return []string{"dead", "held", "meta", "records"} }

// newSample makes a file with n records, one of which has overflow pages, in several
// commits. Both meta pages say the same, of each pair there is one copy, and the file
// ends where its use ends.
func newSample(tb testing.TB, pageSize, n int) *sample {
	tb.Helper()
	s := &sample{pageSize: pageSize, pairs: []pair{
		{"dead", string(key(5)), "a reason"},
		{"held", string(key(7)), "one reason"},
		{"held", string(key(9)), "two reasons"},
		{"meta", "meta", string(value(1<<40, 48))},
	}}
	for seq := range n {
		size := 100
		if seq == bigSeq {
			size = bigLen
		}
		s.pairs = append(s.pairs, pair{"records", string(key(uint64(seq))), string(value(uint64(seq), size))})
	}
	var commits []func(*bolt.Tx) error
	for part := range slices.Chunk(s.pairs, len(s.pairs)/3+1) {
		commits = append(commits, put(part...))
	}
	last := s.pairs[len(s.pairs)-1] // once more, so that the root is not the last page
	s.b = makeFile(tb, pageSize, append(commits, put(last), put())...)
	s.survey(tb)
	s.clearFree()
	end := s.extents[len(s.extents)-1]
	s.b = s.b[:(end.id+end.n)*pageSize]
	s.locate()
	return s
}

// survey notes where everything is.
func (s *sample) survey(tb testing.TB) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "db")
	if err := os.WriteFile(path, s.b, 0o600); err != nil {
		tb.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		s.root = int(tx.Cursor().Bucket().Root())
		s.top = int(tx.Bucket([]byte("records")).Root())
		for id := 0; ; {
			info, err := tx.Page(id)
			if err != nil || info == nil {
				return err
			}
			s.extents = append(s.extents, extent{id: id, n: 1 + info.OverflowCount, kind: info.Type})
			id += 1 + info.OverflowCount
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// clearFree wipes out what older commits left, but for the freelist that the older
// meta page names.
func (s *sample) clearFree() {
	for _, id := range s.of("free") {
		if p := s.page(id); p[8] != 0x10 {
			clear(p)
		}
	}
}

// page returns the bytes of a page.
func (s *sample) page(id int) []byte { return s.b[id*s.pageSize : (id+1)*s.pageSize] }

// of returns the pages of a kind.
func (s *sample) of(kind string) (ids []int) {
	for _, e := range s.extents {
		if e.kind == kind {
			ids = append(ids, e.id)
		}
	}
	return ids
}

// at returns the extent that a page is in.
func (s *sample) at(page int) extent {
	i := slices.IndexFunc(s.extents, func(e extent) bool { return page < e.id+e.n })
	if i < 0 {
		return extent{id: page, n: 1, kind: "beyond"}
	}
	return s.extents[i]
}

// locate notes where in the file each value lies.
func (s *sample) locate() {
	s.offset = map[pair]int{}
	for _, e := range s.extents {
		if e.kind != "leaf" {
			continue
		}
		b := s.b[e.id*s.pageSize : (e.id+e.n)*s.pageSize]
		for _, p := range s.pairs {
			if i := bytes.Index(b, []byte(p.value)); i >= 0 {
				s.offset[p] = e.id*s.pageSize + i
			}
		}
	}
}

// leaf returns the page of the leaf that holds p.
func (s *sample) leaf(p pair) int { return s.at(s.offset[p] / s.pageSize).id }

// in returns the pairs in the leaf at a page.
func (s *sample) in(page int) (pairs []pair) {
	for _, p := range s.pairs {
		if s.leaf(p) == page {
			pairs = append(pairs, p)
		}
	}
	return pairs
}

// leafOf returns the page of the leaf with this record.
func (s *sample) leafOf(seq int) int { return s.leaf(s.pairs[inlinePairs+seq]) }

// lost returns the pairs of the sample that are not among those found, sorted as put.
func (s *sample) lost(found map[pair]int) (lost []pair) {
	for _, p := range s.pairs {
		if found[p] == 0 {
			lost = append(lost, p)
		}
	}
	return lost
}

func (s *sample) clone() *sample {
	c := *s
	c.b = bytes.Clone(s.b)
	return &c
}
