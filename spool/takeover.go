package spool

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Taken is the share of a dead owner that TakeOver has moved.
type Taken struct {
	Owner       string   `json:"owner"` // its name where it is now
	Was         string   `json:"was"`   // its name where it came from
	Target      string   `json:"target"`
	Pending     int      `json:"pending"`
	DeadLetters int      `json:"dead_letters"`
	Bad         []string `json:"bad,omitempty"` // segments that could not be read; they were moved, too
}

// TakeOver moves the shares of all dead owners from one SpoolDir, that of a lost pod or a
// [Spool.Backup] for example, into another. There a Spool of their target adopts them like
// any others. Owners that live stay where they are, and are returned by name. What lies in
// quarantine stays.
//
// Within a file system a share is renamed: at any moment it is in one of the two places.
// Else it is copied, and is removed only when the copy is durable and has its name: a crash
// in between leaves the share in both, with the same IDs. A share whose name is taken gets
// another one.
//
// Errors are of single owners, which are left where they are, or not wholly removed; among
// them [ErrOtherUser] and [ErrFull]. All others are moved, unless ctx is over.
func TakeOver(ctx context.Context, from, to string) (taken []Taken, alive []string, err error) {
	return takeOver(ctx, from, to, os.Rename)
}

func takeOver(ctx context.Context, from, to string, rename func(old, new string) error) (taken []Taken, alive []string, err error) {
	owners, err := Inspect(from)
	if err != nil {
		return nil, nil, err
	}
	if same, err := sameFile(from, to); err != nil {
		return nil, nil, fmt.Errorf("spool: take over: %w", err)
	} else if same {
		return nil, nil, fmt.Errorf("spool: take over: %s and %s are the same directory", from, to)
	}
	sweepStages(to)
	var errs []error
	for _, info := range owners {
		if err := ctx.Err(); err != nil {
			return taken, alive, errors.Join(append(errs, err)...)
		}
		t := taking{from: from, to: to, name: info.Name, rename: rename}
		moved, err := t.run(ctx)
		if moved {
			taken = append(taken, newTaken(info, t.as))
		}
		if errors.Is(err, errLocked) {
			alive = append(alive, info.Name)
		} else if err != nil {
			errs = append(errs, fmt.Errorf("spool: take over %s: %w", info.Name, err))
		}
	}
	return taken, alive, errors.Join(errs...)
}

func newTaken(info OwnerInfo, as string) Taken {
	return Taken{
		Owner: as, Was: info.Name, Target: info.Identity.Target,
		Pending: info.Pending, DeadLetters: info.DeadLetters, Bad: info.Bad,
	}
}

// taking is the move of one share.
type taking struct {
	from, to string // SpoolDirs
	name, as string // of the owner, there and here
	rename   func(old, new string) error
}

// run reports whether the share has its name in the new place, with an error also where
// something is left in the old one. It returns errLocked for an owner that lives.
func (t *taking) run(ctx context.Context) (moved bool, err error) {
	o, err := adoptOwner(t.from, t.name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil // gone in the meantime
	case err != nil:
		return false, err
	case o == nil:
		if _, err := os.Stat(filepath.Join(t.from, t.name)); errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return false, errLocked
	}
	if t.as, err = freeName(t.to, t.name); err != nil {
		return false, errors.Join(err, o.unlock())
	}
	moved, err = t.move(o)
	if otherDevice(err) {
		return t.copy(ctx, o)
	}
	return moved, errors.Join(err, o.unlock())
}

// move renames the share. Its lock goes along: nobody adopts it before it is durable.
func (t *taking) move(o *owner) (moved bool, err error) {
	if runtime.GOOS == "windows" { // where nothing that is open can be renamed
		if err := o.unlock(); err != nil {
			return false, err
		}
	}
	if err := t.rename(o.dir, filepath.Join(t.to, t.as)); err != nil {
		return false, err
	}
	return true, errors.Join(syncDir(t.to), syncDir(t.from))
}

// copy makes the share appear in the new place, whole, and then removes it in the old one.
func (t *taking) copy(ctx context.Context, o *owner) (moved bool, err error) {
	stage, err := newStage(t.to)
	if err != nil {
		return false, errors.Join(err, o.unlock())
	}
	files, err := copyOwner(ctx, o.dir, stage)
	if err == nil {
		err = os.Rename(stage, filepath.Join(t.to, t.as))
	}
	if err == nil {
		err = syncDir(t.to)
		moved = true
	}
	if err != nil {
		return moved, errors.Join(orFull(err), os.RemoveAll(stage), o.unlock())
	}
	if err = removeAll(files...); err != nil {
		err = errors.Join(err, o.unlock())
	} else {
		err = errors.Join(o.remove(), syncDir(t.from))
	}
	if err != nil {
		err = fmt.Errorf("its copy is in place, but it cannot be removed in %s, do not take it over again: %w", t.from, err)
	}
	return true, err
}

// copyOwner copies what is in an owner's directory, durably, and returns the paths of all
// segments there.
func copyOwner(ctx context.Context, from, to string) (segments []string, err error) {
	files, err := os.ReadDir(from)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Name() == lockName || !f.Type().IsRegular() || strings.HasPrefix(f.Name(), hiddenPrefix) {
			continue
		}
		path := filepath.Join(from, f.Name())
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := copyFile(path, filepath.Join(to, f.Name())); err != nil {
			return nil, err
		}
		if f.Name() != identityName {
			segments = append(segments, path)
		}
	}
	return segments, errors.Join(writeFile(filepath.Join(to, lockName), nil), syncDir(to))
}

// otherDevice reports whether a rename failed because it was one between file systems.
func otherDevice(err error) bool {
	const windows = syscall.Errno(17) // ERROR_NOT_SAME_DEVICE
	return errors.Is(err, syscall.EXDEV) || runtime.GOOS == "windows" && errors.Is(err, windows)
}

// freeName returns an owner's name or, if another has that, a new one of the same time.
func freeName(dir, name string) (string, error) {
	for try := name; ; {
		_, err := os.Lstat(filepath.Join(dir, try))
		if errors.Is(err, os.ErrNotExist) {
			return try, nil
		}
		if err != nil {
			return "", err
		}
		var salt [4]byte
		_, _ = rand.Read(salt[:]) // never fails, see its documentation
		at, _, _ := strings.Cut(name, "-")
		try = at + "-" + hex.EncodeToString(salt[:])
	}
}

// stagePrefix begins the name of a directory in which something is being made that is not
// to be seen before it is whole.
const stagePrefix = hiddenPrefix + "stage-"

// StagePattern is a pattern for os.CreateTemp and os.MkdirTemp: what has such a name in a
// SpoolDir is passed over, and is removed by a later TakeOver, Import or PauseReplay if it is
// left there.
const StagePattern = stagePrefix + "*"

func newStage(spoolDir string) (string, error) { return os.MkdirTemp(spoolDir, StagePattern) } // 0700

// sweepStages removes what interrupted runs have left: nobody was told that it is here.
func sweepStages(spoolDir string) {
	stages, _ := filepath.Glob(filepath.Join(spoolDir, stagePrefix+"*")) // the pattern is a good one
	for _, path := range stages {
		if fi, err := os.Stat(path); err == nil && time.Since(fi.ModTime()) > stageAge {
			_ = os.RemoveAll(path) // the next run tries again
		}
	}
}

// stageAge is how long nothing must have come or gone in a stage for its maker to be gone.
const stageAge = 24 * time.Hour
