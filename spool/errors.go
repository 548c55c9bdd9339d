package spool

import "errors"

var (
	// ErrClosed is returned by every method of a Spool after Close.
	ErrClosed = errors.New("spool: closed")

	// ErrMaybeStored is returned by Append when the commit failed and yet the
	// records can be read back: they may be replayed although the caller was
	// told of an error.
	ErrMaybeStored = errors.New("spool: commit failed, the record may be stored all the same")

	// ErrAdoptOnly is returned by Append on a Spool opened with AdoptOnly.
	ErrAdoptOnly = errors.New("spool: opened to adopt only, takes no records")

	// ErrDamaged is wrapped by errors about bytes that cannot be understood.
	ErrDamaged = errors.New("spool: damaged")
)
