package spool

import (
	"errors"
	"fmt"
	"syscall"
)

// What Append and the others return; test with errors.Is.
var (
	// ErrClosed is returned by every method of a Spool after Close.
	ErrClosed = errors.New("spool: closed")

	// ErrFull is returned by Append when Options.MaxBytes, Options.MinFreeBytes or
	// the disk allows no more. Nothing was stored, and nothing was dropped.
	ErrFull = errors.New("spool: full")

	// ErrTooLarge is returned by Append for a record longer than
	// Options.MaxRecordBytes, or for more in one call than a segment takes.
	// Nothing was stored.
	ErrTooLarge = errors.New("spool: too large")

	// ErrMaybeStored is returned by Append when nobody can tell whether the records
	// will be there after a crash: the commit failed late, or took longer than
	// Options.Timeout. They may be replayed although the caller was told of an error.
	ErrMaybeStored = errors.New("spool: the record may be stored or not")

	// ErrStalled says that the disk has not answered for Options.Timeout. What was
	// under way then goes on by itself; until it ends, calls fail with ErrStalled at
	// once. Append returns it alone only where nothing was stored.
	ErrStalled = errors.New("spool: the disk does not answer")

	// ErrAdoptOnly is returned by Append on a Spool opened with AdoptOnly.
	ErrAdoptOnly = errors.New("spool: opened to adopt only, takes no records")
)

// What makes two records twins; see [TwinsError] and [Spool.Twin].
var (
	// ErrKeyHeld says that a pending record has the same Record.Key.
	ErrKeyHeld = errors.New("spool: a pending record has this key")

	// ErrLockHeld says that a pending record has the same Record.Lock, whose LockUntil
	// has not passed.
	ErrLockHeld = errors.New("spool: a pending record has this lock")
)

// What is found in a SpoolDir.
var (
	// ErrDamaged is wrapped by errors about bytes that cannot be understood.
	ErrDamaged = errors.New("spool: damaged")

	// ErrVersion is wrapped by errors about files of a version that this program
	// does not know. It leaves them alone.
	ErrVersion = errors.New("spool: unknown format version")

	// ErrOtherUser is wrapped by errors about an owner whose files belong to another
	// user: what this process wrote there, that user's processes could not read.
	ErrOtherUser = errors.New("spool: belongs to another user")

	// ErrNotSpool is returned by Inspect and Verify for a directory that holds
	// something, but no owner.
	ErrNotSpool = errors.New("spool: not a SpoolDir")
)

// orFull adds ErrFull to the system's words for a full disk.
func orFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
