package spool

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

const (
	// maxCommitBytes bounds what one commit takes, so that one large caller does
	// not make all others wait.
	maxCommitBytes = 8 << 20

	// regroup is how long a commit yields to the callers that the last one has woken,
	// so that it holds as many. Longest useful wait as measured; about one fsync.
	regroup = 100 * time.Microsecond
)

// group is the calls that one commit makes durable.
type group struct {
	records []encoded // guarded by writer.mu until the group is sealed
	size    int
	calls   int
	done    chan struct{} // closed when err is set
	err     error
}

// writer takes all callers that wait into one commit. The first of a group leads it: it
// waits for the lane, commits for all, and wakes them.
type writer struct {
	lane   *lane
	commit func([]encoded) error

	mu     sync.Mutex
	open   *group // that callers join; nil if none waits
	last   int    // calls of the last commit
	closed bool
}

// append waits until the records are durable, or could not be made so.
func (w *writer) append(records []encoded, size int) error {
	g, leads, err := w.join(records, size)
	switch {
	case err != nil:
		return err
	case leads:
		w.lead(g)
	default:
		<-g.done
	}
	return g.err
}

func (w *writer) join(records []encoded, size int) (g *group, leads bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, false, ErrClosed
	}
	if leads = w.open == nil || w.open.size+size > maxCommitBytes; leads {
		w.open = &group{done: make(chan struct{})}
	}
	g = w.open
	g.records = append(g.records, records...)
	g.size += size
	g.calls++
	return g, leads, nil
}

// lead commits a group. Others join it while it waits for the lane.
func (w *writer) lead(g *group) {
	started, err := w.lane.do(func() error {
		w.regroup(g)
		w.seal(g)
		return w.commit(g.records)
	})
	if !started {
		w.seal(g)
	} else if errors.Is(err, ErrStalled) {
		err = fmt.Errorf("%w: %w", ErrMaybeStored, err)
	}
	g.err = err
	close(g.done)
}

// regroup yields for a moment while fewer callers are back than the last commit had.
func (w *writer) regroup(g *group) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for end := time.Now().Add(regroup); w.open == g && g.calls < w.last && time.Now().Before(end); {
		w.mu.Unlock()
		runtime.Gosched()
		w.mu.Lock()
	}
	w.last = g.calls
}

// seal lets nobody join a group any more.
func (w *writer) seal(g *group) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == g {
		w.open = nil
	}
}

// close refuses further calls. Those that wait still get their turn on the lane.
func (w *writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}
