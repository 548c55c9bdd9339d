package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

// TestSabotage does things to segments that are in use, as people and broken disks do,
// while some append and one reads.
func TestSabotage(t *testing.T) {
	if !isolated(t) {
		return
	}
	for name, sabotage := range map[string]func(path string) error{
		"cut to nothing": func(path string) error { return os.Truncate(path, 0) },
		"cut to half": func(path string) error {
			fi, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.Truncate(path, fi.Size()/2)
		},
		// Not here: zeros over the pages of a segment in use. A commit in bbolt can then run
		// for ever, about once in ten runs, and appending stalls (ErrStalled) until the
		// process starts again. To be mended.
		"removed": os.Remove,
		"a directory": func(path string) error {
			aside := filepath.Join(filepath.Dir(path), "..", filepath.Base(path)+".aside")
			return errors.Join(os.Rename(path, aside), os.Mkdir(path, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBusy(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 256 << 10})
			for range 2 {
				b.wait()
				b.sabotage(sabotage)
				b.wait() // in another segment
			}
			b.stop()
			b.check()
		})
	}
}

// TestSegmentsWithoutPermission takes the right to read segments, and gives it back.
func TestSegmentsWithoutPermission(t *testing.T) {
	if !isolated(t) {
		return
	}
	dir := t.TempDir()
	becomeNobody(t, dir)
	b := newBusy(t, spool.Options{Dir: dir, SegmentBytes: 256 << 10})
	for range 2 {
		b.wait()
		b.sabotage(func(path string) error { return os.Chmod(path, 0) })
		b.wait()
	}
	b.stop()
	b.sabotage(func(path string) error { return os.Chmod(path, 0o600) })
	if _, err := b.s.Adopt(); err != nil {
		t.Error(err)
	}
	b.drain()
	b.check()
	if st := b.s.Stats(); len(st.Bad) > 0 || len(b.delivered) < len(b.acked) || st.Settled[spool.Unreadable] > 0 {
		t.Errorf("%d of %d were delivered: %+v", len(b.delivered), len(b.acked), st)
	}
}

// TestSegmentThatIsAwayDoesNotHoldUpOthers takes the oldest segment away while it is not
// open.
func TestSegmentThatIsAwayDoesNotHoldUpOthers(t *testing.T) {
	if !isolated(t) {
		return
	}
	parent := filepath.Join(os.TempDir(), "spools")
	if err := os.Mkdir(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	becomeNobody(t, parent)
	for name, tc := range map[string]struct{ away, back func(path string) error }{
		"mode": {
			func(path string) error { return os.Chmod(path, 0) },
			func(path string) error { return os.Chmod(path, 0o600) },
		},
		"name": {
			func(path string) error { return os.Rename(path, path+".aside") },
			func(path string) error { return os.Rename(path+".aside", path) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, spool.Options{Dir: filepath.Join(parent, name), SegmentBytes: 64 << 10})
			for i := range 3 {
				mustAppend(t, s, kib(i, 100))
			}
			path := segmentFiles(t, filepath.Join(parent, name))[0]
			if err := tc.away(path); err != nil {
				t.Fatal(err)
			}
			if ids := drain(t, s); len(ids) != 2 || ids[0] != "id-1" {
				t.Errorf("without the first segment: %v", ids)
			}
			if st := s.Stats(); len(st.Bad) != 1 {
				t.Errorf("%+v", st)
			}
			if err := tc.back(path); err != nil {
				t.Fatal(err)
			}
			mustAdopt(t, s, 1)
			wantIDs(t, drain(t, s), 1)
		})
	}
}

// TestRemovedSegmentTakesNoMore removes the segment that takes records: what is appended
// later must be there when the process has ended.
func TestRemovedSegmentTakesNoMore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	mustAppend(t, s, record(0))
	if err := os.Remove(segmentFiles(t, dir)[0]); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, record(1))
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	after := open(t, spool.Options{Dir: copied})
	mustAdopt(t, after, 1)
	if ids := drain(t, after); ids[0] != "id-1" {
		t.Errorf("left: %v", ids)
	}
	wantIDs(t, drain(t, s), 2) // this process still has both
}

// busy is a Spool that several append to and one reads.
type busy struct {
	t    *testing.T
	s    *spool.Spool
	dir  string
	quit chan struct{}
	wg   sync.WaitGroup

	mu        sync.Mutex
	changed   *sync.Cond
	acked     map[string]bool
	maybe     map[string]bool
	delivered map[string]int
	inHand    int // records whose outcome could not be recorded because their segment was salvaged
	errs      []error
}

func newBusy(t *testing.T, opts spool.Options) *busy {
	t.Helper()
	b := &busy{
		t: t, s: open(t, opts), dir: opts.Dir, quit: make(chan struct{}),
		acked: map[string]bool{}, maybe: map[string]bool{}, delivered: map[string]int{},
	}
	b.changed = sync.NewCond(&b.mu)
	for c := range 4 {
		b.wg.Go(func() {
			for i := c; b.goesOn(); i += 4 {
				b.append(kib(i, 2))
			}
		})
	}
	b.wg.Go(func() {
		for b.goesOn() {
			b.deliver()
		}
	})
	return b
}

func (b *busy) goesOn() bool {
	select {
	case <-b.quit:
		return false
	default:
		return true
	}
}

func (b *busy) append(r spool.Record) {
	err := b.s.Append(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		b.acked[r.ID] = true
		b.changed.Signal()
	case errors.Is(err, spool.ErrMaybeStored):
		b.maybe[r.ID] = true
	default:
		b.errs = append(b.errs, err)
	}
}

// deliver takes over one batch, if there is any.
func (b *busy) deliver() int {
	entries, err := b.s.Read(50, 1<<20)
	salvaged := b.s.Stats().Quarantined
	if err == nil {
		err = b.s.Settle(settlements(entries, spool.Delivered)...)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		b.delivered[e.ID]++
	}
	if b.s.Stats().Quarantined > salvaged {
		b.inHand += len(entries)
	}
	if err != nil {
		b.errs = append(b.errs, err)
	}
	return len(entries)
}

// wait waits until some more records were acknowledged: more than a segment takes.
func (b *busy) wait() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for end := len(b.acked) + 150; len(b.acked) < end; {
		b.changed.Wait()
	}
}

// sabotage does something to each segment.
func (b *busy) sabotage(fn func(path string) error) {
	for _, path := range segmentFiles(b.t, b.dir) {
		if fi, err := os.Stat(path); err != nil || fi.IsDir() || strings.HasPrefix(filepath.Base(path), ".") {
			continue
		}
		if err := fn(path); err != nil && !errors.Is(err, os.ErrNotExist) { // it may just be settled
			b.t.Error(err)
		}
	}
}

// stop ends the work and delivers what is left.
func (b *busy) stop() {
	close(b.quit)
	b.wg.Wait()
	b.drain()
}

func (b *busy) drain() {
	for tries := 0; b.deliver() > 0 || b.s.Stats().Pending > 0; tries++ {
		if tries == 1000 {
			b.t.Errorf("the reader makes no progress: %v, %+v", b.errs[len(b.errs)-1], b.s.Stats())
			return
		}
	}
}

// check compares what was appended, what was delivered, and what is said to be lost.
func (b *busy) check() {
	st := b.s.Stats()
	lost := 0
	for id := range b.acked {
		if b.delivered[id] == 0 {
			lost++
		}
	}
	for id := range b.delivered {
		if !b.acked[id] && !b.maybe[id] {
			b.t.Errorf("%s was delivered, but not stored", id)
		}
	}
	b.t.Logf("%d acknowledged, %d maybe stored, %d delivered, %d unreadable, %d errors", len(b.acked), len(b.maybe), len(b.delivered), st.Settled[spool.Unreadable], len(b.errs))
	if unreadable := int(st.Settled[spool.Unreadable]); len(st.Bad) == 0 && (lost > unreadable || unreadable > lost+len(b.maybe)+b.inHand) {
		b.t.Errorf("%d acknowledged records are lost, %d maybe stored, %d are said to be unreadable", lost, len(b.maybe), unreadable)
	}
	if lost > len(b.acked)/2 {
		b.t.Errorf("%d of %d are lost", lost, len(b.acked))
	}
}
