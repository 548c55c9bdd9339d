//go:build amd64 || arm64

package spool_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/spool"
)

// hang is a disk that does not answer some system calls.
type hang struct {
	match func(sysCall) bool

	mu     sync.Mutex
	answer chan struct{} // closed when it answers again; nil while it does; guarded by mu
	asked  chan struct{} // gets one for each call that waits
}

// hangIn makes a disk hang under a directory when told to.
func hangIn(t *testing.T, sup *supervisor, dir string, match func(sysCall) bool) *hang {
	t.Helper()
	h := &hang{match: match, asked: make(chan struct{}, 100)}
	sup.over(t, dir, h.rule)
	t.Cleanup(h.end)
	return h
}

func isSync(c sysCall) bool { return c.nr == unix.SYS_FDATASYNC }

func (h *hang) rule(c sysCall) syscall.Errno {
	h.mu.Lock()
	answer := h.answer
	h.mu.Unlock()
	if answer != nil && h.match(c) {
		h.asked <- struct{}{}
		<-answer
	}
	return 0
}

func (h *hang) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = make(chan struct{})
}

func (h *hang) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.answer != nil {
		close(h.answer)
		h.answer = nil
	}
}

// hangTimeout is what a commit may take on a slow machine. The disk hangs until the test
// ends that, so a call that waits for it never returns.
const hangTimeout = 2 * time.Second

func openToHang(t *testing.T) (s *spool.Spool, dir string) {
	t.Helper()
	dir = t.TempDir()
	s, err := spool.Open(spool.Options{Dir: dir, SegmentBytes: 64 << 10, Timeout: hangTimeout, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// recovered waits until a disk that answers again is noticed.
func recovered(t *testing.T, s *spool.Spool) {
	t.Helper()
	eventually(t, func() bool { return !s.Stats().Stalled })
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

func TestHangingAppend(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	s, dir := openToHang(t)
	mustAppend(t, s, record(0))
	disk := hangIn(t, sup, dir, isSync)
	disk.begin()
	var wg sync.WaitGroup
	errs := make([]error, 8)
	first := record(1)
	first.Key = "key"
	wg.Go(func() { errs[0] = s.Append(first) })
	<-disk.asked
	wantTwin(t, s, "key", "", spool.ErrKeyHeld)
	for i := range errs[1:] { // these wait for the first
		wg.Go(func() { errs[1+i] = s.Append(record(2 + i)) })
	}
	wg.Wait()
	maybe := 0
	for i, err := range errs {
		if !errors.Is(err, spool.ErrStalled) {
			t.Errorf("Append %d: %v", i, err)
		}
		if errors.Is(err, spool.ErrMaybeStored) {
			maybe++
		}
	}
	if !errors.Is(errs[0], spool.ErrMaybeStored) || maybe != 1 {
		t.Errorf("%v: want the first to be maybe stored, no other", errs)
	}
	if err := s.Append(record(100)); !errors.Is(err, spool.ErrStalled) || errors.Is(err, spool.ErrMaybeStored) {
		t.Errorf("Append to a stalled Spool: %v", err)
	}
	if st := s.Stats(); !st.Stalled || st.Pending != 1 {
		t.Errorf("%+v", st)
	}
	wantTwin(t, s, "key", "", nil) // nobody can tell
	disk.end()
	recovered(t, s)
	wantTwin(t, s, "key", "", spool.ErrKeyHeld) // it was stored after all
	mustAppend(t, s, record(2))
	wantIDs(t, drain(t, s), 3)
	checkBooks(t, s)
	closeSpool(t, s)
}

// TestHangingSettle settles in a segment that takes no records any more: Append goes on.
func TestHangingSettle(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	s, dir := openToHang(t)
	big := record(0)
	big.Data = make([]byte, 100<<10)
	mustAppend(t, s, big) // fills a segment
	first := segmentFiles(t, dir)[0]
	mustAppend(t, s, record(1))
	entries, err := s.Read(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	batch := settlements(entries, spool.Delivered)
	disk := hangIn(t, sup, dir, func(c sysCall) bool { return isSync(c) && c.path == first })
	disk.begin()
	if err := s.Settle(batch...); !errors.Is(err, spool.ErrStalled) {
		t.Errorf("Settle: %v", err)
	}
	_, readErr := s.Read(1, 1)
	_, adoptErr := s.Adopt()
	_, _, listErr := s.List("", 1)
	_, verifyErr := s.Verify()
	for what, err := range map[string]error{
		"Settle": s.Settle(batch...), "Read": readErr, "Adopt": adoptErr, "List": listErr, "Verify": verifyErr,
	} {
		if !errors.Is(err, spool.ErrStalled) {
			t.Errorf("%s while a Settle hangs: %v", what, err)
		}
	}
	for i := range 100 { // more than a segment takes
		r := record(2 + i)
		r.Data = make([]byte, 2<<10)
		mustAppend(t, s, r)
	}
	if st := s.Stats(); !st.Stalled || st.Pending != 102 {
		t.Errorf("%+v", st)
	}
	disk.end()
	recovered(t, s)
	if err := s.Settle(batch...); err != nil {
		t.Error(err)
	}
	if ids := drain(t, s); len(ids) != 101 || ids[0] != "id-1" || ids[100] != "id-101" {
		t.Errorf("%d records, from %s to %s", len(ids), ids[0], ids[len(ids)-1])
	}
	checkBooks(t, s)
	closeSpool(t, s)
}

// TestHangingSettleWhereRecordsAreAppended settles in the segment that takes records:
// Append cannot go on, and does not know what will become of its record.
func TestHangingSettleWhereRecordsAreAppended(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	s, dir := openToHang(t)
	mustAppend(t, s, records(0, 10)...)
	entries, err := s.Read(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	disk := hangIn(t, sup, dir, isSync)
	disk.begin()
	if err := s.Settle(settlements(entries, spool.Delivered)...); !errors.Is(err, spool.ErrStalled) {
		t.Errorf("Settle: %v", err)
	}
	if err := s.Append(record(10)); !errors.Is(err, spool.ErrMaybeStored) {
		t.Errorf("Append: %v", err)
	}
	if err := s.Append(record(11)); !errors.Is(err, spool.ErrStalled) || errors.Is(err, spool.ErrMaybeStored) {
		t.Errorf("Append to a stalled Spool: %v", err)
	}
	disk.end()
	recovered(t, s)
	mustAppend(t, s, record(11))
	if ids := drain(t, s); len(ids) != 11 || ids[0] != "id-1" || ids[10] != "id-11" {
		t.Errorf("left: %v", ids)
	}
	checkBooks(t, s)
	closeSpool(t, s)
}

// TestCloseDoesNotWaitForAHangingDisk looks at a copy afterwards, which is not locked:
// what a Spool leaves that was closed while the disk hung is adopted once its process
// has ended.
func TestCloseDoesNotWaitForAHangingDisk(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	for name, tc := range map[string]struct {
		call func(*spool.Spool, []spool.Entry) error
		left int
	}{
		"Append": {func(s *spool.Spool, _ []spool.Entry) error { return s.Append(record(10)) }, 11},
		"Settle": {func(s *spool.Spool, entries []spool.Entry) error {
			return s.Settle(settlements(entries, spool.Delivered)...)
		}, 9},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := openToHang(t)
			mustAppend(t, s, records(0, 10)...)
			entries, err := s.Read(1, 1)
			if err != nil {
				t.Fatal(err)
			}
			disk := hangIn(t, sup, dir, isSync)
			disk.begin()
			if err := tc.call(s, entries); !errors.Is(err, spool.ErrStalled) {
				t.Error(err)
			}
			if err := s.Close(); !errors.Is(err, spool.ErrStalled) {
				t.Errorf("Close: %v", err)
			}
			next := open(t, spool.Options{Dir: dir, AdoptOnly: true})
			mustAdopt(t, next, 0) // it still lives
			disk.end()
			recovered(t, s)
			copied := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			after := open(t, spool.Options{Dir: copied, AdoptOnly: true})
			mustAdopt(t, after, tc.left)
			drain(t, after)
		})
	}
}
