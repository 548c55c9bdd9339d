package queue

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// trim makes room by giving up the oldest segment, but for what a recovery is yet to read: what
// it sends again is added to the journal, too. It reports whether that was anything.
func (j *journal) trim() bool {
	blobs, err := j.store.Read(math.MaxInt, 2*journalSegment) // of one segment
	if unread := j.unread.Load(); unread != nil {
		if *unread == (spool.Position{}) {
			return false
		}
		if i := slices.IndexFunc(blobs, func(b spool.Entry) bool { return b.Position == *unread }); i >= 0 {
			blobs = blobs[:i]
		}
	}
	if err != nil || len(blobs) == 0 {
		return false
	}
	given, jobs := make([]spool.Position, len(blobs)), 0
	for i, b := range blobs {
		n, _ := countEntries(b.Data)
		given[i], jobs = b.Position, jobs+n
	}
	if j.release(given, jobs) != nil {
		return false
	}
	j.skipped.Add(int64(jobs))
	j.mu.Lock()
	defer j.mu.Unlock()
	j.trimmed = append(j.trimmed, given...)
	return true
}

// takeTrimmed returns what trim has given up since the last call.
func (j *journal) takeTrimmed() (at []spool.Position) {
	j.mu.Lock()
	defer j.mu.Unlock()
	at, j.trimmed = j.trimmed, nil
	return at
}

// release gives up blobs, which have so many jobs.
func (j *journal) release(blobs []spool.Position, jobs int) error {
	settlements := make([]spool.Settlement, len(blobs))
	for i, at := range blobs {
		settlements[i] = spool.Settlement{Position: at, Outcome: spool.Removed}
	}
	err := j.store.Settle(settlements...)
	if err == nil {
		j.jobs.Add(-int64(jobs))
	}
	return err
}

// tidy removes what was put into quarantine so long ago that nothing in it would be guarded any
// more. A journal that is not synced is expected to be damaged when the host dies, and what could
// be read was taken out: nobody misses the rest, which would take its room for ever.
func (j *journal) tidy(keep time.Duration) error {
	damaged, err := spool.Quarantine(j.dir)
	for _, q := range damaged {
		if time.Since(q.At) <= keep {
			continue
		}
		path := filepath.Join(j.dir, "quarantine", q.File)
		for _, p := range []string{path, path + ".json"} { // without a report it is old, too
			if rerr := os.Remove(p); !errors.Is(rerr, os.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
	}
	return err
}
