package queue

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// TestManySmallJournals of dead processes make room, as many as it takes.
func TestManySmallJournals(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{GuardBytes: 2 << 20})
	for range 10 {
		k.neighbour(t, 1, 10)
	}
	k.sweep()
	for range 30 {
		k.enqueue(t, 1, 100_000)
		k.g.j.flush()
	}
	if k.g.j.skipped.Load() < 10 {
		t.Errorf("%d jobs were let go of: the test shows nothing", k.g.j.skipped.Load())
	}
	if said := k.said.all("cannot be written"); len(said) > 0 {
		t.Errorf("%q", said)
	}
}

// TestTheQuarantineOfAJournal takes none of its room for longer than jobs are kept.
func TestTheQuarantineOfAJournal(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	k.neighbour(t, 5, 10)
	dir := filepath.Join(k.cfg.SpoolDir, spool.JournalName)
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*.seg"))
	check(t, err)
	if len(paths) != 1 {
		t.Fatalf("%d segments, want one", len(paths))
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		check(t, err)
		for i := range b {
			b[i] = byte(i * 7)
		}
		check(t, os.WriteFile(path, b, 0o600))
	}
	files := func() int {
		files, err := filepath.Glob(filepath.Join(dir, "quarantine", "*"))
		check(t, err)
		return len(files)
	}
	k.sweep()
	if n := files(); n != 2 {
		t.Fatalf("%d files in quarantine, want a segment and a report", n)
	}
	k.g.keep = time.Millisecond
	k.sweep()
	if n := files(); n != 0 {
		t.Errorf("%d files in quarantine", n)
	}
}
