package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

// OwnerInfo is one owner as it is seen from outside.
type OwnerInfo struct {
	Name     string
	Identity Identity
	Alive    bool  // its lock is held: a process appends to it or has adopted it
	Segments int   // files
	Bytes    int64 // their length

	// What the segments hold. Known only of owners that are not alive: a file in use
	// changes while it is read.
	Pending      int
	PendingBytes int64
	Oldest       time.Time // zero without a pending record
	DeadLetters  int
	Classes      map[string]ClassStats // of pending records; "" for those of a class that is not counted apart

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
		if !belongs(e.Name()) {
			others++
		}
		if !e.IsDir() || strings.HasPrefix(e.Name(), hiddenPrefix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		id, err := identify(path)
		if errors.Is(err, os.ErrNotExist) {
			if paths, err := listSegments(path); err != nil || len(paths) == 0 || !isOwnerName(e.Name()) {
				continue // not an owner, or one that is just coming or going
			}
			err = errNoIdentity
		}
		o := OwnerInfo{Name: e.Name(), Identity: id, Classes: map[string]ClassStats{}}
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

// belongs reports whether something may be in a SpoolDir, by its name: also what a process
// that was killed had half made or half removed.
func belongs(name string) bool {
	known := []string{"lost+found", quarantineName, pausedName, JournalName} // the first is at the root of a volume
	return slices.Contains(known, name) || isOwnerName(name) || strings.HasPrefix(name, stagePrefix)
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
	st, err := readState(path)
	if err != nil {
		return err
	}
	held := Stats{Pending: o.Pending, PendingBytes: o.PendingBytes, Oldest: o.Oldest, DeadLetters: o.DeadLetters, Classes: o.Classes}
	held.add(st)
	o.Pending, o.PendingBytes, o.Oldest, o.DeadLetters = held.Pending, held.PendingBytes, held.Oldest, held.DeadLetters
	return nil
}

// readState reads what a segment counts, without bbolt.
func readState(path string) (*state, error) {
	v, err := readMeta(path)
	if err == nil && v.state == nil {
		err = fmt.Errorf("%w: a segment without its state: %w", ErrDamaged, errors.Join(v.why...))
	}
	if err != nil {
		return nil, err
	}
	return v.state, nil
}

// readHeader reads where a segment belongs, without bbolt.
func readHeader(path string) (header, error) {
	v, err := readMeta(path)
	if err == nil && v.header.Owner == "" {
		err = fmt.Errorf("%w: a segment without its header: %w", ErrDamaged, errors.Join(v.why...))
	}
	if err != nil {
		return header{}, err
	}
	return v.header, nil
}

// readMeta reads the newest header and state of a segment that bbolt could open.
func readMeta(path string) (*salvaged, error) {
	first, _ := firstOf(path)
	v := &salvaged{header: header{First: first}}
	err := withPages(path, func(f *pages.File) error {
		if err := check(f); err != nil {
			return err
		}
		return v.takeMeta(func(fn func(k, b []byte)) { v.note(f.Walk(bucketMeta, pairs(fn))) })
	})
	return v, err
}

// lockHeld reports whether somebody holds the lock.
func lockHeld(path string) (bool, error) {
	held := true
	err := whileDead(path, func() error {
		held = false
		return nil
	})
	return held && err == nil, err
}

// whileDead runs fn if nobody holds the lock, and keeps others from taking it meanwhile.
// It never creates the file.
func whileDead(path string, fn func() error) error {
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	free, err := lock.TryRLock()
	if err != nil || !free {
		return err
	}
	return errors.Join(fn(), lock.Unlock())
}
