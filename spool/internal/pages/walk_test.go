package pages_test

import (
	"fmt"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

func TestWalkAndScanFindAll(t *testing.T) {
	for _, tc := range []struct{ pageSize, n int }{
		{1 << 10, 0},
		{1 << 10, 1},
		{1 << 10, 60},
		{1 << 10, 5000}, // branches on three levels
		{1 << 12, 5000},
		{1 << 14, 3000},
		{1 << 16, 3000},
		{1 << 21, 3000}, // more than Scan reads at once
	} {
		t.Run(fmt.Sprintf("%d in pages of %d", tc.n, tc.pageSize), func(t *testing.T) {
			s := newSample(t, tc.pageSize, max(tc.n, 1))
			f := open(s.b)
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			got, errs := walk(f, buckets()...)
			if !slices.Equal(got, s.pairs) || len(errs) > 0 {
				t.Errorf("Walk: %d pairs of %d in order, errors %v", len(got), len(s.pairs), errs)
			}
			found, errs := scan(f)
			if lost := s.lost(found); len(lost) > 0 || len(errs) > 0 {
				t.Errorf("Scan: lost %v, errors %v", lost, errs)
			}
		})
	}
}

func TestHas(t *testing.T) {
	f := open(newSample(t, 1<<10, 10).b)
	for _, name := range buckets() {
		if !f.Has(name) {
			t.Errorf("no bucket %q", name)
		}
	}
	if f.Has("") || f.Has("none") || open(make([]byte, 1<<12)).Has("records") {
		t.Error("a bucket that is not there")
	}
}

func TestWalkSeesTheLastCommitScanOldOnesToo(t *testing.T) {
	var commits []func(*bolt.Tx) error
	for v := range 5 {
		var ps []pair
		for seq := range uint64(300) {
			ps = append(ps, pair{"records", string(key(seq)), string(value(seq+uint64(v)<<32, 50*(v+1)))})
		}
		ps = append(ps, pair{"meta", "meta", fmt.Sprintf("version %d", v)})
		commits = append(commits, put(ps...))
	}
	f := open(makeFile(t, 1<<12, commits...))
	got, errs := walk(f, "meta", "records")
	if len(errs) > 0 || len(got) != 301 || got[0].value != "version 4" || len(got[300].value) != 250 {
		t.Errorf("Walk: %d pairs, meta %q, errors %v", len(got), got[0].value, errs)
	}
	found, _ := scan(f)
	if found[pair{"meta", "meta", "version 4"}] == 0 || found[pair{"meta", "meta", "version 3"}] == 0 {
		t.Error("Scan misses the meta of one of the last two commits")
	}
	old := 0
	for p := range found {
		if p.bucket == "records" && len(p.value) < 250 {
			old++
		}
	}
	if old == 0 {
		t.Error("Scan finds no old record")
	}
}

func TestNestedBuckets(t *testing.T) {
	s := newSample(t, 1<<12, 20)
	nest := func(tx *bolt.Tx) error {
		for name, n := range map[string]int{"small": 3, "large": 100} {
			b, err := tx.Bucket([]byte("records")).CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			for i := range n {
				if err := b.Put([]byte(fmt.Sprintf("%s %03d", name, i)), value(uint64(1000+i), 100)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	f := open(makeFile(t, 1<<12, put(s.pairs...), nest))
	if got, errs := walk(f, buckets()...); !slices.Equal(got, s.pairs) || len(errs) > 0 {
		t.Errorf("Walk: %d pairs of %d in order, errors %v", len(got), len(s.pairs), errs)
	}
	found, _ := scan(f)
	for _, p := range []pair{
		{"small", "small 002", string(value(1002, 100))},   // inline
		{"records", "large 099", string(value(1099, 100))}, // with a page of its own
	} {
		if found[p] == 0 {
			t.Errorf("Scan does not find %q in %q", p.key, p.bucket)
		}
	}
}

// TestManyBuckets has more than the root's leaf holds.
func TestManyBuckets(t *testing.T) {
	var want []pair
	for i := range 500 {
		want = append(want, pair{fmt.Sprintf("bucket %03d", i), "key", fmt.Sprint(i)})
	}
	f := open(makeFile(t, 1<<10, put(want...)))
	for _, p := range want {
		if got, errs := walk(f, p.bucket); len(got) != 1 || got[0] != p || len(errs) > 0 {
			t.Errorf("%s: %v, errors %v", p.bucket, got, errs)
		}
	}
}

// TestWalkAgreesWithBolt compares after random histories: whatever bbolt writes is
// sound, and read as bbolt reads it.
func TestWalkAgreesWithBolt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var want []pair
		commits := make([]func(*bolt.Tx) error, rapid.IntRange(1, 8).Draw(rt, "commits"))
		for i := range commits {
			commits[i] = randomCommit(rt)
		}
		b := makeFile(t, 1<<rapid.IntRange(10, 13).Draw(rt, "page size"), append(commits, func(tx *bolt.Tx) error {
			return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
				return b.ForEach(func(k, v []byte) error {
					want = append(want, pair{string(name), string(k), string(v)})
					return nil
				})
			})
		})...)
		f := open(b)
		got, errs := walk(f, "a", "b", "c")
		if err := f.Check(); err != nil || len(errs) > 0 || !slices.Equal(got, want) {
			rt.Fatalf("%d pairs, want %d, errors %v, check: %v", len(got), len(want), errs, err)
		}
		found, errs := scan(f)
		for _, p := range want {
			if inline := (pair{"records", p.key, p.value}); found[p]+found[inline] == 0 {
				rt.Fatalf("Scan does not find key %x of %s", p.key, p.bucket)
			}
		}
		if len(errs) > 0 {
			rt.Fatal(errs)
		}
	})
}

// randomCommit puts into some of three buckets and deletes from them.
func randomCommit(t *rapid.T) func(*bolt.Tx) error {
	type op struct {
		bucket string
		key    []byte
		size   int // negative: delete
	}
	fill := rapid.Float64Range(0.1, 1).Draw(t, "fill")
	var ops []op
	for range rapid.IntRange(0, 300).Draw(t, "ops") {
		o := op{
			bucket: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "bucket"),
			key:    key(rapid.Uint64Range(0, 400).Draw(t, "key")),
			size:   rapid.OneOf(rapid.IntRange(-300, 300), rapid.IntRange(0, 20000)).Draw(t, "size"),
		}
		if rapid.IntRange(0, 20).Draw(t, "long key") == 0 {
			o.key = append(o.key, make([]byte, 3000)...)
		}
		ops = append(ops, o)
	}
	return func(tx *bolt.Tx) error {
		for _, name := range []string{"a", "b", "c"} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		for _, o := range ops {
			b := tx.Bucket([]byte(o.bucket))
			b.FillPercent = fill
			if o.size < 0 {
				if err := b.Delete(o.key); err != nil {
					return err
				}
			} else if err := b.Put(o.key, make([]byte, o.size)); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestFalseStops(t *testing.T) {
	s := newSample(t, 1<<10, 500)
	f := open(s.b)
	for n := 1; n < 500; n += 37 {
		left := n
		if errs := f.Walk("records", func(_, _ []byte) bool { left--; return left > 0 }); left != 0 || len(errs) > 0 {
			t.Errorf("Walk stopped after %d, not %d; errors %v", n-left, n, errs)
		}
		left = n
		if errs := f.Scan(func(_, _, _ []byte) bool { left--; return left > 0 }); left != 0 || len(errs) > 0 {
			t.Errorf("Scan stopped after %d, not %d; errors %v", n-left, n, errs)
		}
	}
}

func TestReadsEachPageOnce(t *testing.T) {
	s := newSample(t, 1<<10, 5000)
	r := &faulty{b: s.b, pageSize: s.pageSize}
	f := pages.Open(r, int64(len(s.b)))
	r.reads = 0
	walk(f, "records")
	if most := len(s.of("leaf")) + len(s.of("branch")) + 2; r.reads > most { // two pairs reach into overflow pages
		t.Errorf("Walk reads %d times, want at most %d", r.reads, most)
	}
	r.reads = 0
	scan(f)
	if most := len(s.b)>>20 + 1 + 2; r.reads > most {
		t.Errorf("Scan reads %d times, want at most %d", r.reads, most)
	}
	r.reads = 0
	if f.Scan(func(_, _, _ []byte) bool { return false }); r.reads > 1 {
		t.Errorf("Scan reads %d times for one pair", r.reads)
	}
}
