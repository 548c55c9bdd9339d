package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

// TestFilesOfAnotherFormatAreLeftAlone leaves an owner with a file that is no segment of
// this program's: one of a newer program, with which it shares the SpoolDir.
func TestFilesOfAnotherFormatAreLeftAlone(t *testing.T) {
	for name, segments := range map[string]int{"alone": 0, "beside a segment": 1} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			dead := open(t, spool.Options{Dir: dir, SegmentBytes: 64 << 10})
			large := record(0)
			large.Data = make([]byte, 100<<10) // a segment of its own
			mustAppend(t, dead, large)
			for range segments {
				mustAppend(t, dead, record(1))
			}
			closeSpool(t, dead)
			path := segmentFiles(t, dir)[0]
			strange := strings.TrimSuffix(path, ".seg") + ".seg2"
			if err := os.Rename(path, strange); err != nil {
				t.Fatal(err)
			}
			s := open(t, spool.Options{Dir: dir})
			for range 2 {
				if n, err := s.Adopt(); n != len(drain(t, s)) || segments == 0 && !errors.Is(err, spool.ErrVersion) {
					t.Errorf("Adopt: %d, %v", n, err)
				}
				segments = 0
			}
			for _, name := range []string{"LOCK", "identity", filepath.Base(strange)} {
				if _, err := os.Stat(filepath.Join(filepath.Dir(path), name)); err != nil {
					t.Error(err)
				}
			}
			if st := s.Stats(); st.Orphans != 0 || st.Pending != 0 {
				t.Errorf("%+v", st)
			}
			if err := os.Rename(strange, path); err != nil { // a program that knows it
				t.Fatal(err)
			}
			mustAdopt(t, s, 1)
			wantIDs(t, drain(t, s), 1)
			if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the empty owner is there: %v", err)
			}
		})
	}
}
