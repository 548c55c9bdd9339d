package queue

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// Kept is what the journal of a process holds: jobs that Redis has acknowledged, and that are
// not known to be finished.
type Kept struct {
	Jobs   int         `json:"jobs"`
	Bytes  int64       `json:"bytes"`
	Oldest *time.Time  `json:"oldest,omitempty"` // when the oldest was enqueued
	Queues []KeptQueue `json:"queues"`

	Bad []string `json:"bad,omitempty"` // segment files that cannot be read, owners that cannot be adopted
}

// KeptQueue is what a journal holds of one queue, from one process.
type KeptQueue struct {
	Owner  string     `json:"owner"` // of the journal, not of a share of the spool
	Queue  string     `json:"queue"`
	Jobs   int        `json:"jobs"`
	Bytes  int64      `json:"bytes"`
	Oldest *time.Time `json:"oldest,omitempty"`
	Marker *Marker    `json:"marker,omitempty"` // nil: not known, as of dead processes
}

// Marker is the number in Redis that shows whether it has lost something: that of the last
// job of the queue that it had acknowledged.
type Marker struct {
	Value uint64    `json:"value"`
	Set   time.Time `json:"set,omitzero"`   // zero: not yet, or not since Redis lost something
	Lost  bool      `json:"lost,omitempty"` // Redis has gone back to an earlier one, which is being followed
}

// journalView looks at a journal. All that it reads, it reads by way of alone.
type journalView struct {
	store *spool.Spool

	// begin writes what waits in memory; over reports whether a job of a blob needs no
	// guarding any more; end adds what else is known. Called within alone.
	begin func()
	over  func(blob spool.Position, index int) bool
	end   func(*Kept)

	alone func(ctx context.Context, fn func() error) error
}

// viewPage is how many blobs are read at a time.
const viewPage = 64

// each hands on the blobs behind a cursor, page by page. fn returns errTaken to end that.
func (v journalView) each(ctx context.Context, after spool.Cursor, fn func(spool.Entry) error) error {
	v.begin()
	for more := true; more; {
		err := v.alone(ctx, func() error {
			blobs, next, err := v.store.List(after, viewPage)
			for _, b := range blobs {
				if err = fn(b); err != nil {
					return err
				}
			}
			after, more = next, next != ""
			return err
		})
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// entries hands on the jobs of a blob that need guarding. One that is damaged has those in
// front of the damage.
func (v journalView) entries(b spool.Entry, fn func(index int, e entry) error) error {
	index := -1
	err := readEntries(b.Data, func(e entry) error {
		if e.record.ID == "" {
			return nil
		}
		if index++; v.over(b.Position, index) {
			return nil
		}
		return fn(index, e)
	})
	if errors.Is(err, errBlob) {
		return nil
	}
	return err
}

// list returns at most count jobs that a filter picks, behind a cursor, and the cursor for
// the next call: empty at the end.
func (v journalView) list(ctx context.Context, f Filter, after spool.Cursor, count int, payload bool) (jobs []Job, next spool.Cursor, err error) {
	at, err := parseJournalPlace(after)
	if err != nil {
		return nil, "", err
	}
	now, size := time.Now(), 0
	err = v.each(ctx, at.before, func(b spool.Entry) error {
		here, first := b.Position.Cursor(), 0
		if here == at.blob {
			first = at.index
		}
		err := v.entries(b, func(index int, e entry) error {
			j := newKeptInfo(b.Position, e, payload)
			if index < first || !f.picks(j, now) {
				return nil
			}
			size += len(j.Payload)
			if jobs = append(jobs, j); len(jobs) < count && size < listBytes {
				return nil
			}
			next = journalPlace{before: at.before, blob: here, index: index + 1}.cursor()
			return errTaken
		})
		at.before = here
		return err
	})
	if errors.Is(err, errTaken) {
		err = nil
	}
	return jobs, next, err
}

// newKeptInfo returns what is to be shown of a job in a journal. Who chose its id is not
// known.
func newKeptInfo(at spool.Position, e entry, payload bool) Job {
	r := e.record
	r.Class = e.queue + "\x00"
	info := newJobInfo(spool.Entry{Record: r, Position: at}, payload)
	info.OwnID = false
	return info
}

// totals counts the whole journal.
func (v journalView) totals(ctx context.Context) (k Kept, err error) {
	byQueue := map[markID]*KeptQueue{}
	err = v.each(ctx, "", func(b spool.Entry) error {
		return v.entries(b, func(_ int, e entry) error {
			id := markID{b.Position.Owner(), e.queue}
			if byQueue[id] == nil {
				byQueue[id] = &KeptQueue{Owner: id.owner, Queue: id.queue}
			}
			q := byQueue[id]
			q.Jobs++
			q.Bytes += int64(len(e.record.Data))
			q.Oldest = earlierOf(q.Oldest, e.record.At)
			return nil
		})
	})
	if err != nil {
		return k, err
	}
	k = Kept{Queues: []KeptQueue{}, Bad: v.store.Stats().Bad}
	for _, id := range slices.SortedFunc(maps.Keys(byQueue), markID.compare) {
		q := byQueue[id]
		k.Jobs, k.Bytes, k.Oldest = k.Jobs+q.Jobs, k.Bytes+q.Bytes, earlierOf(k.Oldest, *q.Oldest)
		k.Queues = append(k.Queues, *q)
	}
	return k, v.alone(ctx, func() error {
		v.end(&k)
		return nil
	})
}

func earlierOf(a *time.Time, b time.Time) *time.Time {
	if a != nil && !b.Before(*a) {
		return a
	}
	return &b
}

// journalPlace is a place in a list of the jobs of a journal: in a blob, of which the jobs
// from a number on are left, or, if that is gone, behind the one before.
type journalPlace struct {
	before, blob spool.Cursor
	index        int
}

func (p journalPlace) cursor() spool.Cursor {
	return spool.Cursor(strings.Join([]string{string(p.before), string(p.blob), strconv.Itoa(p.index)}, " "))
}

func parseJournalPlace(c spool.Cursor) (p journalPlace, err error) {
	if c == "" {
		return p, nil
	}
	parts := strings.Split(string(c), " ")
	if len(parts) == 3 {
		p.before, p.blob = spool.Cursor(parts[0]), spool.Cursor(parts[1])
		if p.index, err = strconv.Atoi(parts[2]); err == nil {
			return p, nil
		}
	}
	return p, badRequest(errors.New("cursor: it is none of a journal's"))
}
