//go:build amd64 || arm64

package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/spool"
)

// moments looks at a take-over before each system call that changes a directory: as a
// crash at that moment would leave it.
type moments struct {
	t        *testing.T
	from, to string
	sizes    map[string]int64 // of all segments, by their paths in a SpoolDir

	mu     sync.Mutex // guards all that follow
	seen   int
	twice  int             // moments with a segment in both
	synced map[string]bool // what was synced since it had its name
}

func (m *moments) rule(c sysCall) syscall.Errno {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch c.nr {
	case unix.SYS_FSYNC:
		m.synced[c.path] = true
		return 0
	case unix.SYS_RENAMEAT:
		delete(m.synced, m.to)
	case unix.SYS_UNLINKAT, unix.SYS_MKDIRAT:
	default:
		return 0
	}
	m.seen++
	both := false
	for path, size := range m.sizes {
		here, there := sizeIs(filepath.Join(m.from, path), size), sizeIs(filepath.Join(m.to, path), size)
		if !here && !there {
			m.t.Errorf("before %d of %s: %s is in neither place", c.nr, c.path, path)
		}
		both = both || here && there
		if c.path == filepath.Join(m.from, path) && c.nr == unix.SYS_UNLINKAT && !m.synced[m.to] {
			m.t.Errorf("%s goes before the name of its copy is durable", path)
		}
	}
	if both {
		m.twice++
	}
	return 0
}

func sizeIs(path string, size int64) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Size() == size
}

func TestATakeOverHasEverySegmentInOnePlaceAtAnyMoment(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	eachWay(t, func(t *testing.T, take takeOver) {
		t.Helper()
		from, to := t.TempDir(), t.TempDir()
		leave(t, from, "a", 0, 60)
		leave(t, from, "a", 60, 120)
		m := &moments{t: t, from: from, to: to, sizes: map[string]int64{}, synced: map[string]bool{}}
		for _, path := range segmentFiles(t, from) {
			fi, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(from, path)
			if err != nil {
				t.Fatal(err)
			}
			m.sizes[name] = fi.Size()
		}
		sup.over(t, from, m.rule)
		sup.over(t, to, m.rule)
		if taken, _, err := take(t.Context(), from, to); err != nil || len(taken) != 2 {
			t.Fatalf("%+v, %v", taken, err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.seen < 2 || len(m.sizes) < 4 {
			t.Errorf("%d moments, %d segments", m.seen, len(m.sizes))
		}
		if copied := t.Name() == "TestATakeOverHasEverySegmentInOnePlaceAtAnyMoment/copy"; copied != (m.twice > 0) {
			t.Errorf("%d moments of %d with a segment in both", m.twice, m.seen)
		}
	})
}

// TestTakeOverOnAFullDisk leaves what it cannot copy where it is.
func TestTakeOverOnAFullDisk(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	from, to := t.TempDir(), t.TempDir()
	leave(t, from, "a", 0, 60)
	sup.over(t, to, func(c sysCall) syscall.Errno {
		if c.nr == unix.SYS_FSYNC {
			return unix.ENOSPC
		}
		return 0
	})
	taken, _, err := spool.TakeOverByCopy(t.Context(), from, to)
	if len(taken) != 0 || err == nil {
		t.Fatalf("%+v, %v", taken, err)
	}
	if there := lookInto(t, from); len(there) != 60 {
		t.Errorf("%d records are left", len(there))
	}
	if left, err := os.ReadDir(to); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestTakeOverOfWhatCannotBeRemoved says that the copy is in place.
func TestTakeOverOfWhatCannotBeRemoved(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	from, to := t.TempDir(), t.TempDir()
	leave(t, from, "a", 0, 60)
	sup.over(t, from, func(c sysCall) syscall.Errno {
		if c.nr == unix.SYS_UNLINKAT && filepath.Ext(c.path) == ".seg" {
			return unix.EROFS
		}
		return 0
	})
	taken, _, err := spool.TakeOverByCopy(t.Context(), from, to)
	if len(taken) != 1 || !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "do not take it over again") {
		t.Fatalf("%+v, %v", taken, err)
	}
	if here, there := lookInto(t, from), lookInto(t, to); len(here) != 60 || len(there) != 60 {
		t.Errorf("%d here, %d there", len(here), len(there))
	}
	sup.set(from, nil)
}
