package spool_test

import (
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// layout says which page of a segment's file is what.
type layout struct {
	b     []byte
	size  int              // of a page
	metas [2]int           // the newer one first
	pages map[string][]int // root, freelist; for each bucket with pages of its own: leaves, and "branch of" it
}

// layoutOf reads a sound file. The numbers are those of bbolt's format, as
// internal/pages draws it.
func layoutOf(b []byte) *layout {
	l := &layout{b: b, size: int(binary.NativeEndian.Uint32(b[16+8:])), metas: [2]int{0, 1}, pages: map[string][]int{}}
	if l.number(l.size+16+48) > l.number(16+48) {
		l.metas = [2]int{1, 0}
	}
	meta := l.metas[0]*l.size + 16
	root, list := l.number(meta+16), l.number(meta+32)
	l.pages["root"], l.pages["freelist"] = []int{root}, []int{list}
	for name, value := range l.leaf(root) {
		if at := int(binary.NativeEndian.Uint64(value)); at != 0 {
			l.tree(name, at)
		}
	}
	return l
}

func (l *layout) number(at int) int { return int(binary.NativeEndian.Uint64(l.b[at:])) }

func (l *layout) word(at int) int { return int(binary.NativeEndian.Uint32(l.b[at:])) }

func (l *layout) count(id int) int { return int(binary.NativeEndian.Uint16(l.b[id*l.size+10:])) }

func (l *layout) leaf(id int) map[string][]byte {
	values := map[string][]byte{}
	for i := range l.count(id) {
		at := id*l.size + 16 + 16*i
		key := at + l.word(at+4)
		value := key + l.word(at+8)
		values[string(l.b[key:value])] = l.b[value : value+l.word(at+12)]
	}
	return values
}

func (l *layout) tree(name string, id int) {
	if isBranch := l.b[id*l.size+8] == 1; !isBranch {
		l.pages[name] = append(l.pages[name], id)
		return
	}
	l.pages["branch of "+name] = append(l.pages["branch of "+name], id)
	for i := range l.count(id) {
		l.tree(name, l.number(id*l.size+16+16*i+8))
	}
}

// extent is the bytes of a page with its overflow pages.
func (l *layout) extent(id int) []byte {
	return l.b[id*l.size:][:l.size*(1+l.word(id*l.size+12))]
}

// holding returns the leaf that holds a record.
func (l *layout) holding(seq uint64) int {
	leaves := l.pages["records"]
	return leaves[slices.IndexFunc(leaves, func(id int) bool { return l.leaf(id)[string(key(seq))] != nil })]
}

// used is how many pages bbolt uses.
func (l *layout) used() int { return l.number(l.metas[0]*l.size + 16 + 40) }

func key(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// pairs reads the buckets of a segment with bbolt: each key and the value behind it, as
// they lie in the file, by bucket and key.
func pairs(tb testing.TB, file []byte) map[string]map[string][]byte {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "pairs")
	writeFile(tb, path, file)
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	all := map[string]map[string][]byte{}
	if err := db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			all[string(name)] = map[string][]byte{}
			return b.ForEach(func(k, v []byte) error {
				all[string(name)][string(k)] = slices.Concat(k, v)
				return nil
			})
		})
	}); err != nil {
		tb.Fatal(err)
	}
	return all
}

// files returns the contents of all files under a directory, locks left out.
func files(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "LOCK" {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		all[rel] = string(b)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// sameFiles fails unless every file of before is there, as it was.
func sameFiles(tb testing.TB, before, after map[string]string) {
	tb.Helper()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if b, ok := after[name]; !ok || b != before[name] {
			tb.Errorf("%s was changed: %v, %d bytes, were %d", name, ok, len(b), len(before[name]))
		}
	}
}

func writeFile(tb testing.TB, path string, b []byte) {
	tb.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// copyDir copies a SpoolDir, with the modes that git does not keep.
func copyDir(tb testing.TB, from string) string {
	tb.Helper()
	to := filepath.Join(tb.TempDir(), "spool")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		tb.Fatal(err)
	}
	err := filepath.WalkDir(to, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, map[bool]os.FileMode{true: 0o700, false: 0o600}[d.IsDir()])
	})
	if err != nil {
		tb.Fatal(err)
	}
	return to
}
