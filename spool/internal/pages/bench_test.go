package pages_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

// benchFile is a segment of about 64 MiB, of records of size bytes.
func benchFile(b *testing.B, size int) *pages.File {
	b.Helper()
	n, perCommit := (60<<20)/(size+24), max(1, (256<<10)/size)
	var commits []func(*bolt.Tx) error
	for first := 0; first < n; first += perCommit {
		commits = append(commits, func(tx *bolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("records"))
			if err != nil {
				return err
			}
			bucket.FillPercent = 0.95
			for seq := first; seq < first+perCommit; seq++ {
				if err := bucket.Put(key(uint64(seq)), value(uint64(seq), size)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	all, pageSize := makeFile(b, 0, commits...), os.Getpagesize()
	inUse := int(binary.NativeEndian.Uint64(all[pageSize*(1-len(commits)%2)+16+metaPages:])) * pageSize
	path := filepath.Join(b.TempDir(), "seg")
	if err := os.WriteFile(path, all[:inUse], 0o600); err != nil {
		b.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { file.Close() })
	info, err := file.Stat()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	f := pages.Open(file, info.Size())
	if err := f.Check(); err != nil {
		b.Fatal(err)
	}
	return f
}

// BenchmarkWalk and BenchmarkScan read a file that the system has cached.
func BenchmarkWalk(b *testing.B) {
	for name, size := range map[string]int{"300B": 300, "1MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			f := benchFile(b, size)
			for b.Loop() {
				if errs := f.Walk("records", func(_, _ []byte) bool { return true }); len(errs) > 0 {
					b.Fatal(errs)
				}
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	for name, size := range map[string]int{"300B": 300, "1MiB": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			f := benchFile(b, size)
			for b.Loop() {
				f.Scan(func(_, _, _ []byte) bool { return true })
			}
		})
	}
}
