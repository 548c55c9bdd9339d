package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/jobspool/jobspool/spool"
)

// Offline holds what dead owners left in a SpoolDir, of any target, to look at it and to
// change it without Redis. Nobody else replays it meanwhile. It sends nothing.
type Offline struct {
	dir     string
	spool   *spool.Spool
	journal offlineJournal

	running sync.RWMutex // held shared by every running call
	closed  bool         // guarded by running
}

// OpenOffline takes over every dead owner in dir, which must exist. Owners that live are left
// alone. What is damaged is salvaged. An error means that some of them could not be taken
// over; the Offline, if it is not nil, holds the others and has to be closed. Nil log: none.
func OpenOffline(dir string, log *slog.Logger) (*Offline, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s, err := spool.Open(spool.Options{
		Dir: dir, AdoptOnly: true, Logger: log, SameTarget: func(string) bool { return true }, MaxRecordBytes: -1,
	})
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	_, err = s.Adopt()
	return &Offline{dir: dir, spool: s}, err
}

// Handler returns a handler of the admin API, see [Producer.Handler], that permits all.
func (o *Offline) Handler() http.Handler {
	c := &control{
		ledger: ledger{spool: o.spool, alone: func(_ context.Context, fn func() error) error { return fn() }},
		status: o.status, use: o.use, may: []Permission{MayChange, MaySeePayloads},
		kept: func() (journalView, error) { return o.journal.view(o.dir) }, check: cannotCheck,
	}
	return c.handler()
}

func (o *Offline) status() Status {
	sp := o.spool.Stats()
	st := Stats{
		Adopted: sp.Adopted, Dead: sp.Settled[spool.Dead], Removed: sp.Settled[spool.Removed], Retried: sp.Retried,
		Unreadable: sp.Settled[spool.Unreadable], Pending: sp.Pending, PendingBytes: sp.PendingBytes,
		Oldest: known(sp.Oldest), DeadLetters: sp.DeadLetters, Bad: sp.Bad, Quarantined: sp.Quarantined,
	}
	return newStatus(o.spool, st)
}

func (o *Offline) use(ctx context.Context, fn func(context.Context) error) error {
	o.running.RLock()
	defer o.running.RUnlock()
	if o.closed {
		return ErrClosed
	}
	return fn(ctx)
}

// Close gives up what it holds; whatever is left stays on disk for the next adopter. Close
// is idempotent.
func (o *Offline) Close() error {
	o.running.Lock()
	defer o.running.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	return errors.Join(o.journal.close(), o.spool.Close())
}
