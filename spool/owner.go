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
		return id, fmt.Errorf("identity: %w %d, this program knows %d", ErrVersion, id.Version, identityVersion)
	}
	return id, nil
}

// identify returns the identity of an owner or, where that is lost or damaged, what the
// headers of its segments tell.
func identify(dir string) (Identity, error) {
	id, err := readIdentity(dir)
	if err == nil || errors.Is(err, ErrVersion) {
		return id, err
	}
	paths, _ := listSegments(dir) // without any, err stays
	for _, path := range paths {
		if h, herr := readHeader(path); herr == nil && h.Owner == filepath.Base(dir) {
			return Identity{Version: identityVersion, Target: h.Target, Host: "unknown", Started: h.Created}, nil
		}
	}
	return id, err
}

// owner is a share of the spool whose lock this process holds.
type owner struct {
	name    string
	dir     string
	started time.Time
	lock    *flock.Flock
	segs    []*segment             // oldest first; guarded by Spool.mu
	bad     map[string]*badSegment // by path; guarded by Spool.mu
}

// createOwner makes an owner directory, locks it, and last gives it its identity:
// only with that is it an owner. Until then another process may take it for one
// whose removal was interrupted, and sweep it away; then the next name is tried.
func createOwner(spoolDir, target string, now time.Time) (*owner, error) {
	var err error
	for range createTries {
		var o *owner
		var salt [4]byte
		_, _ = rand.Read(salt[:]) // never fails, see its documentation
		name := now.UTC().Format(ownerTime) + "-" + hex.EncodeToString(salt[:])
		if o, err = makeOwner(spoolDir, name, newIdentity(target, now)); err == nil {
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

// makeOwner makes a directory and the owner in it. The caller syncs spoolDir.
func makeOwner(spoolDir, name string, id Identity) (*owner, error) {
	o := &owner{name: name, dir: filepath.Join(spoolDir, name), started: id.Started, bad: map[string]*badSegment{}}
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

// remove deletes the directory of an owner without segments and gives up its
// lock. The lock file goes before the lock, so that whoever got hold of it sees that
// it is gone; identity goes before both, so that sweep can finish what a crash
// interrupts. Another process may be sweeping, too. An owner with files of another
// program's keeps all it has.
func (o *owner) remove() error {
	if paths, err := listSegments(o.dir); err == nil && len(paths) > 0 {
		return o.unlock() // one that could not be unlinked: for the next adopter
	}
	if err := o.unknownFiles(); err != nil {
		return errors.Join(err, o.unlock())
	}
	doomed, err := filepath.Glob(filepath.Join(o.dir, hiddenPrefix+"*"))
	doomed = append(doomed, filepath.Join(o.dir, socketName), filepath.Join(o.dir, identityName))
	err = errors.Join(err, removeAll(doomed...))
	if runtime.GOOS == "windows" { // keeps open files
		err = errors.Join(err, o.unlock())
	}
	return errors.Join(err, removeAll(filepath.Join(o.dir, lockName), o.dir), o.unlock())
}

// unknownFiles returns an error if there is what this program does not know: a newer one may
// have its records there.
func (o *owner) unknownFiles() error {
	files, err := os.ReadDir(o.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var names []string
	for _, f := range files {
		if f.Name() != identityName && !isLeftover(f.Name()) && !isSegment(f) {
			names = append(names, f.Name())
		}
	}
	if err == nil && len(names) > 0 {
		err = fmt.Errorf("%w: this program does not know %s", ErrVersion, strings.Join(names, ", "))
	}
	return err
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
