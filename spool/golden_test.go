package spool_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool"
)

var update = flag.Bool("update", false, "write the golden SpoolDir of this format version anew")

// goldenRecord has something in each field, and one record is longer than a page.
func goldenRecord(i int) spool.Record {
	r := spool.Record{
		ID: fmt.Sprintf("golden-%d", i), Class: fmt.Sprintf("queue-%d\x00t\u00e4st", i%3),
		At: time.Date(2026, 11, 23, 20, 0, i, 5, time.UTC), Data: fmt.Appendf(nil, "data \x00\xff %d", i),
	}
	if i%4 == 0 {
		r.Lock, r.LockUntil = "lock", r.At.Add(time.Hour)
	}
	if i == 7 {
		r.Data = bytes.Repeat([]byte("long"), 3000)
	}
	return r
}

const goldenTarget = "redis://golden:6379/0"

// writeGolden leaves two dead owners: one with records that are pending, held, dead and
// settled, and one whose records nobody has looked at.
func writeGolden(t *testing.T, dir string) {
	t.Helper()
	for owner := range 2 {
		s := open(t, spool.Options{Dir: dir, Target: goldenTarget})
		for i := range 10 {
			mustAppend(t, s, goldenRecord(10*owner+i))
		}
		if owner == 0 {
			entries, err := s.Read(5, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			batch := settlements(entries, spool.Delivered)
			batch[1].Outcome, batch[3].Outcome = spool.Kept, spool.Dead
			if err := s.Settle(batch...); err != nil {
				t.Fatal(err)
			}
		}
		closeSpool(t, s)
	}
}

// goldenNow is what programs write now.
const goldenNow = "v2"

// TestGolden opens what the first program of each format version has written. It must work
// for ever.
func TestGolden(t *testing.T) {
	if *update {
		golden := filepath.Join("testdata", goldenNow)
		if err := os.RemoveAll(golden); err != nil {
			t.Fatal(err)
		}
		writeGolden(t, golden)
	}
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) { testGolden(t, filepath.Join("testdata", version)) })
	}
}

func testGolden(t *testing.T, golden string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "spool")
	copyTree(t, golden, dir)
	for _, path := range segmentFiles(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(b, []byte(goldenTarget)) {
			t.Errorf("%s does not say where its records belong: %v", path, err)
		}
	}
	reports, err := spool.Verify(dir)
	if err != nil || len(reports) != 2 || len(reports[0].Problems)+len(reports[1].Problems) > 0 {
		t.Fatalf("%+v, %v", reports, err)
	}
	s := open(t, spool.Options{Dir: dir, Target: goldenTarget})
	mustAdopt(t, s, 6+10)
	letters, _, err := s.DeadLetters("", 10)
	if err != nil || len(letters) != 1 || letters[0].ID != "golden-3" || letters[0].Reason != "because" || letters[0].Since.IsZero() {
		t.Errorf("%+v, %v", letters, err)
	}
	want := []int{1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}
	entries, _, err := s.List("", 100)
	if err != nil || len(entries) != len(want) {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for i, e := range entries {
		w := goldenRecord(want[i])
		if e.ID != w.ID || e.Class != w.Class || e.Lock != w.Lock || !e.At.Equal(w.At) || !e.LockUntil.Equal(w.LockUntil) || !bytes.Equal(e.Data, w.Data) {
			t.Errorf("record %d: got %.200v, want %.200v", i, e.Record, w)
		}
		if attempts := map[bool]int{true: 1}[i == 0]; e.Attempts != attempts {
			t.Errorf("record %d: %d attempts, want %d", i, e.Attempts, attempts)
		}
	}
	for i := range 3 { // each has some that the other two do not wait for
		if got := replay(t, s, 2, fmt.Sprint("queue-", i)); len(got) < 5 {
			t.Errorf("drained %v", got)
		}
	}
	if n := s.Stats().Pending; n != 0 {
		t.Errorf("%d are left", n)
	}
}

// copyTree copies with the modes that git does not keep.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAnUnknownVersionIsKeptAndLeftAlone changes the version of each kind of value, as a
// newer program would have written it, checksum and all.
func TestAnUnknownVersionIsKeptAndLeftAlone(t *testing.T) {
	for _, kind := range []string{"header", "state", "record", "identity"} {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "spool")
			copyTree(t, filepath.Join("testdata", "v1"), dir)
			newer := segmentFiles(t, dir)[0]
			if kind == "identity" {
				newer = filepath.Join(filepath.Dir(newer), "identity")
			}
			before := setVersion(t, newer, kind)

			s := open(t, spool.Options{Dir: dir, Target: goldenTarget})
			_, adoptErr := s.Adopt()
			if got := drain(t, s); len(got) < 10 || len(got) > 16 {
				t.Errorf("drained %v, want those of the other owner", got)
			}
			if st := s.Stats(); len(st.Bad) == 0 && adoptErr == nil || st.Quarantined != 0 {
				t.Errorf("%v; %+v", adoptErr, st)
			}
			closeSpool(t, s)
			if after, err := os.ReadFile(newer); err != nil || !bytes.Equal(after, before) {
				t.Errorf("%s was touched: %v", newer, err)
			}
		})
	}
}

// setVersion changes a file and returns what it holds then.
func setVersion(t *testing.T, path, kind string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	if kind == "identity" {
		b = bytes.Replace(b, []byte(`"version":1`), []byte(`"version":2`), 1)
		changed = bytes.Count(b, []byte(`"version":2`))
	} else {
		changed = spool.SetVersions(b, filepath.Base(filepath.Dir(path)), 1, kind, 9)
	}
	if changed == 0 {
		t.Fatalf("no %s found", kind)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}
