package pages_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

// pair is a key and its value as put, and the top-level bucket it was put into.
type pair struct{ bucket, key, value string }

func key(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// value is n bytes that no other seq has.
func value(seq uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte(bytes.Repeat(key(seq), 4))).Read(b)
	return b
}

// makeFile returns the bytes of a bbolt file after these commits.
func makeFile(tb testing.TB, pageSize int, commits ...func(*bolt.Tx) error) []byte {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: pageSize, NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	for _, commit := range commits {
		if err := db.Update(commit); err != nil {
			tb.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// put returns a commit that stores the pairs, and makes their buckets.
func put(pairs ...pair) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		for _, p := range pairs {
			b, err := tx.CreateBucketIfNotExists([]byte(p.bucket))
			if err != nil {
				return err
			}
			if err := b.Put([]byte(p.key), []byte(p.value)); err != nil {
				return err
			}
		}
		return nil
	}
}

func open(b []byte) *pages.File { return pages.Open(bytes.NewReader(b), int64(len(b))) }

// walk returns what Walk finds in the buckets.
func walk(f *pages.File, buckets ...string) (found []pair, errs []error) {
	for _, name := range buckets {
		errs = append(errs, f.Walk(name, func(k, v []byte) bool {
			found = append(found, pair{name, string(k), string(v)})
			return true
		})...)
	}
	return found, errs
}

// scan returns what Scan finds, and how often. Leaves of their own are of records.
func scan(f *pages.File) (map[pair]int, []error) {
	found := map[pair]int{}
	errs := f.Scan(func(bucket, k, v []byte) bool {
		name := "records"
		if bucket != nil {
			name = string(bucket)
		}
		found[pair{name, string(k), string(v)}]++
		return true
	})
	return found, errs
}

// found counts.
func found(pairs []pair) map[pair]int {
	m := map[pair]int{}
	for _, p := range pairs {
		m[p]++
	}
	return m
}

// seal makes a meta page valid after a change, and returns b.
func seal(b []byte, pageSize int) []byte {
	for i := range 2 {
		if at := i*pageSize + 16; len(b) >= at+64 {
			sum := fnv.New64a()
			_, _ = sum.Write(b[at : at+56])
			binary.NativeEndian.PutUint64(b[at+56:], sum.Sum64())
		}
	}
	return b
}

// faulty is a file on a disk that cannot read some pages. It counts reads.
type faulty struct {
	b        []byte
	pageSize int
	bad      []int
	reads    int
}

func (f *faulty) ReadAt(b []byte, at int64) (int, error) {
	f.reads++
	for _, id := range f.bad {
		if start := int64(id * f.pageSize); at < start+int64(f.pageSize) && start < at+int64(len(b)) {
			return 0, syscall.EIO
		}
	}
	return bytes.NewReader(f.b).ReadAt(b, at)
}

func allDamaged(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil && !errors.Is(err, pages.ErrDamaged) {
			t.Errorf("%v does not wrap ErrDamaged", err)
		}
	}
}

func sorted(m map[pair]int) []pair {
	return slices.SortedFunc(maps.Keys(m), func(a, b pair) int {
		return bytes.Compare([]byte(a.bucket+a.key+a.value), []byte(b.bucket+b.key+b.value))
	})
}
