// Package spool is a durable first-in-first-out store of opaque records on
// local disk. It knows bytes, not tasks and not Redis.
//
// The package makes no compatibility promise before v1: neither the API nor the
// files.
//
// # What lies on disk
//
//	SpoolDir/                    0700, shared by any number of processes
//	  20261123T202838.123-1a2b3c4d/   one owner: one open Spool's share
//	    LOCK                     flock held = the owner is alive
//	    identity                 JSON: target, host, pid, start (no secrets)
//	    0000000000000001.seg     a segment; named by its first sequence number
//	    000000000000a3f1.seg
//
// A Spool creates an owner directory of its own, locks it, and then gives it its
// identity: whoever sees an owner can tell whether it lives. A Spool appends to
// its own segments only. It adopts an owner whose lock is free by taking that lock,
// and settles the dead owner's records in place. The lock decides, never the pid:
// pids are reused and hosts differ.
//
// # A segment
//
// A segment is one bbolt file that only grows:
//
//	meta     one fixed-size value: first and next sequence number, watermark,
//	         counters by outcome
//	records  8-byte big-endian sequence number -> record with its CRC32C
//	held     sequence number -> attempts: below the watermark, yet pending
//	dead     sequence number -> reason, time, attempts: a dead letter
//
// Settling a batch is one commit that moves the watermark and writes the few
// exceptions. No record is deleted one by one: deletes inside bbolt need free
// pages, fail on a full disk and fragment the file. The file is unlinked when
// everything in it is settled and it holds no dead letter.
//
//	first        watermark                next
//	  |-----------|------------------------|
//	   settled     pending
//	   but held,
//	   dead
//
// pending = held + next - watermark.
//
// # Durability
//
// [Spool.Append] returns nil after the commit that holds the record has been
// fsynced, and the directory too where the commit created the file. All callers
// waiting at that moment share one commit. [Spool.Settle] is durable on return.
//
// # What is not here yet
//
// Bounds on the bytes on disk, salvage of a damaged segment and the fixed format
// v1. A segment that cannot be opened is left untouched, reported by
// [Spool.Stats] and skipped. A record whose CRC does not match is set aside as a
// dead letter.
package spool
