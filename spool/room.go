package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// room is how much a SpoolDir may take of its disk.
type room struct {
	dir      string
	maxBytes int64 // of allocated blocks under dir; negative: no bound
	minFree  int64 // to be left on the file system; negative: nothing

	used, left atomic.Int64 // at the last look
}

// check returns ErrFull if n bytes more are not allowed.
func (r *room) check(n int64) error {
	used, free, floor, err := r.measure()
	switch {
	case err != nil:
		return err
	case r.maxBytes >= 0 && used+n > r.maxBytes:
		return fmt.Errorf("%w: %d bytes are taken and %d more would exceed the %d of MaxBytes", ErrFull, used, n, r.maxBytes)
	case free-n < floor:
		return fmt.Errorf("%w: %d bytes are free on the disk and %d more would leave less than the %d of MinFreeBytes", ErrFull, free, n, floor)
	}
	return nil
}

// look brings seen up to date.
func (r *room) look() { _, _, _, _ = r.measure() } // what fails here fails in check

// seen returns what is taken and what is left, as of the last look.
func (r *room) seen() (used, left int64) { return r.used.Load(), r.left.Load() }

// measure returns what is taken, what is free on the file system, and how much of that
// is not to be touched.
func (r *room) measure() (used, free, floor int64, err error) {
	if used, err = allocatedUnder(r.dir); err != nil {
		return 0, 0, 0, err
	}
	free, total, err := diskSpace(r.dir)
	if err != nil {
		return 0, 0, 0, err
	}
	floor = max(r.minFree, 0)
	if r.minFree == 0 {
		floor = defaultMinFree(total)
	}
	left := free - floor
	if r.maxBytes >= 0 {
		left = min(left, r.maxBytes-used)
	}
	r.used.Store(used)
	r.left.Store(max(left, 0))
	return used, free, floor, nil
}

// allocatedUnder returns the bytes of the disk blocks of all files under dir. Files
// come and go meanwhile.
func allocatedUnder(dir string) (int64, error) {
	sum := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path == filepath.Join(dir, JournalName) {
			return fs.SkipDir
		}
		if err == nil && d.Type().IsRegular() {
			var fi os.FileInfo
			if fi, err = d.Info(); err == nil {
				sum += allocated(fi)
			}
		}
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return nil // another user's are not ours to count
		}
		return err
	})
	return sum, err
}
