package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jobspool/jobspool/spool"
)

// isolatedTest names, in the environment, the test that a process is for alone; see
// isolate_linux_test.go.
const isolatedTest = "SPOOL_TEST_ISOLATED"

func TestMain(m *testing.M) {
	if os.Getenv(isolatedTest) != "" {
		os.Exit(m.Run())
	}
	if os.Getenv(childDir) != "" {
		runChild()
		return
	}
	goleak.VerifyTestMain(m)
}

func open(tb testing.TB, opts spool.Options) *spool.Spool {
	tb.Helper()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := spool.Open(opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeSpool(tb, s) })
	return s
}

func closeSpool(tb testing.TB, s *spool.Spool) {
	tb.Helper()
	checkBooks(tb, s)
	if n := s.Overrun(); n > 0 {
		tb.Errorf("a commit took %d bytes that were not reserved for it", n)
	}
	if err := s.Close(); err != nil {
		tb.Error(err)
	}
}

// checkBooks fails unless every record that came in is settled or pending, and the
// files say the same. What the spool cannot use (Stats.Bad) is not in the books.
func checkBooks(tb testing.TB, s *spool.Spool) {
	tb.Helper()
	st := s.Stats()
	settled := int64(0)
	for outcome, n := range st.Settled {
		if outcome != spool.Kept {
			settled += n
		}
	}
	if in, out := st.Appended+st.Adopted+st.Retried, settled+int64(st.Pending); in != out && len(st.Bad) == 0 {
		tb.Errorf("books: %d in, %d settled or pending: %+v", in, out, st)
	}
	pending, dead, err := verified(s)
	switch {
	case errors.Is(err, spool.ErrClosed):
	case err != nil:
		tb.Errorf("verify: %v", err)
	case pending != st.Pending || dead != st.DeadLetters:
		tb.Errorf("verify: %d pending and %d dead letters in the files, Stats: %+v", pending, dead, st)
	}
}

// verified returns what Verify counts, or an error with all that it finds wrong.
func verified(s *spool.Spool) (pending, dead int, err error) {
	reports, err := s.Verify()
	for _, r := range reports {
		settled := int64(0)
		for _, n := range r.Settled {
			settled += n
		}
		if r.Appended != settled+r.Pending {
			err = errors.Join(err, fmt.Errorf("%s/%s: %d appended, %d settled, %d pending", r.Owner, r.Segment, r.Appended, settled, r.Pending))
		}
		for _, problem := range r.Problems {
			err = errors.Join(err, fmt.Errorf("%s/%s: %w", r.Owner, r.Segment, problem))
		}
		pending += int(r.Pending)
		dead += int(r.Settled[spool.Dead])
	}
	return pending, dead, err
}

func record(i int) spool.Record {
	return spool.Record{
		ID: fmt.Sprintf("id-%d", i), Class: "default\x00email", Lock: "lock", At: time.Unix(int64(i+1), 5),
		LockUntil: time.Unix(int64(i+100), 7), Data: fmt.Appendf(nil, "payload %d", i),
	}
}

func records(from, to int) []spool.Record {
	var rs []spool.Record
	for i := from; i < to; i++ {
		rs = append(rs, record(i))
	}
	return rs
}

func mustAppend(tb testing.TB, s *spool.Spool, rs ...spool.Record) {
	tb.Helper()
	if err := s.Append(rs...); err != nil {
		tb.Fatal(err)
	}
}

func mustAdopt(tb testing.TB, s *spool.Spool, want int) {
	tb.Helper()
	n, err := s.Adopt()
	if err != nil {
		tb.Fatal(err)
	}
	if n != want {
		tb.Fatalf("adopted %d records, want %d", n, want)
	}
}

// drain reads and settles everything and returns the ids in order.
func drain(tb testing.TB, s *spool.Spool) []string {
	tb.Helper()
	var ids []string
	for {
		entries, err := s.Read(100, 1<<20)
		if err != nil {
			tb.Fatal(err)
		}
		if len(entries) == 0 {
			return ids
		}
		for _, e := range entries {
			ids = append(ids, e.ID)
		}
		if err := s.Settle(settlements(entries, spool.Delivered)...); err != nil {
			tb.Fatal(err)
		}
	}
}

func settlements(entries []spool.Entry, o spool.Outcome) []spool.Settlement {
	var out []spool.Settlement
	for _, e := range entries {
		out = append(out, spool.Settlement{Position: e.Position, Outcome: o, Attempts: e.Attempts, Reason: "because"})
	}
	return out
}

func wantIDs(tb testing.TB, got []string, n int) {
	tb.Helper()
	if len(got) != n {
		tb.Fatalf("got %d records, want %d", len(got), n)
	}
	for i, id := range got {
		if want := fmt.Sprintf("id-%d", i); id != want {
			tb.Fatalf("record %d is %s, want %s", i, id, want)
		}
	}
}

func TestRecordsComeBackWholeAndInOrder(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 256 << 10})
	for i := 0; i < 3000; i += 100 {
		mustAppend(t, s, records(i, i+100)...)
	}
	entries, err := s.Read(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := record(0)
	got := entries[0].Record
	if got.ID != want.ID || got.Class != want.Class || got.Lock != want.Lock || !got.At.Equal(want.At) ||
		!got.LockUntil.Equal(want.LockUntil) || string(got.Data) != string(want.Data) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	if st := s.Stats(); st.Pending != 3000 || !st.Oldest.Equal(want.At) {
		t.Fatalf("%+v", st)
	}
	wantIDs(t, drain(t, s), 3000)
}

func TestDrainedSpoolGivesTheDiskBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "spool")
	s := open(t, spool.Options{Dir: dir, SegmentBytes: 128 << 10})
	for i := 0; i < 5000; i += 500 {
		mustAppend(t, s, records(i, i+500)...)
	}
	if n := len(segmentFiles(t, dir)); n < 3 {
		t.Fatalf("%d segments, want several", n)
	}
	drain(t, s)
	if files := segmentFiles(t, dir); len(files) != 0 {
		t.Fatalf("left after the drain: %v", files)
	}
	mustAppend(t, s, records(0, 10)...) // a second outage
	wantIDs(t, drain(t, s), 10)
	closeSpool(t, s)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Fatalf("left after Close: %v, %v", left, err)
	}
}

func segmentFiles(tb testing.TB, dir string) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.seg"))
	if err != nil {
		tb.Fatal(err)
	}
	return files
}

func TestNextOwnerAdoptsWhatTheLastLeft(t *testing.T) {
	dir := t.TempDir()
	first := open(t, spool.Options{Dir: dir, Target: "a"})
	mustAppend(t, first, records(0, 10)...)
	second := open(t, spool.Options{Dir: dir, Target: "a"})
	mustAdopt(t, second, 0) // the first lives
	mustAppend(t, second, records(10, 20)...)
	closeSpool(t, first)
	foreign := open(t, spool.Options{Dir: dir, Target: "b"})
	mustAdopt(t, foreign, 0)
	if st := foreign.Stats(); st.Foreign != 2 {
		t.Fatalf("foreign owners: %d, want 2", st.Foreign)
	}
	mustAdopt(t, second, 10)
	wantIDs(t, drain(t, second), 20)
}

func TestSameTargetSaysWhoseRecordsAreAdopted(t *testing.T) {
	dir := t.TempDir()
	for _, target := range []string{"own", "same", "other", ""} {
		dead := open(t, spool.Options{Dir: dir, Target: target})
		mustAppend(t, dead, records(0, 5)...)
		closeSpool(t, dead)
	}
	asked := map[string]bool{}
	s := open(t, spool.Options{Dir: dir, Target: "own", SameTarget: func(target string) bool {
		asked[target] = true
		return target == "own" || target == "same"
	}})
	mustAdopt(t, s, 10)
	if st := s.Stats(); st.Foreign != 2 || len(asked) != 4 {
		t.Errorf("%d foreign, asked of %v", st.Foreign, asked)
	}
	drain(t, s)
	only := open(t, spool.Options{Dir: dir, Target: "own", SameTarget: func(target string) bool { return target == "other" }})
	mustAdopt(t, only, 5) // nothing is implied by Target
	drain(t, only)
}

func TestAShareCopiedWithoutItsLockIsAdopted(t *testing.T) {
	dir := t.TempDir()
	dead := open(t, spool.Options{Dir: dir})
	mustAppend(t, dead, records(0, 5)...)
	closeSpool(t, dead)
	locks, err := filepath.Glob(filepath.Join(dir, "*", "LOCK"))
	if err != nil || len(locks) != 1 {
		t.Fatalf("%v, %v", locks, err)
	}
	if err := os.Remove(locks[0]); err != nil {
		t.Fatal(err)
	}
	if owners, err := spool.Inspect(dir); err != nil || owners[0].Alive || owners[0].Pending != 5 {
		t.Fatalf("%+v, %v", owners, err)
	}
	s := open(t, spool.Options{Dir: dir})
	mustAdopt(t, s, 5)
	wantIDs(t, drain(t, s), 5)
}

func TestAShareWithoutItsIdentityIsKnownByItsSegments(t *testing.T) {
	dir := t.TempDir()
	dead := open(t, spool.Options{Dir: dir, Target: "a"})
	mustAppend(t, dead, records(0, 5)...)
	closeSpool(t, dead)
	ids, err := filepath.Glob(filepath.Join(dir, "*", "identity"))
	if err != nil || len(ids) != 1 {
		t.Fatalf("%v, %v", ids, err)
	}
	if err := os.WriteFile(ids[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := open(t, spool.Options{Dir: dir, Target: "b"})
	mustAdopt(t, other, 0)
	if err := os.Remove(ids[0]); err != nil {
		t.Fatal(err)
	}
	if owners, err := spool.Inspect(dir); err != nil || owners[0].Identity.Target != "a" || owners[0].Pending != 5 {
		t.Fatalf("%+v, %v", owners, err)
	}
	s := open(t, spool.Options{Dir: dir, Target: "a"})
	mustAdopt(t, s, 5)
	wantIDs(t, drain(t, s), 5)
}

func TestRacingAdoptersTakeEachRecordOnce(t *testing.T) {
	dir := t.TempDir()
	for round := range 20 {
		dead := open(t, spool.Options{Dir: dir})
		mustAppend(t, dead, records(0, 5)...)
		closeSpool(t, dead)
		var wg sync.WaitGroup
		taken := make([]int, 4)
		for i := range taken {
			s := open(t, spool.Options{Dir: dir, AdoptOnly: true})
			wg.Go(func() {
				n, err := s.Adopt()
				if err != nil {
					t.Error(err)
				}
				taken[i] = n
				drain(t, s)
				closeSpool(t, s)
			})
		}
		wg.Wait()
		if sum := taken[0] + taken[1] + taken[2] + taken[3]; sum != 5 {
			t.Fatalf("round %d: adopted %v", round, taken)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
}

// TestOwnersComeAndGoWhileOthersAdopt opens and closes spools while others look for
// dead owners all the time.
func TestOwnersComeAndGoWhileOthersAdopt(t *testing.T) {
	dir := t.TempDir()
	var openers, adopters sync.WaitGroup
	done := make(chan struct{})
	var all []*spool.Spool
	adopted := int64(0)
	for range 4 {
		s := open(t, spool.Options{Dir: dir, AdoptOnly: true})
		all = append(all, s)
		adopters.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := s.Adopt(); err != nil {
					t.Error(err)
				}
			}
		})
		openers.Go(func() {
			for range 50 {
				s, err := spool.Open(spool.Options{Dir: dir})
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Append(record(0)); err != nil {
					t.Error(err)
				}
				closeSpool(t, s)
			}
		})
	}
	openers.Wait()
	close(done)
	adopters.Wait()
	for _, s := range all {
		if _, err := s.Adopt(); err != nil {
			t.Error(err)
		}
		adopted += s.Stats().Adopted
	}
	if adopted != 4*50 {
		t.Errorf("%d records adopted, want %d", adopted, 4*50)
	}
}

func TestKeptRecordsComeBackAndDeadLettersStay(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	mustAppend(t, s, records(0, 6)...)
	entries, err := s.Read(6, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	outcomes := []spool.Outcome{spool.Delivered, spool.Kept, spool.Dead, spool.AlreadyThere} // 4 and 5: not mentioned
	var batch []spool.Settlement
	for i, o := range outcomes {
		batch = append(batch, spool.Settlement{Position: entries[i].Position, Outcome: o, Reason: "poison"})
	}
	if err := s.Settle(batch...); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(batch[0], batch[2]); err != nil { // twice changes nothing
		t.Fatal(err)
	}
	closeSpool(t, s)

	s = open(t, spool.Options{Dir: dir})
	mustAdopt(t, s, 3)
	if st := s.Stats(); st.DeadLetters != 1 {
		t.Fatalf("%+v", st)
	}
	entries, err = s.Read(10, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if entries[0].ID != "id-1" || entries[0].Attempts != 1 || entries[1].ID != "id-4" || entries[1].Attempts != 0 {
		t.Fatalf("%+v", entries)
	}
	drain(t, s)
	if n := len(segmentFiles(t, dir)); n != 1 {
		t.Fatalf("%d segments, want the one with the dead letter", n)
	}
}

func TestAdoptOnlyCreatesNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := spool.Open(spool.Options{Dir: filepath.Join(dir, "typo"), AdoptOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	s := open(t, spool.Options{Dir: dir, AdoptOnly: true})
	mustAdopt(t, s, 0)
	if err := s.Append(record(0)); !errors.Is(err, spool.ErrAdoptOnly) {
		t.Fatalf("Append: %v", err)
	}
	closeSpool(t, s)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("created %v", left)
	}
}

func TestOpenRefusesWhatItCannotUse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", file, filepath.Join(file, "below")} {
		if s, err := spool.Open(spool.Options{Dir: dir}); err == nil {
			t.Errorf("Open(%q) succeeded", dir)
			closeSpool(t, s)
		}
	}
}

func TestClosedSpoolSaysSo(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir()})
	closeSpool(t, s)
	closeSpool(t, s)
	_, readErr := s.Read(1, 1)
	_, adoptErr := s.Adopt()
	_, readerErr := s.Reader("").Read(1, 1)
	_, markErr := s.Mark()
	for call, err := range map[string]error{"Reader": readerErr, "Mark": markErr, "Append": s.Append(record(0)), "Read": readErr, "Adopt": adoptErr, "Settle": s.Settle(), "Twin": s.Twin("", "")} {
		if !errors.Is(err, spool.ErrClosed) {
			t.Errorf("%s: %v", call, err)
		}
	}
	s.Stats()
}

func markOf(tb testing.TB, s *spool.Spool) spool.Mark {
	tb.Helper()
	m, err := s.Mark()
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestMarkCountsOnlyWhatCameBefore(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir()})
	mustAppend(t, s, records(0, 10)...)
	mark := markOf(t, s)
	mustAppend(t, s, records(10, 20)...)
	if n := s.Before(mark); n != 10 {
		t.Fatalf("%d before the mark, want 10", n)
	}
	entries, err := s.Read(10, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(settlements(entries, spool.Delivered)...); err != nil {
		t.Fatal(err)
	}
	if n, all := s.Before(mark), s.Stats().Pending; n != 0 || all != 10 {
		t.Fatalf("%d before the mark, %d in all", n, all)
	}
	mark = markOf(t, s)
	if entries, err = s.Read(4, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(settlements(entries, spool.Kept)...); err != nil {
		t.Fatal(err)
	}
	if n := s.Before(mark); n != 10 {
		t.Fatalf("%d before the mark with 4 kept, want 10", n)
	}
}

// TestSettlingTwiceCountsOneAttempt settles again what was settled, as a caller does who
// could not learn of it: where Settle returned ErrStalled and its commit ended later.
func TestSettlingTwiceCountsOneAttempt(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir()})
	mustAppend(t, s, records(0, 3)...)
	for attempts := range 3 {
		entries, err := s.Read(2, 1<<20)
		if err != nil || len(entries) != 2 || entries[0].Attempts != attempts || entries[1].Attempts != attempts {
			t.Fatalf("%+v, %v: want 2 with %d attempts", entries, err, attempts)
		}
		for range 2 {
			give(t, s, spool.Kept, entries...)
		}
		if n := s.Stats().Settled[spool.Kept]; n != int64(2*(attempts+1)) {
			t.Errorf("%d were kept after %d attempts of 2", n, attempts+1)
		}
	}
	wantIDs(t, drain(t, s), 3)
}

func TestConcurrentAppendsAllArriveWhileBeingDrained(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 64 << 10})
	const callers, each = 16, 200
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				if err := s.Append(record(c*each + i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen := map[string]int{}
	for len(seen) < callers*each && !t.Failed() {
		for _, id := range drain(t, s) {
			seen[id]++
		}
	}
	wg.Wait()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
}

func TestInterruptedRemovalsAreFinished(t *testing.T) {
	dir := t.TempDir()
	swept := []string{"20261123T202838.123-1a2b3c4d", "20261123T202838.123-1a2b3c4e"}
	kept := []string{"lost+found", "20261123T202838.123-full", "20261123T202838.123-1a2b3c4f", "20261123T202838.123-1a2b3c50"}
	for _, name := range append(swept, kept...) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{swept[0] + "/LOCK", swept[0] + "/.identity", kept[2] + "/notes.txt", kept[3] + "/0000000000000001.seg"} {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustAdopt(t, open(t, spool.Options{Dir: dir, AdoptOnly: true}), 0) // too fresh: they may be just being made
	for _, name := range append(swept, kept...) {
		if err := os.Chtimes(filepath.Join(dir, name), time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := open(t, spool.Options{Dir: dir, AdoptOnly: true}).Adopt(); !errors.Is(err, spool.ErrDamaged) {
		t.Errorf("segments without an identity: %v", err)
	}
	if owners, err := spool.Inspect(dir); err != nil || len(owners) != 1 || len(owners[0].Bad) == 0 {
		t.Errorf("segments without an identity: %+v, %v", owners, err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != len(kept) {
		t.Fatalf("left %v, %v; want %v", left, err, kept)
	}
}

// TestAFileThatCannotBeRemovedIsNoErrorOfTheSettling removes a segment under an
// adopter, as a person might, so that the adopter cannot.
func TestAFileThatCannotBeRemovedIsNoErrorOfTheSettling(t *testing.T) {
	dir := t.TempDir()
	dead := open(t, spool.Options{Dir: dir})
	mustAppend(t, dead, records(0, 5)...)
	closeSpool(t, dead)
	s := open(t, spool.Options{Dir: dir})
	mustAdopt(t, s, 5)
	entries, err := s.Read(5, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(segmentFiles(t, dir)[0]); err != nil {
		t.Fatal(err)
	}
	batch := settlements(entries, spool.Delivered)
	for range 2 { // the second time its owner is gone
		if err := s.Settle(batch...); err != nil {
			t.Error(err)
		}
	}
	if st := s.Stats(); st.Settled[spool.Delivered] != 5 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}

// TestSmallRecordsBehindLargeOnes appends small records into the page of a large one: each
// such commit writes the large one again. What it takes must be reserved before it, and
// nothing that is in use may be prepared for use.
func TestSmallRecordsBehindLargeOnes(t *testing.T) {
	for _, large := range []int{100 << 10, 1<<20 - 1, 5 << 20} {
		s := open(t, spool.Options{Dir: t.TempDir(), MaxRecordBytes: 16 << 20})
		want := 0
		add := func(n, size int) {
			for range n {
				mustAppend(t, s, spool.Record{ID: strconv.Itoa(want), At: time.Now(), Data: bytes.Repeat([]byte{byte(want)}, size)})
				want++
			}
		}
		for _, larges := range []int{1, 2, 3, 4, 5} {
			add(9, 10)
			add(larges, large)
			add(12, 10)
		}
		if over := s.Overrun(); over > 0 {
			t.Errorf("large %d: %d bytes were used that nobody had reserved", large, over)
		}
		wantAll(t, s, want)
	}
}

func wantAll(t *testing.T, s *spool.Spool, want int) {
	t.Helper()
	got := 0
	for {
		entries, err := s.Read(50, 4<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		settlements := make([]spool.Settlement, len(entries))
		for i, e := range entries {
			if e.ID != strconv.Itoa(got) || e.Data[0] != byte(got) || e.Data[len(e.Data)-1] != byte(got) {
				t.Fatalf("record %d is %s", got, e.ID)
			}
			got++
			settlements[i] = spool.Settlement{Position: e.Position, Outcome: spool.Delivered}
		}
		if err := s.Settle(settlements...); err != nil {
			t.Fatal(err)
		}
	}
	if got != want {
		t.Errorf("%d records, want %d", got, want)
	}
}
