//go:build unix

package spool_test

import (
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

func TestNobodyElseCanRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	defer syscall.Umask(syscall.Umask(0))
	s := open(t, spool.Options{Dir: dir})
	mustAppend(t, s, records(0, 10)...)
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
	if err != nil || seen != 5 {
		t.Fatalf("saw %d names, want SpoolDir, owner, LOCK, identity, segment: %v", seen, err)
	}
}
