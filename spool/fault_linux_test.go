//go:build amd64 || arm64

package spool_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// fault makes a system call of some kinds fail, the given one, or all from that on.
type fault struct {
	nrs     []int
	errno   syscall.Errno
	from    int
	forever bool

	mu         sync.Mutex
	seen, hits int    // guarded by mu
	hit        string // path of the last; guarded by mu
}

func (f *fault) rule(c sysCall) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.nrs, c.nr) {
		return 0
	}
	if f.seen++; f.seen == f.from || f.forever && f.seen > f.from {
		f.hits++
		f.hit = filepath.Base(c.path)
		return f.errno
	}
	return 0
}

// TestEveryDiskErrorInTurn runs the same work again and again, with another system call
// failing each time, once or from then on. Whatever was answered must be true
// afterwards: for the Spool itself, after it was closed, and after a crash.
func TestEveryDiskErrorInTurn(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	both, lasting := []bool{false, true}, []bool{true}
	for _, kind := range []struct {
		name  string
		errno syscall.Errno
		nrs   []int
		last  []bool // forever, or not
	}{
		{"fdatasync", unix.EIO, []int{unix.SYS_FDATASYNC}, both},
		{"fsync", unix.EIO, []int{unix.SYS_FSYNC}, both},
		{"pwrite", unix.EIO, []int{unix.SYS_PWRITE64}, both},
		{"pwrite", unix.ENOSPC, []int{unix.SYS_PWRITE64}, both},
		{"fallocate", unix.ENOSPC, []int{unix.SYS_FALLOCATE}, both},
		{"fallocate", unix.EOPNOTSUPP, []int{unix.SYS_FALLOCATE}, both},
		{"ftruncate", unix.EIO, []int{unix.SYS_FTRUNCATE}, both},
		{"rename", unix.EIO, []int{unix.SYS_RENAMEAT}, both},
		{"mkdir", unix.EIO, []int{unix.SYS_MKDIRAT}, both},
		{"unlink", unix.EIO, []int{unix.SYS_UNLINKAT}, both},
		{"open", unix.EMFILE, []int{unix.SYS_OPENAT}, both},
		{"pread", unix.EIO, []int{unix.SYS_PREAD64}, both},
		{"fsync and unlink", unix.EIO, []int{unix.SYS_FSYNC, unix.SYS_UNLINKAT}, lasting},
		{"mmap", unix.ENOMEM, []int{unix.SYS_MMAP}, both},
		{"all", unix.EIO, []int{
			unix.SYS_FDATASYNC, unix.SYS_FSYNC, unix.SYS_PWRITE64, unix.SYS_FALLOCATE, unix.SYS_FTRUNCATE,
			unix.SYS_RENAMEAT, unix.SYS_UNLINKAT, unix.SYS_LINKAT, unix.SYS_MKDIRAT,
		}, lasting},
	} {
		small, all := countCalls(t, sup, kind.nrs, false), countCalls(t, sup, kind.nrs, true)
		if small == 0 {
			t.Fatalf("%s: no such call", kind.name)
		}
		for _, forever := range kind.last {
			t.Run(fmt.Sprintf("%s %s forever=%v", kind.name, unix.ErrnoName(kind.errno), forever), func(t *testing.T) {
				for k := 1; k <= all; k = next(k, forever) {
					t.Run(fmt.Sprint(k), func(t *testing.T) {
						t.Parallel()
						f := &fault{nrs: kind.nrs, errno: kind.errno, from: k, forever: forever}
						newTrial(t, sup, f).run(k > small)
						if _, hits := f.counts(); hits == 0 {
							t.Error("no fault")
						}
					})
				}
			})
		}
	}
}

// counts returns how many calls of its kinds were made and how many of them failed.
func (f *fault) counts() (seen, hits int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen, f.hits
}

// countCalls returns how many there are without a fault.
func countCalls(t *testing.T, sup *supervisor, nrs []int, large bool) int {
	t.Helper()
	none := &fault{nrs: nrs}
	newTrial(t, sup, none).run(large)
	calls, _ := none.counts()
	return calls
}

// end lets all calls go on from now.
func (f *fault) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nrs = nil
}

// next picks the calls that fail: the first 20, or with what lasts half of them, and some
// of the others.
func next(k int, forever bool) int {
	switch {
	case k >= 20:
		return k + 13
	case forever:
		return k + 2
	}
	return k + 1
}
