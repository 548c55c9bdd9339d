package spool

import (
	"fmt"
	"time"
)

// Outcome says what became of a record.
type Outcome uint8

// The outcomes. All but Kept are final.
const (
	// Kept leaves the record pending and counts one attempt against it.
	Kept Outcome = iota
	// Delivered: the destination took the record.
	Delivered
	// AlreadyThere: the destination had taken it before.
	AlreadyThere
	// Superseded: another record holds the lock this one asked for.
	Superseded
	// Dead sets the record aside as a dead letter. It stays on disk.
	Dead
	// Removed: a person took the record out.
	Removed
	// Unreadable: the record's bytes are damaged. What there is of them lies in
	// quarantine. Settle does not take it: only salvage finds it out.
	Unreadable

	outcomes // how many there are
)

func (o Outcome) String() string {
	switch o {
	case Kept:
		return "kept"
	case Delivered:
		return "delivered"
	case AlreadyThere:
		return "already there"
	case Superseded:
		return "superseded"
	case Dead:
		return "dead"
	case Removed:
		return "removed"
	case Unreadable:
		return "unreadable"
	case outcomes:
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// Position names a record of a Spool until it is settled.
type Position struct {
	owner   string
	segment uint64 // its first sequence number
	seq     uint64
	size    int // encoded bytes
	class   string
}

// Seq is the record's sequence number within its owner; it grows with time.
func (p Position) Seq() uint64 { return p.seq }

// Entry is a pending record as Read returns it.
type Entry struct {
	Record
	Position Position
	Attempts int // how often the record was Kept before
}

// DeadLetter is a record that was set aside.
type DeadLetter struct {
	Entry
	Reason string
	Since  time.Time // when it was set aside
}

// Settlement is the outcome of one entry.
type Settlement struct {
	Position Position
	Outcome  Outcome
	Attempts int    // the Entry's: one that is Kept has one more then, however often it is settled
	Reason   string // why it is Dead; must hold neither payload nor password
}
