package queue

import (
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jobspool/jobspool/spool"
)

const (
	// journalEvery is how long an entry of the journal may wait in memory. An acknowledged job
	// is to be in the journal within 10 ms.
	journalEvery = 7 * time.Millisecond

	// journalMost is the size at which what waits is written without waiting any longer.
	journalMost = 1 << 20

	// waitsMost is the size beyond which nothing more waits: a disk may be slower than Redis.
	waitsMost = 16 << 20

	// journalBlob is the size at which a blob is full. Each commit rewrites up to four blobs:
	// bbolt splits no page of so few.
	journalBlob = 16 << 10

	// journalSegment is the most that a segment of the journal has: it is in whole ones that
	// space becomes free.
	journalSegment = 16 << 20

	// DefaultGuardBytes bounds the journal where Config.GuardBytes does not.
	DefaultGuardBytes = 256 << 20
)

// journal keeps jobs that Redis has acknowledged for a while, in case Redis loses them: in
// blobs of many, in a SpoolDir of its own, without fsync, since it guards against Redis's
// loss and not the host's. Callers do not wait for it. Safe for concurrent use.
type journal struct {
	dir   string
	store *spool.Spool
	log   *slog.Logger
	wake  chan struct{} // capacity 1
	fresh chan struct{} // capacity 1: a queue has its first entry
	first *firstMarks   // set once, before the first entry
	stop  chan struct{}
	ended chan struct{}

	mu    sync.Mutex // guards what follows
	waits waiting
	seq   uint64 // of the last entry

	trimmed []spool.Position   // blobs that trim gave up
	last    map[string]*uint64 // queue -> its last entry

	writing sync.Mutex // held by flush
	spare   waiting    // what was written last, to be used again; guarded by writing
	slow    bool       // the last time not all had room that was to wait; guarded by writing

	// unread is the first blob that must stay: a recovery has not dealt with it. The zero one
	// stands for all; nil: none goes on.
	unread atomic.Pointer[spool.Position]

	jobs    atomic.Int64 // in the blobs of the store
	skipped atomic.Int64 // entries that could not be written
	failing atomic.Bool
}

func openJournal(cfg Config) (*journal, error) {
	dir := filepath.Join(cfg.SpoolDir, spool.JournalName)
	store, err := spool.Open(spool.Options{
		Dir: dir, Target: cfg.Target, SameTarget: cfg.adopts(), NoSync: true,
		SegmentBytes: segmentBytes(cfg.GuardBytes), MaxBytes: cfg.GuardBytes, MaxRecordBytes: -1, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	j := &journal{
		dir: dir, store: store, log: cfg.Logger, wake: make(chan struct{}, 1), fresh: make(chan struct{}, 1),
		stop: make(chan struct{}), ended: make(chan struct{}),
		seq: firstMark, last: map[string]*uint64{},
	}
	go j.run()
	return j, nil
}

// segmentBytes is how large segments are of a journal with a bound, which has several.
func segmentBytes(bound int64) int64 {
	if bound < 0 {
		return journalSegment
	}
	return min(max(bound/8, 256<<10), journalSegment)
}

// add takes a job that Redis has acknowledged. A nil journal takes none.
func (j *journal) add(one job) {
	if j == nil {
		return
	}
	one.OwnID = true // whoever chose it: a conflict is compared
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	last := j.last[one.Queue]
	if last == nil {
		last = new(uint64)
		j.last[one.Queue] = last
		poke(j.fresh)
		if stays, set := j.first.stays(one.Queue); set {
			j.put(entry{seq: firstMark, queue: one.Queue, stays: stays.UnixMilli()}, nil)
		}
	}
	*last = j.seq
	j.put(entry{seq: j.seq, queue: one.Queue, record: spool.Record{ID: one.ID, Lock: one.Lock, LockUntil: one.LockUntil, At: one.At}}, &one)
}

// marked notes what a marker is, for those who adopt the journal.
func (j *journal) marked(m *mark) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.put(entry{seq: m.value, queue: m.queue, stays: m.staying().UnixMilli()}, nil)
}

func (j *journal) put(e entry, one *job) {
	if len(j.waits.bytes) >= waitsMost {
		if one != nil {
			j.waits.skipped++
		}
		return
	}
	first := len(j.waits.bytes) == 0
	j.waits.add(e, one)
	if first || len(j.waits.bytes) >= journalMost {
		poke(j.wake)
	}
}

// lasts returns the last entry of each queue.
func (j *journal) lasts() map[string]uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	lasts := make(map[string]uint64, len(j.last))
	for q, seq := range j.last {
		lasts[q] = *seq
	}
	return lasts
}

// run writes what waits, until close.
func (j *journal) run() {
	defer close(j.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-j.wake:
		case <-j.stop:
			j.flush()
			return
		}
		if !j.full() {
			timer.Reset(journalEvery)
			select {
			case <-timer.C:
			case <-j.stop:
			}
		}
		j.flush()
	}
}

func (j *journal) full() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.waits.bytes) >= journalMost
}

// flush writes what waits. When it returns, every entry added before is written, or skipped.
func (j *journal) flush() {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	w := j.waits
	j.waits, j.spare = j.spare, waiting{}
	j.mu.Unlock()
	for blobs := w.blobs; len(blobs) > 0; {
		n := firstBlobs(blobs)
		j.write(blobs[:n], w.bytes)
		blobs = blobs[n:]
	}
	j.skip(w.skipped)
	if cap(w.bytes) <= 4*journalMost {
		j.spare = waiting{bytes: w.bytes[:0], blobs: w.blobs[:0]} // Append made copies
	}
}

// skip counts jobs that could not wait, and says so when that begins. writing is held.
func (j *journal) skip(jobs int) {
	j.skipped.Add(int64(jobs))
	if jobs > 0 && !j.slow {
		j.log.Error("queue: the journal cannot be written as fast as jobs come, of those that Redis loses now some are lost", "jobs", jobs)
	}
	j.slow = jobs > 0
}

// firstBlobs returns how many of the first blobs are written at a time.
func firstBlobs(blobs []waitingBlob) (n int) {
	for n = 1; n < len(blobs) && blobs[n].end-blobs[0].begin <= journalMost; n++ {
	}
	return n
}

// write writes blobs, whose bytes lie in b.
func (j *journal) write(blobs []waitingBlob, b []byte) {
	now, jobs := time.Now(), 0
	records := make([]spool.Record, len(blobs))
	for i, w := range blobs {
		records[i] = spool.Record{Class: journalFlow, At: now, Data: b[w.begin:w.end]}
		jobs += w.jobs
	}
	err := j.store.Append(records...)
	for errors.Is(err, spool.ErrFull) && j.trim() { // each time a segment, which may be a small one
		err = j.store.Append(records...)
	}
	if err == nil {
		j.jobs.Add(int64(jobs))
		j.failing.Store(false)
		return
	}
	j.skipped.Add(int64(jobs))
	if !j.failing.Swap(true) {
		j.log.Error("queue: the journal cannot be written, jobs that Redis loses now are lost", "err", err)
	}
}

// journalFlow is the class of blobs.
const journalFlow = "journal"

func (j *journal) close() error {
	close(j.stop)
	<-j.ended
	return j.store.Close()
}
