// Package spool is a durable first-in-first-out store of opaque records on
// local disk. It knows bytes, not tasks and not Redis.
//
// The package makes no compatibility promise before v1: neither the API nor the
// files.
//
// # What lies on disk
//
//	SpoolDir/                         0700, shared by any number of processes
//	  20261123T202838.123-1a2b3c4d/   one owner: one open Spool's share
//	    LOCK                          flock held = the owner is alive
//	    identity                      JSON: target, host, pid, start (no secrets)
//	    sock                          where its process listens, if it does
//	    0000000000000001.seg          a segment; named by its first sequence number
//	    000000000000a3f1.seg
//	  paused                          JSON: replay is paused, since when and by whom
//	  .stage-*                        half made by an import, a take-over or a pause; swept after a day
//	  journal/                        a SpoolDir of another's, see JournalName; not counted here
//	  quarantine/                     damaged segments as they were found, for ever
//	    20261123T202838.123-1a2b3c4d.0000000000000001.1.seg
//	    20261123T202838.123-1a2b3c4d.0000000000000001.1.seg.json
//
// A Spool creates an owner directory of its own, locks it, and then gives it its
// identity: whoever sees an owner can tell whether it lives. A Spool appends to
// its own segments only. It adopts an owner whose lock is free by taking that lock,
// and settles the dead owner's records in place. The lock decides, never the pid:
// pids are reused and hosts differ. After it has the lock, an adopter compares the
// file it has locked with the one that has the name: the owner may have been emptied and
// removed in between. One whose directory holds what this program does not know is left
// alone once its segments are empty, with its identity and its lock.
//
// TakeOver renames a dead owner's directory into another SpoolDir with its lock held, or
// copies it and removes the old one once the copy is durable and has its name.
//
// # A segment
//
// A segment is one bbolt file that is only added to. It has four buckets, and a fifth
// once it has had a record with a key or a lock:
//
//	meta     header -> owner, first sequence number, target, creation; written once
//	         state  -> what the segment counts; written with every commit
//	records  sequence number -> record
//	held     sequence number -> attempts: below its flow's watermark, yet pending
//	dead     sequence number -> attempts, time, reason: a dead letter
//	twins    sequence number -> what the record claims; written with it, never changed
//
// Sequence numbers are 8 bytes, big-endian, and never given out twice in an owner.
// Every value is sealed, and every field in it is a varint or a string behind its
// length:
//
//	0         1                 5
//	+---------+-----------------+--------------------------------------------
//	| version | CRC32C XOR tie  | header:  owner | first | target | created
//	|    1    |                 | state 2: commits | next | held
//	|         |                 |          | pending bytes | dead bytes | oldest
//	|         |                 |          | n, n counts by outcome
//	|         |                 |          | n, n classes: name, count, bytes, first
//	|         |                 |          | n, n flows: name, watermark, count
//	|         |                 | record:  at | lock until | id | class | lock | data
//	|         |                 | held:    attempts
//	|         |                 | dead:    attempts | since | reason
//	|         |                 | twin:    end of the lock | key | lock | flow
//	+---------+-----------------+--------------------------------------------
//
// The checksum is of the version and the fields. The tie is the CRC32C of the kind of
// value (one byte), the owner's name, the segment's first sequence number and the
// value's own (8 bytes each), so a value found anywhere else is not taken for good; the
// header's tie is 0. A twin's key and lock are SHA-256 cut to 128 bits, of 'k' or 'l' and
// the name, or empty. A record holds the fields of the job, never the arguments of asynq's
// scripts: another version has others.
//
// A state has version 2; in one of version 1 a watermark, between next and held, stood for
// all flows, and a twin of that time has no flow. Both are read.
//
// A value, an identity or a segment of another version is kept, reported by
// [Spool.Stats], and left alone: so does an older program with a newer one's files.
// A format that is no bbolt file with such a header must use another suffix than .seg.
//
// # Flows
//
// The records of one flow keep their order, and wait for none of another: see [FlowOf]. Each
// flow has a watermark in each segment. Settling a batch is one commit that moves the
// watermarks of its flows and writes the few exceptions. No record is deleted one by one:
// deletes inside bbolt need free pages, fail on a full disk and fragment the file.
//
//	first     watermark of a    watermark of b   next
//	  |------------|------------------|------------|
//	a's: settled   |       pending, all of them    |
//	b's: settled, but held, dead      |  pending   |
//
// What a [Reader] returned and its caller did not settle is held once a record of the same
// flow behind it is settled.
//
// next - first = pending + all counts by outcome.
//
// Which records are whose is not written down: a segment with several flows is read through
// once, when the first of them is read from it, and four bytes of memory for each record
// remember it for as long as the segment is one of the sixteen read last.
//
// The file is unlinked when everything in it is settled and it holds no dead letter.
// One that is settled but for a few records is written anew with those alone, under
// the same name.
//
// # Twins
//
// No two records with the same key are pending in one Spool, nor two with the same lock
// before it is over: [Spool.Append] looks and claims in one step, before it waits for the
// disk. What a segment's records claim is in memory until all of them are settled, on
// average 45 bytes for each key and 67 for each lock; the watermarks and the list of those
// held say whose claims still count. Records with neither have no part in it.
//
// It spares Redis what can be known here, and no more: it knows nothing of living owners,
// or of owners not adopted yet, and adopted ones may have twins of each other. Salvage
// loses the claims of a segment; a bucket of twins that is damaged claims nothing, and its
// segment is read all the same. Redis settles such twins at the replay.
//
// # Durability
//
// [Spool.Append] returns nil after the commit that holds the record has been fsynced, and
// the directory too where the commit created the file: bbolt does not do that. All callers
// waiting at that moment share one commit; there is one writer, never bbolt's Batch, which
// commits in a goroutine of its own, where nobody can catch a panic. [Spool.Settle] is
// durable on return. With Options.NoSync neither waits for an fsync, and a power cut may
// take what they have said was stored.
//
// A commit that fails is a fault of its segment, which takes no more records: bbolt would
// carry on after a failed fsync as if nothing had happened, and a later one that succeeds
// proves nothing about earlier pages. Its file is then read back without bbolt. If the
// commit's state is not there, the same records go to a new segment, and the caller hears
// of it only if that fails as well. If it is there, nobody knows whether it will be after
// a crash: the caller gets [ErrMaybeStored].
//
// What the disk, its controller and the file system claim to have synced is believed:
// a disk that lies, and ext4 with fast_commit on the kernels that bbolt names, can lose or tear
// what was acknowledged. Tested on ext4 and tmpfs.
//
// # Space
//
// Blocks are reserved ahead of their use, in steps that grow from 256 KiB to 8 MiB, and
// Options.MaxBytes and Options.MinFreeBytes are checked with each step. So a full disk is
// met before a record is taken, never in the middle of a commit, and what settling needs
// is always left: replay goes on. [ErrFull] is all that happens; nothing is dropped.
// Reserved blocks are written with zeros a little ahead of the records, since every commit
// into blocks that were merely reserved costs a write of the file system's journal.
//
// bbolt files never shrink, so segments end at Options.SegmentBytes and go as a whole.
// bbolt's memory map is twice that from the start: growing it waits for readers, and fails
// for good where memory has run out. If it fails all the same, the handle is closed and
// the file opened anew. On 32-bit systems and on Windows the map is as large as the file.
// No read transaction outlives one call, or a thousand records.
//
// # Damage
//
// bbolt trusts its pages. A segment is opened only if both meta pages, its length, its
// freelist and the branches of its trees make sense: a branch that leads back to itself
// would overflow the stack, which nobody can recover from, and a page that is free and in
// use would be overwritten. An empty file is damage, not a new database; NoFreelistSync is
// off, so that bbolt starts no goroutine of its own that might panic. A page that is wrong
// makes bbolt panic, and one that is missing is a fault in its memory map: both are
// caught, and the handle is abandoned with the locks that bbolt may hold. Every value has
// its checksum.
//
// A segment that is found damaged gets a second name in quarantine, with a report beside
// it, and is replaced by what can be read of it: first what the tree leads to, then
// copies that earlier commits have left in other pages. A checksum decides what is a
// record. Records keep their sequence numbers. What was settled stays settled as far
// as the newest readable state tells; a record of which it cannot be told whether it was
// delivered becomes a dead letter that says so. What is lost is counted as [Unreadable].
// Nothing is deleted because it cannot be read. Without space for the salvaged records
// the segment stays where it is, is reported, and tried again by the next
// [Spool.Adopt]; what is settled of it until then is kept in memory.
//
// Slices that bbolt hands out die with their transaction: everything this package
// returns is a copy.
//
// # A disk that does not answer
//
// Everything that touches the disk runs on one of two lanes, one for appending and one
// for all else, one operation at a time. What takes longer than Options.Timeout is left
// behind: its caller gets [ErrStalled], or [ErrMaybeStored] where it was appending, and
// others are refused at once until it has ended. [Spool.Stats] never touches the disk.
// A page fault in bbolt's memory map is the exception nobody can bound: the segment that
// is read is asked into the page cache first, but the kernel may have dropped it again.
//
// # Where to put it
//
// On a local disk that outlives the process and, in a cluster, the pod. [Open] warns where
// SpoolDir is on tmpfs, on a container's own overlay, on FUSE, or on a network file
// system: there flock may not keep two hosts apart, or may hang. bbolt's own lock on a
// file is waited for no longer than 2 s, and only a tool that reads can hold it. Files are
// 0600 and directories 0700 whatever the umask, and an owner of another user is an error,
// not adopted: what was written there, its user's processes could not read. Only Open and
// Backup create anything: [Inspect], [Verify] and AdoptOnly do not, so a mistyped path is
// an error.
package spool
