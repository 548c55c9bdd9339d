package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/jobspool/jobspool/spool"
)

// offlineJournal holds the journals of dead processes, from the first look at them on until
// it is closed. Safe for concurrent use.
type offlineJournal struct {
	mu    sync.Mutex   // guards what follows
	store *spool.Spool // nil: nobody has looked
	bad   []string     // what could not be taken over
}

func (o *offlineJournal) view(dir string) (journalView, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.store == nil {
		if err := o.openLocked(filepath.Join(dir, spool.JournalName)); err != nil {
			return journalView{}, err
		}
	}
	bad := o.bad
	return journalView{
		store: o.store, begin: func() {}, over: func(spool.Position, int) bool { return false },
		end:   func(k *Kept) { k.Bad = append(k.Bad, bad...) },
		alone: func(_ context.Context, fn func() error) error { return fn() },
	}, nil
}

func (o *offlineJournal) openLocked(dir string) error {
	store, err := spool.Open(spool.Options{
		Dir: dir, AdoptOnly: true, NoSync: true, SameTarget: func(string) bool { return true }, MaxRecordBytes: -1,
		Logger: slog.New(slog.DiscardHandler),
	})
	if errors.Is(err, os.ErrNotExist) {
		return requestError{http.StatusNotImplemented, "there is no journal: Config.Guard was never on here"}
	}
	if err != nil {
		return fmt.Errorf("queue: journal: %w", err)
	}
	if _, err := store.Adopt(); err != nil {
		o.bad = []string{err.Error()}
	}
	o.store = store
	return nil
}

func (o *offlineJournal) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.store == nil {
		return nil
	}
	return o.store.Close()
}

func cannotCheck(context.Context, GuardCheck) (GuardChecked, error) {
	return GuardChecked{}, requestError{
		http.StatusNotImplemented,
		"nobody here can ask Redis: start the service, which takes over the journals of dead processes and compares them with what Redis holds",
	}
}
