package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// ErrNotSpool is returned by Inspect for a directory that holds something, but no
// owner.
var ErrNotSpool = errors.New("spool: not a SpoolDir")

// OwnerInfo is one owner as it is seen from outside.
type OwnerInfo struct {
	Name     string
	Identity Identity
	Alive    bool  // its lock is held: a process appends to it or has adopted it
	Segments int   // files
	Bytes    int64 // their length

	// What the segments hold. Known only of owners that are not alive: bbolt keeps
	// others out of a file in use.
	Pending      int
	PendingBytes int64
	Oldest       time.Time // zero without a pending record
	DeadLetters  int

	Bad []string // segments that cannot be read: file: reason
}

// Inspect looks at every owner in dir, oldest first, and changes nothing. It
// returns an error that wraps os.ErrNotExist where there is no dir, and
// [ErrNotSpool] where it holds other things only.
func Inspect(dir string) ([]OwnerInfo, error) {
	entries, err := os.ReadDir(dir) // sorted by name, and so by age
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var owners []OwnerInfo
	others := 0
	for _, e := range entries {
		if e.Name() != "lost+found" { // at the root of a volume
			others++
		}
		if !e.IsDir() || strings.HasPrefix(e.Name(), hiddenPrefix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		id, err := readIdentity(path)
		if errors.Is(err, os.ErrNotExist) {
			if paths, err := listSegments(path); err != nil || len(paths) == 0 || !isOwnerName(e.Name()) {
				continue // not an owner, or one that is just coming or going
			}
			err = errNoIdentity
		}
		o := OwnerInfo{Name: e.Name(), Identity: id}
		if err != nil {
			o.Bad = append(o.Bad, err.Error())
		}
		if err := o.look(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			o.Bad = append(o.Bad, err.Error())
		}
		owners = append(owners, o)
	}
	if len(owners) == 0 && others > 0 {
		return nil, fmt.Errorf("%w: %s", ErrNotSpool, dir)
	}
	return owners, nil
}

// look fills in what the owner's directory tells.
func (o *OwnerInfo) look(dir string) error {
	var err error
	if o.Alive, err = lockHeld(filepath.Join(dir, lockName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	paths, err := listSegments(dir)
	if err != nil {
		return err
	}
	for _, path := range paths {
		fi, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		o.Segments++
		o.Bytes += fi.Size()
		if o.Alive {
			continue
		}
		if err := o.count(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			o.Bad = append(o.Bad, filepath.Base(path)+": "+err.Error())
		}
	}
	return nil
}

// count adds what a segment of a dead owner holds.
func (o *OwnerInfo) count(path string) error {
	s := &segment{path: path, readOnly: true}
	if err := s.load(); err != nil {
		return errors.Join(err, s.close())
	}
	m := s.meta.Load()
	o.Pending += m.pending()
	o.PendingBytes += int64(m.PendingBytes)
	o.DeadLetters += int(m.Counts[Dead])
	if m.pending() > 0 && o.Oldest.IsZero() {
		o.Oldest = s.oldest()
	}
	return s.close()
}

// lockHeld reports whether somebody holds the lock. It never creates the file, and
// holds a shared lock for the moment of the look.
func lockHeld(path string) (bool, error) {
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	free, err := lock.TryRLock()
	if err != nil {
		return false, err
	}
	return !free, lock.Unlock()
}
