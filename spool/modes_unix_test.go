//go:build unix

package spool_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

// TestNobodyElseCanRead lets files of every kind come to be without a umask, those that
// take others' places too.
func TestNobodyElseCanRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	backup := filepath.Join(t.TempDir(), "deep", "backup")
	defer syscall.Umask(syscall.Umask(0))
	dead := open(t, spool.Options{Dir: dir})
	mustAppend(t, dead, records(0, 10)...)
	closeSpool(t, dead)
	path := segmentFiles(t, dir)[0]
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.ReplaceAll(string(b), "payload 4", "PAYLOAD 4")), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, spool.Options{Dir: dir, SegmentBytes: 4 << 20})
	mustAdopt(t, s, 10)
	if entries, err := s.Read(100, 1<<20); err != nil || len(entries) != 9 { // the rest is in quarantine
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	large := record(1)
	large.Data = make([]byte, 2<<20)
	mustAppend(t, s, large, record(2))
	if err := s.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	wantModes(t, dir, 12) // itself; two owners with LOCK, identity and a segment; quarantine, a segment and its report
	wantModes(t, filepath.Dir(backup), 10)
}

func wantModes(t *testing.T, dir string, names int) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		seen++
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil || seen != names {
		t.Errorf("saw %d names under %s, want %d: %v", seen, dir, names, err)
	}
}
