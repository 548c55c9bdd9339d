package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool"
)

func TestPause(t *testing.T) {
	dir := t.TempDir()
	paused := func() *spool.Pause {
		t.Helper()
		p, err := spool.Paused(dir)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := paused(); p != nil {
		t.Fatalf("%+v", p)
	}
	first := spool.Pause{Since: time.Now().UTC(), By: "me", Why: "a reason"}
	for _, p := range []spool.Pause{first, {Since: time.Now(), By: "another"}} {
		if err := spool.PauseReplay(dir, p); err != nil {
			t.Fatal(err)
		}
	}
	if p := paused(); p == nil || !p.Since.Equal(first.Since) || p.By != "me" || p.Why != "a reason" {
		t.Errorf("%+v, want the first", p)
	}
	if owners, err := spool.Inspect(dir); len(owners) != 0 || err != nil {
		t.Errorf("a SpoolDir with a pause and nothing else: %v, %v", owners, err)
	}
	killed := filepath.Join(dir, ".stage-1")
	writeFile(t, killed, nil)
	if err := os.Chtimes(killed, time.Time{}, time.Now().Add(-25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := spool.PauseReplay(dir, first); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	for _, want := range []bool{true, false} {
		if was, err := spool.ResumeReplay(dir); was != want || err != nil {
			t.Errorf("%v, %v, want %v", was, err, want)
		}
	}
	if p := paused(); p != nil {
		t.Errorf("%+v", p)
	}
}

// TestPauseWhoseFileMakesNoSense holds: what somebody wanted to stop must not go on.
func TestPauseWhoseFileMakesNoSense(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "{", "null", `{"since":"soon"}`} {
		writeFile(t, filepath.Join(dir, "paused"), []byte(text))
		p, err := spool.Paused(dir)
		if err != nil || p == nil || time.Since(p.Since) > time.Minute {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
}

func TestPauseOfAWrongPathCreatesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "typo")
	err := spool.PauseReplay(dir, spool.Pause{})
	_, rerr := spool.ResumeReplay(dir)
	if !errors.Is(err, os.ErrNotExist) || !errors.Is(rerr, os.ErrNotExist) {
		t.Errorf("%v, %v", err, rerr)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestSharesAreWhatStatsAddsUp(t *testing.T) {
	dir := t.TempDir()
	dead := open(t, spool.Options{Dir: dir})
	mustAppend(t, dead, records(0, 10)...)
	closeSpool(t, dead)
	s := open(t, spool.Options{Dir: dir})
	mustAppend(t, s, records(10, 15)...)
	if _, err := s.Adopt(); err != nil {
		t.Fatal(err)
	}
	shares := s.Shares()
	if len(shares) != 2 || shares[0].Own || !shares[1].Own || shares[0].Pending != 10 || shares[1].Pending != 5 {
		t.Fatalf("%+v", shares)
	}
	st := s.Stats()
	if sum := shares[0].PendingBytes + shares[1].PendingBytes; sum != st.PendingBytes || !shares[0].Oldest.Equal(st.Oldest) {
		t.Errorf("%+v, %+v", shares, st)
	}
	if s.Socket() != spool.SocketOf(dir, shares[1].Owner) {
		t.Error(s.Socket())
	}
}
