package queue

import (
	"context"
	"errors"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// ledger lists and changes what a spool holds. Safe for concurrent use.
type ledger struct {
	spool *spool.Spool

	// alone runs fn while nothing that the spool holds is on its way to Redis.
	alone func(ctx context.Context, fn func() error) error
}

// ledgerPage is how many records are read at a time, and changed in one commit.
const ledgerPage = 1000

// errTaken says that a page has all that was asked for.
var errTaken = errors.New("enough")

// listBytes is from how many bytes of payloads on a list takes no more.
const listBytes = 8 << 20

// list returns at most count jobs that a filter picks, behind a cursor, and the cursor for
// the next call: empty at the end.
func (l ledger) list(ctx context.Context, f Filter, after spool.Cursor, count int, payload bool) (jobs []Job, next spool.Cursor, err error) {
	now, size := time.Now(), 0
	next, err = l.pages(ctx, f, after, func(infos []Job, at []spool.Position) error {
		for i, j := range infos {
			if !f.picks(j, now) {
				continue
			}
			size += len(j.Payload)
			if jobs = append(jobs, j); len(jobs) == count || size >= listBytes {
				after = at[i].Cursor()
				return errTaken
			}
		}
		return nil
	}, payload)
	if errors.Is(err, errTaken) {
		return jobs, after, nil
	}
	return jobs, next, err
}

// pages hands on all that lies behind a cursor, page by page.
func (l ledger) pages(ctx context.Context, f Filter, after spool.Cursor, fn func([]Job, []spool.Position) error, payload bool) (next spool.Cursor, err error) {
	for {
		var jobs []Job
		var at []spool.Position
		if jobs, at, next, err = l.page(ctx, f.Dead, after, payload); err == nil {
			err = fn(jobs, at)
		}
		if err != nil || next == "" {
			return next, err
		}
		after = next
	}
}

// page reads one page, unless ctx has ended.
func (l ledger) page(ctx context.Context, dead bool, after spool.Cursor, payload bool) (jobs []Job, at []spool.Position, next spool.Cursor, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, "", err
	}
	if dead {
		letters, next, err := l.spool.DeadLetters(after, ledgerPage)
		for _, d := range letters {
			jobs, at = append(jobs, newDeadInfo(d, payload)), append(at, d.Position)
		}
		return jobs, at, next, err
	}
	entries, next, err := l.spool.List(after, ledgerPage)
	for _, e := range entries {
		jobs, at = append(jobs, newJobInfo(e, payload)), append(at, e.Position)
	}
	return jobs, at, next, err
}

// remover returns the revision that takes records out for good.
func (l ledger) remover(dead bool) revision {
	return func(at []spool.Position) (int, error) {
		if dead {
			return l.spool.RemoveDead(at...)
		}
		settlements := make([]spool.Settlement, len(at))
		for i, p := range at {
			settlements[i] = spool.Settlement{Position: p, Outcome: spool.Removed}
		}
		before := l.spool.Stats().Settled[spool.Removed]
		err := l.spool.Settle(settlements...)
		return int(l.spool.Stats().Settled[spool.Removed] - before), err
	}
}

// retry makes dead letters pending again.
func (l ledger) retry(at []spool.Position) (int, error) { return l.spool.RetryDead(at...) }

// revision changes records, and returns how many it found.
type revision func([]spool.Position) (int, error)

// apply runs fn with what a filter picks, page by page, each while nothing is on its way. It
// returns how many records were changed, with an error as many as before that.
func (l ledger) apply(ctx context.Context, f Filter, fn revision) (n int, err error) {
	for after := spool.Cursor(""); ; {
		done, next, err := l.applyPage(ctx, f, after, fn)
		if n += done; err != nil || next == "" {
			return n, err
		}
		after = next
	}
}

// applyPage runs fn with what a filter picks of one page.
func (l ledger) applyPage(ctx context.Context, f Filter, after spool.Cursor, fn revision) (n int, next spool.Cursor, err error) {
	now := time.Now()
	err = l.alone(ctx, func() (err error) {
		var jobs []Job
		var at, picked []spool.Position
		if jobs, at, next, err = l.page(ctx, f.Dead, after, false); err != nil {
			return err
		}
		for i, j := range jobs {
			if f.picks(j, now) {
				picked = append(picked, at[i])
			}
		}
		if len(picked) > 0 {
			n, err = fn(picked)
		}
		return err
	})
	return n, next, err
}
