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

// Adopt takes over every dead owner of the same target, see [Options], in the SpoolDir. It
// returns how many pending records came with them. Owners that live are left
// alone, those of another target too. What is damaged is salvaged; what cannot be
// read for another reason stays where it is, is reported by Stats, and tried again by
// the next Adopt. An owner of another user is an error that wraps [ErrOtherUser].
func (s *Spool) Adopt() (records int, err error) {
	return exclusively(s, func() (int, error) {
		s.room.look()
		n := s.retryBad()
		more, err := s.adoptDead()
		return n + more, err
	})
}

// adoptDead takes over the dead owners.
func (s *Spool) adoptDead() (records int, err error) {
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
		id, err := identify(filepath.Join(s.opts.Dir, d.Name()))
		switch {
		case errors.Is(err, os.ErrNotExist):
			err = sweep(s.opts.Dir, d.Name())
		case errors.Is(err, os.ErrPermission):
			if fi, serr := d.Info(); serr == nil {
				err = cmp.Or(checkUser(fi), err)
			}
		case err == nil && !s.opts.SameTarget(id.Target):
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
	o, err := adoptOwner(s.opts.Dir, name)
	if o == nil {
		return 0, err
	}
	paths, err := listSegments(o.dir)
	if unknown := o.unknownFiles(); len(paths) == 0 && unknown != nil {
		return 0, errors.Join(unknown, o.unlock())
	}
	s.mu.Lock()
	s.adopted = append(s.adopted, o)
	slices.SortFunc(s.adopted, func(a, b *owner) int { return cmp.Compare(a.name, b.name) })
	s.mu.Unlock()
	for _, path := range paths {
		records += s.enrol(o, path)
	}
	s.tidy(s.releaseIfEmpty(o))
	return records, err
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

// adoptOwner takes the lock of a dead owner's share. It returns nil where there is
// nothing to take over.
func adoptOwner(spoolDir, name string) (*owner, error) {
	dir := filepath.Join(spoolDir, name)
	fi, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if err := checkUser(fi); err != nil {
		return nil, err
	}
	lock, err := lockOwner(dir)
	if lock == nil {
		return nil, err
	}
	_ = os.Remove(filepath.Join(dir, socketName)) // nobody listens any more
	return &owner{name: name, dir: dir, lock: lock, bad: map[string]*badSegment{}}, nil
}

// checkUser returns ErrOtherUser for a directory of another user.
func checkUser(fi os.FileInfo) error {
	if uid, other := otherUser(fi); other {
		return fmt.Errorf("%w: of uid %d, this process runs as uid %d; run it as that user", ErrOtherUser, uid, os.Geteuid())
	}
	return nil
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

// onlyLeftovers reports whether there is nothing but a lock, a socket and half-made files.
func onlyLeftovers(files []os.DirEntry) bool {
	return !slices.ContainsFunc(files, func(f os.DirEntry) bool { return !isLeftover(f.Name()) })
}

func isLeftover(name string) bool {
	return name == lockName || name == socketName || strings.HasPrefix(name, hiddenPrefix)
}

// orphaned returns an error if there are segments and no identity.
func orphaned(files []os.DirEntry) error {
	if !hasFile(files, identityName) && slices.ContainsFunc(files, isSegment) {
		return errNoIdentity
	}
	return nil
}

func isSegment(f os.DirEntry) bool { return strings.HasSuffix(f.Name(), segmentSuffix) }

// errNoIdentity says that nobody can tell where an owner's records are meant to go.
var errNoIdentity = fmt.Errorf("%w: segments without an identity", ErrDamaged)
