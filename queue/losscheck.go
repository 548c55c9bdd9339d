package queue

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// errNoGuard says that a process has no journal.
func errNoGuard() error {
	return requestError{http.StatusNotImplemented, "Config.Guard is off in this process: it keeps no journal"}
}

// aside runs fn in the guard's goroutine, between two of its steps.
func (g *lossGuard) aside(ctx context.Context, fn func() error) error {
	return g.asides.run(ctx, g.ended, fn)
}

// view looks at the journal beside the guard. A nil lossGuard has none.
func (g *lossGuard) view() (journalView, error) {
	if g == nil {
		return journalView{}, errNoGuard()
	}
	return journalView{
		store: g.j.store, begin: g.j.flush, alone: g.aside,
		over: func(blob spool.Position, index int) bool { return g.done[blob].has(index) },
		end:  g.addMarkers,
	}, nil
}

// addMarkers adds what the markers are to be.
func (g *lossGuard) addMarkers(k *Kept) {
	for i, q := range k.Queues {
		if m := g.marks[markID{q.Owner, q.Queue}]; m != nil && m.possible != nil {
			k.Queues[i].Marker = &Marker{Value: m.value, Set: m.set, Lost: m.found != nil}
		}
	}
}

// checkByHand looks which jobs of the journal Redis does not hold, whatever the markers say,
// and sends those again: a person knows better what Redis has been through. The jobs are those
// that are not known to be finished, so it may send what was finished since the last sweep. A
// nil lossGuard cannot.
func (g *lossGuard) checkByHand(ctx context.Context, what GuardCheck) (found GuardChecked, err error) {
	view, err := g.view()
	if err != nil {
		return found, err
	}
	view.begin()
	for after, more := spool.Cursor(""), true; more; {
		err := g.aside(ctx, func() error { //nolint:contextcheck // what goes on in the guard's goroutine ends with the guard
			blobs, next, err := g.j.store.List(after, viewPage)
			if err == nil {
				err = g.checkBlobs(view, blobs, what, &found)
			}
			after, more = next, next != ""
			return err
		})
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return found, fmt.Errorf("after %d jobs, %d of them sent again: %w", found.Looked, found.SentAgain, err)
		}
	}
	return found, nil
}

// checkBlobs does so with a few blobs.
func (g *lossGuard) checkBlobs(view journalView, blobs []spool.Entry, what GuardCheck, found *GuardChecked) error {
	byQueue := map[string][]suspect{}
	for _, b := range blobs {
		if b.At.Before(what.Since) {
			continue // written after all that is in it was acknowledged
		}
		err := view.entries(b, func(index int, e entry) error {
			if what.Queue != "" && what.Queue != e.queue {
				return nil
			}
			one, err := readJob(e.record)
			if err == nil {
				byQueue[e.queue] = append(byQueue[e.queue], suspect{b.Position, index, one})
			}
			return nil // one that cannot be read cannot be sent
		})
		if err != nil {
			return err
		}
	}
	for _, q := range slices.Sorted(maps.Keys(byQueue)) {
		lost, err := g.lookUp(q, byQueue[q])
		if err != nil {
			return err
		}
		found.Looked += len(byQueue[q])
		found.Missing += len(lost)
		if what.Report || len(lost) == 0 {
			continue
		}
		n, err := g.sendAgain(lost)
		found.SentAgain += n
		g.noteSent(lost, n, err == nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// noteSent counts jobs that were sent again by hand.
func (g *lossGuard) noteSent(lost []suspect, n int, all bool) {
	g.resent.Add(int64(n))
	for _, s := range lost {
		if !all {
			break
		}
		if !g.lost[s.blob].has(s.index) { // else it was counted when it was reported
			g.missing.Add(1)
		}
		if !s.job.ProcessAt.After(time.Now()) {
			g.maybeDone.Add(1)
		}
		g.noteDone(s.blob, s.index)
	}
}
