package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// keyed and locked are records that may have twins.
func keyed(key string) spool.Record {
	return spool.Record{ID: key, Class: "c", At: time.Unix(1, 0), Key: key, Data: []byte("data")}
}

func locked(lock string, until time.Time) spool.Record {
	return spool.Record{ID: lock, Class: "c", At: time.Unix(1, 0), Lock: lock, LockUntil: until, Data: []byte("data")}
}

func hence(d time.Duration) time.Time { return time.Now().Add(d) }

// wantTwins fails unless a call of Append is refused with these errors.
func wantTwins(tb testing.TB, err error, want ...error) {
	tb.Helper()
	var twins *spool.TwinsError
	if !errors.As(err, &twins) {
		tb.Fatalf("got %v, want a TwinsError", err)
	}
	if !slices.Equal(twins.Errs, want) {
		tb.Fatalf("got %v, want %v", twins.Errs, want)
	}
	for _, w := range want {
		if w != nil && !errors.Is(err, w) {
			tb.Fatalf("%v is not %v", err, w)
		}
	}
	if !slices.Equal(twins.Unwrap(), slices.DeleteFunc(slices.Clone(want), func(e error) bool { return e == nil })) {
		tb.Fatalf("unwraps to %v", twins.Unwrap())
	}
}

func wantTwin(tb testing.TB, s *spool.Spool, key, lock string, want error) {
	tb.Helper()
	if err := s.Twin(key, lock); !errors.Is(err, want) {
		tb.Fatalf("Twin(%q, %q): %v, want %v", key, lock, err, want)
	}
}

func TestAppendRefusesTwins(t *testing.T) {
	k, l, none := spool.ErrKeyHeld, spool.ErrLockHeld, error(nil)
	hour := hence(time.Hour)
	both := locked("lock", hour)
	both.Key = "key"
	for name, c := range map[string]struct {
		there, more []spool.Record
		want        []error // nil: all are taken
	}{
		"key":                        {[]spool.Record{keyed("a")}, []spool.Record{keyed("b"), keyed("a")}, []error{none, k}},
		"other keys":                 {[]spool.Record{keyed("a")}, []spool.Record{keyed("b"), keyed("")}, nil},
		"lock":                       {[]spool.Record{locked("a", hour)}, []spool.Record{locked("a", hour)}, []error{l}},
		"lock, once it is over":      {[]spool.Record{locked("a", hour)}, []spool.Record{locked("a", time.Unix(1, 0))}, nil},
		"lock that was over":         {[]spool.Record{locked("a", time.Unix(1, 0))}, []spool.Record{locked("a", hour)}, nil},
		"lock without an end":        {[]spool.Record{locked("a", time.Time{})}, []spool.Record{locked("a", hour)}, []error{l}},
		"key and lock are two":       {[]spool.Record{keyed("a")}, []spool.Record{locked("a", hour)}, nil},
		"the lock first":             {[]spool.Record{both}, []spool.Record{both}, []error{l}},
		"the lock if not the key":    {[]spool.Record{both}, []spool.Record{{Lock: "lock", LockUntil: hour, Key: "other"}}, []error{l}},
		"key in one call":            {nil, []spool.Record{keyed("a"), record(1), keyed("a")}, []error{none, none, k}},
		"lock in one call":           {nil, []spool.Record{locked("a", hour), locked("a", hour)}, []error{none, l}},
		"what is refused, not taken": {[]spool.Record{keyed("key")}, []spool.Record{both, locked("lock", hour)}, []error{k, none}},
		"neither":                    {records(0, 3), records(0, 3), nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, spool.Options{Dir: t.TempDir()})
			mustAppend(t, s, c.there...)
			err := s.Append(c.more...)
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantTwins(t, err, c.want...)
			if n := s.Stats().Pending; n != len(c.there) {
				t.Fatalf("%d pending, want %d", n, len(c.there))
			}
			var rest []spool.Record
			for i, err := range c.want {
				if err == nil {
					rest = append(rest, c.more[i])
				}
			}
			mustAppend(t, s, rest...)
		})
	}
}

func TestTwinTellsBefore(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir()})
	wantTwin(t, s, "a", "b", nil)
	mustAppend(t, s, keyed("a"), locked("b", hence(time.Hour)))
	wantTwin(t, s, "a", "b", spool.ErrLockHeld)
	wantTwin(t, s, "a", "", spool.ErrKeyHeld)
	wantTwin(t, s, "b", "a", nil)
	wantTwin(t, s, "", "", nil)
	closeSpool(t, s)
	wantTwin(t, s, "a", "b", spool.ErrClosed)
	if err := s.Append(keyed("a")); !errors.Is(err, spool.ErrClosed) {
		t.Fatal(err)
	}
}

func TestALockIsFreeOnceItIsOver(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir()})
	until := hence(50 * time.Millisecond)
	mustAppend(t, s, locked("a", until))
	for s.Twin("", "a") != nil {
		if time.Since(until) > 30*time.Second {
			t.Fatal("the lock is never free")
		}
		time.Sleep(time.Millisecond)
	}
	if time.Now().Before(until) {
		t.Fatal("the lock was free too early")
	}
	mustAppend(t, s, locked("a", hence(time.Hour)))
	wantTwin(t, s, "", "a", spool.ErrLockHeld)
}

// TestOneOfManyWins has many callers append the same at the same time.
func TestOneOfManyWins(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 64 << 10})
	const keys, callers = 30, 20
	var won [keys]atomic.Int64
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range keys {
				k := (i + c/4) % keys
				r := keyed(fmt.Sprint(k))
				if k%2 == 0 {
					r = locked(fmt.Sprint(k), hence(time.Hour))
				}
				r.Data = make([]byte, 3000)
				switch err := s.Append(r); {
				case err == nil:
					won[k].Add(1)
				case !errors.Is(err, spool.ErrKeyHeld) && !errors.Is(err, spool.ErrLockHeld):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for k := range won {
		if n := won[k].Load(); n != 1 {
			t.Errorf("%d: %d were taken", k, n)
		}
	}
}

func TestAClaimEndsWithItsRecord(t *testing.T) {
	for _, o := range []spool.Outcome{spool.Kept, spool.Delivered, spool.AlreadyThere, spool.Superseded, spool.Dead, spool.Removed} {
		for _, held := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v held=%v", o, held), func(t *testing.T) {
				s := open(t, spool.Options{Dir: t.TempDir()})
				mustAppend(t, s, keyed("a"), locked("b", hence(time.Hour)), keyed("stays"), record(1))
				entries := readExactly(t, s, 4)
				if held { // below the watermark
					give(t, s, spool.Kept, entries[:3]...)
					give(t, s, spool.Delivered, entries[3])
					wantTwin(t, s, "a", "", spool.ErrKeyHeld)
				}
				give(t, s, o, entries[0], entries[1])
				var key, lock error
				if o == spool.Kept {
					key, lock = spool.ErrKeyHeld, spool.ErrLockHeld
				}
				wantTwin(t, s, "a", "", key)
				wantTwin(t, s, "", "b", lock)
				wantTwin(t, s, "stays", "", spool.ErrKeyHeld)
				if o != spool.Kept {
					mustAppend(t, s, keyed("a"), locked("b", hence(time.Hour)))
					wantTwin(t, s, "a", "", spool.ErrKeyHeld)
				}
			})
		}
	}
}

func readExactly(tb testing.TB, s *spool.Spool, want int) []spool.Entry {
	tb.Helper()
	entries, err := s.Read(1<<20, 1<<30)
	if err != nil || len(entries) != want {
		tb.Fatalf("read %d, %v; want %d", len(entries), err, want)
	}
	return entries
}

func give(tb testing.TB, s *spool.Spool, o spool.Outcome, entries ...spool.Entry) {
	tb.Helper()
	if err := s.Settle(settlements(entries, o)...); err != nil {
		tb.Fatal(err)
	}
}

// claiming leaves a segment in which every state of a record claims something: those that
// are pending and held have keys that begin with "yes", the others with "no".
func claiming(tb testing.TB, s *spool.Spool) {
	tb.Helper()
	hour := hence(time.Hour)
	mustAppend(tb, s, keyed("no: delivered"), keyed("yes: kept"), keyed("no: dead"), keyed("yes: not mentioned"), locked("no: removed", hour), keyed("no: too"))
	entries := readExactly(tb, s, 6)
	batch := settlements(entries, spool.Delivered)
	batch[1].Outcome, batch[2].Outcome, batch[4].Outcome = spool.Kept, spool.Dead, spool.Removed
	if err := s.Settle(append(batch[:3:3], batch[4:]...)...); err != nil {
		tb.Fatal(err)
	}
	mustAppend(tb, s, record(1), keyed("yes: pending"), locked("yes: locked", hour), locked("yes: without end", time.Time{}))
}

func wantClaims(tb testing.TB, s *spool.Spool) {
	tb.Helper()
	for _, key := range []string{"yes: kept", "yes: not mentioned", "yes: pending"} {
		wantTwin(tb, s, key, "", spool.ErrKeyHeld)
	}
	for _, lock := range []string{"yes: locked", "yes: without end"} {
		wantTwin(tb, s, "", lock, spool.ErrLockHeld)
	}
	for _, key := range []string{"no: delivered", "no: dead", "no: too"} {
		wantTwin(tb, s, key, "", nil)
	}
	wantTwin(tb, s, "", "no: removed", nil)
}

func wantNoClaims(tb testing.TB, s *spool.Spool) {
	tb.Helper()
	for _, key := range []string{"yes: kept", "yes: not mentioned", "yes: pending"} {
		wantTwin(tb, s, key, "", nil)
	}
	for _, lock := range []string{"yes: locked", "yes: without end"} {
		wantTwin(tb, s, "", lock, nil)
	}
	if s.Claiming() != 0 {
		tb.Errorf("%d segments are said to have claims", s.Claiming())
	}
}

func TestClaimsAreAdopted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	claiming(t, s)
	wantClaims(t, s)
	for range 2 {
		closeSpool(t, s)
		s = open(t, spool.Options{Dir: dir})
		wantNoClaims(t, s)
		mustAdopt(t, s, 6)
		wantClaims(t, s)
	}
	wantTwins(t, s.Append(keyed("yes: kept"), keyed("new")), spool.ErrKeyHeld, nil)
	drain(t, s)
	wantNoClaims(t, s)
}

func TestClaimsAreInABackup(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir()})
	claiming(t, s)
	dir := filepath.Join(t.TempDir(), "backup")
	if err := s.Backup(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	b := open(t, spool.Options{Dir: dir, AdoptOnly: true})
	mustAdopt(t, b, 6)
	wantClaims(t, b)
}

// TestClaimsSurviveShrinking settles so much else that the segment is written anew.
func TestClaimsSurviveShrinking(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	claiming(t, s)
	large := keyed("large")
	large.Data = make([]byte, 3<<20)
	mustAppend(t, s, large)
	before, err := os.Stat(segmentFiles(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	entries := readExactly(t, s, 7)
	markOf(t, s) // the segment takes no more
	give(t, s, spool.Delivered, entries[6])
	if after, err := os.Stat(segmentFiles(t, dir)[0]); err != nil || after.Size() > before.Size()/2 {
		t.Fatalf("%v: from %d to %d bytes", err, before.Size(), after.Size())
	}
	wantClaims(t, s)
	wantTwin(t, s, "large", "", nil)
	closeSpool(t, s)
	s = open(t, spool.Options{Dir: dir})
	mustAdopt(t, s, 6)
	wantClaims(t, s)
}

// TestClaimsGoWithTheirSegment has somebody remove the file.
func TestClaimsGoWithTheirSegment(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	claiming(t, s)
	closeSpool(t, s)
	s = open(t, spool.Options{Dir: dir})
	mustAdopt(t, s, 6)
	if err := os.Remove(segmentFiles(t, dir)[0]); err != nil {
		t.Fatal(err)
	}
	if entries, err := s.Read(10, 1<<20); err != nil || len(entries) > 0 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	wantNoClaims(t, s)
	mustAppend(t, s, keyed("yes: kept"))
}

// TestAFailedAppendGivesUpItsClaims comes with no room on the disk.
func TestAFailedAppendGivesUpItsClaims(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir, MaxBytes: 1})
	for range 2 {
		if err := s.Append(keyed("a"), locked("b", hence(time.Hour))); !errors.Is(err, spool.ErrFull) {
			t.Fatal(err)
		}
		wantTwin(t, s, "a", "", nil)
		wantTwin(t, s, "", "b", nil)
	}
	if s.Claiming() != 0 {
		t.Errorf("%d segments are said to have claims", s.Claiming())
	}
}

// TestADamagedClaimIsNone flips bytes of the bucket's values, of its page, and of its name.
func TestADamagedClaimIsNone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	mustAppend(t, s, keyed("a"), record(0))
	var many []spool.Record
	for i := range 2000 { // with pages of their own, and a branch
		many = append(many, keyed(fmt.Sprint("key ", i)))
	}
	mustAppend(t, s, many...)
	closeSpool(t, s)
	path := segmentFiles(t, dir)[0]
	file := readFile(t, path)
	at := layoutOf(file)
	leaf, branch := at.pages["twins"][0], at.pages["branch of twins"][0]
	value := at.leaf(leaf)[string(key(1))]
	page := func(id int) int { return id * at.size }
	for name, where := range map[string]int{
		"value": bytes.Index(file[page(leaf):], value) + page(leaf) + 8, "count": page(leaf) + 10, "kind": page(leaf) + 8,
		"place of a key": page(leaf) + 16 + 4, "branch": page(branch) + 16 + 8, "kind of the branch": page(branch) + 8,
	} {
		t.Run(name, func(t *testing.T) {
			damaged := copyDir(t, dir)
			b := bytes.Clone(file)
			b[where] ^= 0x55
			writeFile(t, segmentFiles(t, damaged)[0], b)
			reports, err := spool.Verify(damaged)
			if err != nil || len(reports) != 1 || len(reports[0].Problems) == 0 {
				t.Errorf("Verify: %+v, %v", reports, err)
			}
			s := unchecked(t, damaged)
			mustAdopt(t, s, 2002)
			_ = s.Twin("a", "") // whatever it is
			entries := readExactly(t, s, 2002)
			give(t, s, spool.Kept, entries[:100]...)
			mustAppend(t, s, keyed("new"))
			if st := s.Stats(); len(st.Bad) > 0 || st.Pending != 2003 || st.Settled[spool.Unreadable] > 0 {
				t.Errorf("%+v", st)
			}
			if err := s.Backup(context.Background(), filepath.Join(t.TempDir(), "backup")); err != nil {
				t.Error(err)
			}
			if got := drain(t, s); len(got) != 2003 {
				t.Errorf("drained %d", len(got))
			}
			if s.Claiming() != 0 {
				t.Errorf("%d segments are said to have claims", s.Claiming())
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// unchecked is open for a Spool whose files are not sound.
func unchecked(tb testing.TB, dir string) *spool.Spool {
	tb.Helper()
	s, err := spool.Open(spool.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// TestSalvageLosesClaims damages a segment that is in use.
func TestSalvageLosesClaims(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	claiming(t, s)
	closeSpool(t, s)
	s = open(t, spool.Options{Dir: dir})
	mustAdopt(t, s, 6)
	path := segmentFiles(t, dir)[0]
	writeFile(t, path, bytes.ReplaceAll(readFile(t, path), []byte("payload 1"), []byte("payload 2")))
	readExactly(t, s, 5)
	if st := s.Stats(); st.Quarantined != 1 || st.Pending != 5 {
		t.Fatalf("%+v", st)
	}
	wantNoClaims(t, s)
}

// TestARetriedDeadLetterMayHaveATwin: its key was free meanwhile.
func TestARetriedDeadLetterMayHaveATwin(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir()})
	mustAppend(t, s, keyed("a"))
	dead := readExactly(t, s, 1)
	give(t, s, spool.Dead, dead...)
	mustAppend(t, s, keyed("a"))
	if n, err := s.RetryDead(dead[0].Position); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	wantTwin(t, s, "a", "", spool.ErrKeyHeld)
	drain(t, s)
	wantNoClaims(t, s)
}
