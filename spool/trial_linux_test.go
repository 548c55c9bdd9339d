//go:build amd64 || arm64

package spool_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/spool"
)

// place is where a record may be: a set.
type place uint8

const (
	nowhere place = 1 << iota
	amongPending
	amongDead
)

// trial is the work on one Spool under one fault, and what its answers mean.
type trial struct {
	t     *testing.T
	sup   *supervisor
	fault *fault
	disk  *platter
	dir   string
	s     *spool.Spool
	next  int
	may   map[string]place // where each record may be, if all answers were true
	errs  []error

	appending atomic.Bool
	mu        sync.Mutex
	distrust  map[inode]bool // files whose fsync failed; guarded by mu
}

func newTrial(t *testing.T, sup *supervisor, f *fault) *trial {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "spool")
	return &trial{t: t, sup: sup, fault: f, disk: newPlatter(dir), dir: dir, may: map[string]place{}, distrust: map[inode]bool{}}
}

func (tr *trial) options(dir string) spool.Options {
	return spool.Options{Dir: dir, SegmentBytes: 64 << 10, Logger: slog.New(slog.DiscardHandler)}
}

// rule lets the fault be seen by the disk, and sees that a file whose fsync failed takes
// no more records.
func (tr *trial) rule(c sysCall) syscall.Errno {
	errno := tr.fault.rule(c)
	tr.disk.see(c, errno != 0)
	if sync := c.nr == unix.SYS_FDATASYNC && errno != 0; !sync && c.nr != unix.SYS_PWRITE64 {
		return errno
	}
	id, _, err := statInode(c.file())
	if err != nil {
		tr.t.Error(err)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if c.nr == unix.SYS_FDATASYNC {
		tr.distrust[id] = true
	} else if tr.distrust[id] && tr.appending.Load() {
		tr.t.Errorf("%s takes records after its fsync failed", c.path)
	}
	return errno
}

// run does the work, with or without the part that is about large records.
func (tr *trial) run(large bool) {
	tr.t.Helper()
	tr.sup.over(tr.t, tr.dir, tr.rule)
	defer func() {
		if _, hits := tr.fault.counts(); tr.t.Failed() && hits > 0 {
			tr.t.Logf("%d faults, the last in %s; errors: %v", hits, tr.fault.hit, tr.errs)
		}
	}()
	tr.work(large)
	crash := func() {}
	if tr.fault.forever && tr.s != nil { // now; otherwise once the disk is well again
		crash = tr.crash()
	}
	tr.fault.end()
	switch _, hits := tr.fault.counts(); {
	case !tr.fault.forever && len(tr.errs) > hits:
		tr.t.Errorf("one fault made several calls fail: %v", errors.Join(tr.errs...))
	case tr.fault.errno == unix.EOPNOTSUPP && len(tr.errs) > 0:
		tr.t.Errorf("what the file system lacks made a call fail: %v", errors.Join(tr.errs...))
	}
	before := len(tr.errs)
	tr.open()
	_, err := tr.s.Adopt() // tries again what could not be read
	tr.failed(err)
	tr.append(1, 100)
	tr.append(3, 100)
	if len(tr.errs) > before {
		tr.t.Fatalf("once the disk is well again: %v", errors.Join(tr.errs[before:]...))
	}
	tr.checkBooks()
	if !tr.fault.forever {
		crash = tr.crash()
	}
	if err := tr.s.Close(); err != nil {
		tr.t.Errorf("Close: %v", err)
	}
	tr.check(tr.dir)
	crash()
}

// crash cuts the power, and returns what looks at the disk after that.
func (tr *trial) crash() func() {
	dir, may := tr.dir+"-crashed", maps.Clone(tr.may)
	tr.sup.set(tr.dir, nil) // to look at it
	defer tr.sup.set(tr.dir, tr.rule)
	tr.disk.after(tr.t, dir, tr.fault.from/2%2 == 0)
	return func() {
		tr.may = may
		tr.check(dir)
	}
}

func (tr *trial) open() {
	if tr.s != nil {
		return
	}
	s, err := spool.Open(tr.options(tr.dir))
	if !tr.failed(err) {
		tr.s = s
	}
}

// work does all that touches the disk.
func (tr *trial) work(large bool) {
	if tr.open(); tr.s == nil {
		return
	}
	for range 3 {
		tr.append(1, 3<<10)
	}
	tr.append(4, 3<<10) // the last of the segment
	tr.append(1, 3<<10)
	tr.settle(6, spool.Delivered, spool.Kept, spool.Dead, spool.Delivered, spool.Dead)
	tr.append(2, 3<<10)
	tr.retry()
	for range 2 {
		tr.settle(9, spool.Delivered) // and unlink
	}
	if !large {
		return
	}
	tr.append(6, 210<<10) // a segment that is worth compacting
	tr.settle(6, spool.Dead, spool.Delivered, spool.Delivered, spool.Delivered, spool.Delivered, spool.Delivered)
	tr.append(1, 100)
	tr.settle(1, spool.Kept)
}

func (tr *trial) failed(err error) bool {
	if err != nil {
		tr.errs = append(tr.errs, err)
	}
	return err != nil
}

func (tr *trial) append(n, size int) {
	var rs []spool.Record
	for range n {
		r := record(tr.next)
		r.Class = fmt.Sprintf("queue %d\x00t", tr.next%2)
		tr.next++
		r.Key = r.ID
		r.Data = []byte(strings.Repeat("x", size))
		rs = append(rs, r)
	}
	tr.appending.Store(true)
	err := tr.s.Append(rs...)
	tr.appending.Store(false)
	is := amongPending
	switch {
	case errors.Is(err, spool.ErrMaybeStored):
		is = amongPending | nowhere
	case err != nil:
		is = nowhere
	}
	tr.failed(err)
	if full := errors.Is(err, spool.ErrFull) && errors.Is(err, unix.ENOSPC); is == nowhere && tr.fault.errno == unix.ENOSPC && !full {
		tr.t.Errorf("Append on a full disk: %v", err)
	}
	for _, r := range rs {
		tr.may[r.ID] = is
		if twin := tr.s.Twin(r.Key, ""); errors.Is(twin, spool.ErrKeyHeld) != (err == nil) {
			tr.t.Errorf("Append: %v, and then Twin: %v", err, twin)
		}
	}
}

// settle reads up to n records and gives them outcomes, the last one to all that are
// left.
func (tr *trial) settle(n int, outcomes ...spool.Outcome) {
	entries, err := tr.s.Read(n, 10<<20)
	tr.failed(err)
	var batch []spool.Settlement
	for i, e := range entries {
		tr.found(e.ID, amongPending)
		batch = append(batch, spool.Settlement{Position: e.Position, Outcome: outcomes[min(i, len(outcomes)-1)], Attempts: e.Attempts})
	}
	err = tr.s.Settle(batch...)
	failed := tr.failed(err)
	for i, e := range entries {
		to := map[spool.Outcome]place{spool.Delivered: nowhere, spool.Dead: amongDead, spool.Kept: amongPending}[batch[i].Outcome]
		tr.moved(e.ID, to|tr.may[e.ID]&^amongPending, failed) // if it was settled before, that stands
	}
}

// retry makes all dead letters pending again.
func (tr *trial) retry() {
	letters, _, err := tr.s.DeadLetters("", 100)
	tr.failed(err)
	var at []spool.Position
	for _, d := range letters {
		tr.found(d.ID, amongDead)
		at = append(at, d.Position)
	}
	n, err := tr.s.RetryDead(at...)
	failed := tr.failed(err)
	if _, hits := tr.fault.counts(); n != len(at) && hits == 0 {
		tr.t.Errorf("retried %d of %d", n, len(at))
	}
	for _, d := range letters {
		tr.moved(d.ID, amongPending, failed)
	}
}

// found notes where a record is.
func (tr *trial) found(id string, at place) {
	if tr.may[id]&at == 0 {
		tr.t.Errorf("%s is found in %b, may be in %b", id, at, tr.may[id])
	}
}

// moved notes where a record has come, or may have come.
func (tr *trial) moved(id string, to place, maybe bool) {
	if maybe {
		to |= tr.may[id]
	}
	tr.may[id] = to
}

func (tr *trial) checkBooks() {
	st := tr.s.Stats()
	settled := int64(0)
	for outcome, n := range st.Settled {
		if outcome != spool.Kept {
			settled += n
		}
	}
	if in := st.Appended + st.Adopted + st.Retried; in != settled+int64(st.Pending) || len(st.Bad) > 0 || st.Settled[spool.Unreadable] != 0 {
		tr.t.Errorf("books: %d in, %d settled or pending: %+v", in, settled+int64(st.Pending), st)
	}
}

// check drains a SpoolDir that nobody has open.
func (tr *trial) check(dir string) {
	reports, err := spool.Verify(dir)
	if err != nil {
		tr.t.Errorf("%s: Verify: %v", dir, err)
	}
	for _, r := range reports {
		if len(r.Problems) > 0 {
			tr.t.Errorf("%s: Verify: %+v", dir, r)
		}
	}
	s, err := spool.Open(tr.options(dir))
	if err != nil {
		tr.t.Fatal(err)
	}
	if _, err := s.Adopt(); err != nil {
		tr.t.Errorf("%s: Adopt: %v", dir, err)
	}
	letters, _, err := s.DeadLetters("", 100)
	if err != nil {
		tr.t.Error(err)
	}
	seen := map[string]place{}
	see := func(id string, at place) {
		if seen[id] != 0 {
			tr.t.Errorf("%s is there twice", id)
		}
		tr.found(id, at)
		seen[id] = at
	}
	for _, d := range letters {
		see(d.ID, amongDead)
		if twin := s.Twin(d.ID, ""); twin != nil {
			tr.t.Errorf("a dead letter's key: %v", twin)
		}
	}
	for _, id := range drain(tr.t, s) {
		see(id, amongPending)
	}
	for id, may := range tr.may {
		if seen[id] == 0 && may&nowhere == 0 {
			tr.t.Errorf("%s: %s is lost, may be in %b", dir, id, may)
		}
	}
	if st := s.Stats(); len(st.Bad) > 0 {
		tr.t.Errorf("%+v", st)
	}
	if err := s.Close(); err != nil {
		tr.t.Errorf("Close: %v", err)
	}
}
