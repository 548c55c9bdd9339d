package spool

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const (
	lockName     = "LOCK"
	identityName = "identity"

	// ownerTime begins an owner's name: names sort by age.
	ownerTime = "20060102T150405.000"

	// hiddenPrefix marks half-made files.
	hiddenPrefix = "."
)

// Identity says whose share an owner directory is. It is written once, holds no
// secret, and informs people: whether the owner lives, only its lock tells.
type Identity struct {
	Version int       `json:"version"`
	Target  string    `json:"target"` // where the records are meant to go
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
}

const identityVersion = 1

func newIdentity(target string, now time.Time) Identity {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return Identity{Version: identityVersion, Target: target, Host: host, PID: os.Getpid(), Started: now.UTC()}
}

func readIdentity(dir string) (Identity, error) {
	var id Identity
	b, err := os.ReadFile(filepath.Join(dir, identityName))
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return id, fmt.Errorf("%w: identity: %w", ErrDamaged, err)
	}
	if id.Version != identityVersion {
		return id, fmt.Errorf("%w: identity version %d, this program knows %d", ErrDamaged, id.Version, identityVersion)
	}
	return id, nil
}

// owner is a share of the spool whose lock this process holds.
type owner struct {
	name string
	dir  string
	lock *flock.Flock
	segs []*segment // oldest first; guarded by Spool.mu
	bad  []string   // segments that could not be read, as text; guarded by Spool.mu
}

// addBad notes that a segment cannot be read, and returns the text of it.
func (o *owner) addBad(path string, cause error) string {
	text := filepath.Join(o.name, filepath.Base(path)) + ": " + cause.Error()
	o.bad = append(o.bad, text)
	return text
}

// createOwner makes an owner directory, locks it, and last gives it its identity:
// only with that is it an owner. Until then another process may take it for one
// whose removal was interrupted, and sweep it away; then the next name is tried.
func createOwner(spoolDir, target string, now time.Time) (*owner, error) {
	var err error
	for range createTries {
		var o *owner
		if o, err = tryCreateOwner(spoolDir, newIdentity(target, now)); err == nil {
			return o, syncDir(spoolDir)
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errLocked) {
			break
		}
	}
	return nil, err
}

const createTries = 10

// errLocked says that somebody else holds a lock.
var errLocked = errors.New("locked by another process")

func tryCreateOwner(spoolDir string, id Identity) (*owner, error) {
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails, see its documentation
	name := id.Started.Format(ownerTime) + "-" + hex.EncodeToString(salt[:])
	o := &owner{name: name, dir: filepath.Join(spoolDir, name)}
	if err := os.Mkdir(o.dir, dirMode); err != nil {
		return nil, err
	}
	o.lock = flock.New(filepath.Join(o.dir, lockName), flock.SetPermissions(fileMode))
	ok, err := o.lock.TryLock()
	if err == nil && !ok {
		err = errLocked
	}
	if err == nil {
		err = writeIdentity(o.dir, id)
	}
	if err != nil {
		return nil, errors.Join(err, o.remove())
	}
	return o, nil
}

// writeIdentity makes the identity appear whole or not at all.
func writeIdentity(dir string, id Identity) error {
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	hidden := filepath.Join(dir, hiddenPrefix+identityName)
	if err := writeFile(hidden, append(b, '\n')); err != nil {
		return err
	}
	if err := os.Rename(hidden, filepath.Join(dir, identityName)); err != nil {
		return err
	}
	return syncDir(dir)
}

func (o *owner) unlock() error {
	if o.lock == nil {
		return nil
	}
	return o.lock.Unlock()
}

// hasSegments reports whether the directory still holds data, readable or not.
func (o *owner) hasSegments() bool { return len(o.segs)+len(o.bad) > 0 }

// segmentOf returns the segment a record is in, or nil if that is gone.
func (o *owner) segmentOf(p Position) *segment {
	for _, s := range o.segs {
		if s.meta.Load().First == p.segment {
			return s
		}
	}
	return nil
}

// remove deletes the directory of an owner without segments and gives up its
// lock. The lock file goes before the lock, so that whoever got hold of it sees that
// it is gone; identity goes before both, so that sweep can finish what a crash
// interrupts. Another process may be sweeping, too.
func (o *owner) remove() error {
	doomed, err := filepath.Glob(filepath.Join(o.dir, hiddenPrefix+"*"))
	doomed = append(doomed, filepath.Join(o.dir, identityName))
	err = errors.Join(err, removeAll(doomed...))
	if runtime.GOOS == "windows" { // keeps open files
		err = errors.Join(err, o.unlock())
	}
	return errors.Join(err, removeAll(filepath.Join(o.dir, lockName), o.dir), o.unlock())
}

// removeAll removes each path, in order, up to the first that cannot be.
func removeAll(paths ...string) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// isOwnerName reports whether a directory is named as createOwner names it.
func isOwnerName(name string) bool {
	at, salt, ok := strings.Cut(name, "-")
	_, err := time.Parse(ownerTime, at)
	return ok && err == nil && len(salt) == 8
}

// close releases the share; its records stay on disk for the next adopter.
func (o *owner) close() error {
	var err error
	for _, s := range o.segs {
		err = errors.Join(err, s.close())
	}
	return errors.Join(err, o.unlock())
}
