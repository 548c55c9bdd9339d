package spool

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Adopt takes over every dead owner of the same target in the SpoolDir. It
// returns how many pending records came with them. Owners that live are left
// alone, those of another target too; what cannot be read stays where it is and
// is reported by Stats.
func (s *Spool) Adopt() (records int, err error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	dirs, err := os.ReadDir(s.opts.Dir)
	if err != nil {
		return 0, fmt.Errorf("spool: adopt: %w", err)
	}
	var errs []error
	foreign := 0
	for _, d := range dirs {
		if !d.IsDir() || strings.HasPrefix(d.Name(), hiddenPrefix) || s.owner(d.Name()) != nil {
			continue
		}
		id, err := readIdentity(filepath.Join(s.opts.Dir, d.Name()))
		switch {
		case errors.Is(err, os.ErrNotExist):
			err = sweep(s.opts.Dir, d.Name())
		case err == nil && id.Target != s.opts.Target:
			foreign++
		case err == nil:
			var n int
			n, err = s.adopt(d.Name())
			records += n
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) { // gone in the meantime
			errs = append(errs, fmt.Errorf("spool: adopt %s: %w", d.Name(), err))
		}
	}
	s.mu.Lock()
	s.foreign = foreign
	s.mu.Unlock()
	return records, errors.Join(errs...)
}

func (s *Spool) adopt(name string) (records int, err error) {
	o, err := adoptOwner(s.opts.Dir, name, s.opts.mmapBytes())
	if o == nil {
		return 0, err
	}
	for _, seg := range o.segs {
		records += seg.meta.Load().pending()
	}
	for _, text := range o.bad {
		s.reportBad(text)
	}
	s.adoptions.Add(int64(records))
	s.mu.Lock()
	s.adopted = append(s.adopted, o)
	slices.SortFunc(s.adopted, func(a, b *owner) int { return cmp.Compare(a.name, b.name) })
	segs := slices.Clone(o.segs)
	s.mu.Unlock()
	for _, seg := range segs {
		err = errors.Join(err, s.dropIfEmpty(o, seg))
	}
	return records, errors.Join(err, s.releaseIfEmpty(o))
}

// lockOwner takes the lock of a dead owner. It returns nil for one that lives or
// that another adopter has emptied and removed in the meantime.
func lockOwner(dir string) (*flock.Flock, error) {
	path := filepath.Join(dir, lockName)
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	ok, err := lock.TryLock()
	if errors.Is(err, os.ErrNotExist) {
		// Being removed, unless it holds data: then the lock file was lost in a copy.
		if paths, err := listSegments(dir); err != nil || len(paths) == 0 {
			return nil, nil //nolint:nilerr // gone altogether
		}
		lock = flock.New(path, flock.SetPermissions(fileMode))
		ok, err = lock.TryLock()
	}
	if err != nil || !ok {
		return nil, err
	}
	held, err := lock.Stat()
	if err == nil {
		var there os.FileInfo
		if there, err = os.Stat(path); err == nil && os.SameFile(held, there) {
			return lock, nil
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return nil, errors.Join(err, lock.Unlock())
}

// adoptOwner takes over a dead owner's share. It returns nil where there is
// nothing to take over.
func adoptOwner(spoolDir, name string, mmapBytes int) (*owner, error) {
	dir := filepath.Join(spoolDir, name)
	lock, err := lockOwner(dir)
	if lock == nil {
		return nil, err
	}
	o := &owner{name: name, dir: dir, lock: lock}
	paths, err := listSegments(dir)
	if err != nil {
		return nil, errors.Join(err, o.unlock())
	}
	for _, path := range paths {
		if seg, err := openSegment(path, mmapBytes); err != nil {
			o.addBad(path, err)
		} else {
			o.segs = append(o.segs, seg)
		}
	}
	return o, nil
}

// sweep removes what is left of an owner whose removal, or creation, was
// interrupted: an empty directory, or one with nothing but its lock and half-made
// files. Were it an owner that is still being made, for longer than sweepAge: a
// directory without a lock file goes only if it is empty, and one with a lock file
// only once the lock is held. Any other directory is left alone.
func sweep(spoolDir, name string) error {
	dir := filepath.Join(spoolDir, name)
	fi, err := os.Stat(dir)
	if err != nil || !isOwnerName(name) || time.Since(fi.ModTime()) < sweepAge {
		return err
	}
	files, err := os.ReadDir(dir)
	switch {
	case err != nil:
		return err
	case len(files) == 0:
		_ = os.Remove(dir) // fails if its maker was faster
		return nil
	case !hasFile(files, lockName):
		return orphaned(files)
	}
	lock, err := lockOwner(dir)
	if lock == nil {
		return err
	}
	if files, err = os.ReadDir(dir); err == nil && onlyLeftovers(files) {
		return (&owner{name: name, dir: dir, lock: lock}).remove()
	}
	return errors.Join(err, orphaned(files), lock.Unlock())
}

// sweepAge is how long nothing must have come or gone in a directory to be swept.
const sweepAge = time.Minute

func hasFile(files []os.DirEntry, name string) bool {
	return slices.ContainsFunc(files, func(f os.DirEntry) bool { return f.Name() == name })
}

// onlyLeftovers reports whether there is nothing but a lock and half-made files.
func onlyLeftovers(files []os.DirEntry) bool {
	return !slices.ContainsFunc(files, func(f os.DirEntry) bool {
		return f.Name() != lockName && !strings.HasPrefix(f.Name(), hiddenPrefix)
	})
}

// orphaned returns an error if there are segments and no identity.
func orphaned(files []os.DirEntry) error {
	isSegment := func(f os.DirEntry) bool { return strings.HasSuffix(f.Name(), segmentSuffix) }
	if !hasFile(files, identityName) && slices.ContainsFunc(files, isSegment) {
		return errNoIdentity
	}
	return nil
}

// errNoIdentity says that nobody can tell where an owner's records are meant to go.
var errNoIdentity = fmt.Errorf("%w: segments without an identity", ErrDamaged)
