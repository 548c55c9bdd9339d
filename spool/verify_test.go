package spool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

// TestVerifyReadsOwnersWithoutALockFile verifies what a copy has left out the lock file of.
func TestVerifyReadsOwnersWithoutALockFile(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		s := open(t, spool.Options{Dir: dir})
		mustAppend(t, s, records(0, 3)...)
		if err := os.Remove(filepath.Join(dir, s.OwnName(), "LOCK")); err != nil {
			t.Fatal(err)
		}
		closeSpool(t, s)
	}
	reports, err := spool.Verify(dir)
	if err != nil || len(reports) != 2 {
		t.Fatalf("%+v, %v", reports, err)
	}
	for _, r := range reports {
		if r.Pending != 3 || len(r.Problems) != 0 {
			t.Errorf("%+v", r)
		}
	}
	if locks, err := filepath.Glob(filepath.Join(dir, "*", "LOCK")); err != nil || len(locks) != 0 {
		t.Errorf("created %v, %v", locks, err)
	}
}

// TestVerifyEndsWithItsContext reads no segment for a caller that waits no longer.
func TestVerifyEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	mustAppend(t, s, records(0, 3)...)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if reports, err := s.VerifyContext(gone); !errors.Is(err, context.Canceled) || len(reports) > 0 {
		t.Errorf("of its own: %+v, %v", reports, err)
	}
	closeSpool(t, s)
	if reports, err := spool.VerifyContext(gone, dir); !errors.Is(err, context.Canceled) || len(reports) > 0 {
		t.Errorf("of the dead: %+v, %v", reports, err)
	}
}
