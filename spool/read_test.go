package spool_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// of makes count records of a class, numbered from a number on.
func of(class string, from, count int) (rs []spool.Record) {
	for i := range count {
		rs = append(rs, spool.Record{ID: fmt.Sprintf("%s %d", class, from+i), Class: class, At: time.Unix(1, 0), Data: []byte("data")})
	}
	return rs
}

// replay reads and settles a flow until there is no more, and returns the ids.
func replay(tb testing.TB, s *spool.Spool, count int, flow string) (ids []string) {
	tb.Helper()
	for r := s.Reader(flow); ; {
		entries := readOn(tb, r, count)
		if len(entries) == 0 {
			return ids
		}
		ids = append(ids, idsOf(entries)...)
		give(tb, s, spool.Delivered, entries...)
	}
}

func readOn(tb testing.TB, r *spool.Reader, count int) []spool.Entry {
	tb.Helper()
	entries, err := r.Read(count, 1<<30)
	if err != nil {
		tb.Fatal(err)
	}
	return entries
}

func idsOf(entries []spool.Entry) (ids []string) {
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return ids
}

func wantInOrder(tb testing.TB, ids []string, class string, count int) {
	tb.Helper()
	if len(ids) != count {
		tb.Fatalf("%d of class %s, want %d", len(ids), class, count)
	}
	for i, id := range ids {
		if id != fmt.Sprintf("%s %d", class, i) {
			tb.Fatalf("%d of class %s is %s", i, class, id)
		}
	}
}

// TestFlowsDoNotWaitForEachOther has flows mixed in many segments, in an adopted share and
// in the Spool's own.
func TestFlowsDoNotWaitForEachOther(t *testing.T) {
	dir := t.TempDir()
	fill := func(s *spool.Spool, from int) {
		for i := from; i < from+30; i++ {
			mustAppend(t, s, slices.Concat(of("a", 100*i, 100), of("b", 50*i, 50), of("c", i, 1))...)
		}
	}
	s := open(t, spool.Options{Dir: dir, SegmentBytes: 64 << 10})
	fill(s, 0)
	closeSpool(t, s)
	s = open(t, spool.Options{Dir: dir, SegmentBytes: 64 << 10})
	mustAdopt(t, s, 30*151)
	fill(s, 30)
	if n := len(segmentFiles(t, dir)); n < 6 {
		t.Fatalf("%d segments, want several", n)
	}
	wantInOrder(t, replay(t, s, 70, "c"), "c", 60)
	wantInOrder(t, replay(t, s, 1000, "b"), "b", 3000)
	if ids := replay(t, s, 10, "none"); len(ids) > 0 {
		t.Fatalf("read %v", ids)
	}
	if st := s.Stats(); st.Pending != 6000 || st.Settled[spool.Unreadable] != 0 || st.Quarantined != 0 {
		t.Fatalf("%+v", st)
	}
	if n := s.PendingOf("a"); n != 6000 || s.PendingOf("b") != 0 {
		t.Errorf("%d pending of a: %v", n, s.Flows())
	}
	if h := s.Held(); h > 0 {
		t.Errorf("%d records are held, though all flows were settled in order", h)
	}
	wantInOrder(t, replay(t, s, 1000, "a"), "a", 6000)
}

// TestReaderReadsAhead settles what was read behind what is being read, and rewinds.
func TestReaderReadsAhead(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 64 << 10})
	for i := range 10 {
		mustAppend(t, s, slices.Concat(of("a", 300*i, 300), of("b", i, 1))...)
	}
	r := s.Reader("a")
	first, second := readOn(t, r, 700), readOn(t, r, 800)
	wantInOrder(t, append(idsOf(first), idsOf(second)...), "a", 1500)
	give(t, s, spool.Delivered, first[1:]...)
	wantInOrder(t, append(idsOf(append(first, second...)), idsOf(readOn(t, r, 1000))...), "a", 2500)
	r.Rewind()
	if got := idsOf(readOn(t, r, 2)); !slices.Equal(got, []string{"a 0", "a 700"}) {
		t.Errorf("after rewinding: %v", got)
	}
	if h := s.Held(); h != 1 {
		t.Errorf("%d held", h)
	}
	mustAppend(t, s, of("a", 3000, 1)...)
	for last := []string(nil); ; {
		entries := readOn(t, r, 1000)
		if len(entries) == 0 {
			if !slices.Equal(last, []string{"a 3000"}) {
				t.Errorf("the last are %v", last)
			}
			break
		}
		last = idsOf(entries[len(entries)-1:])
	}
}

// TestReaderSeesWhatIsAdoptedAfterARewind: adopted records come first.
func TestReaderSeesWhatIsAdoptedAfterARewind(t *testing.T) {
	dir := t.TempDir()
	other := open(t, spool.Options{Dir: dir})
	mustAppend(t, other, of("a", 0, 10)...)
	s := open(t, spool.Options{Dir: dir})
	mustAppend(t, s, of("a", 10, 10)...)
	r := s.Reader("a")
	readOn(t, r, 5)
	closeSpool(t, other)
	mustAdopt(t, s, 10)
	if got := idsOf(readOn(t, r, 20)); len(got) != 5 || got[0] != "a 15" {
		t.Errorf("before rewinding: %v", got)
	}
	r.Rewind()
	wantInOrder(t, idsOf(readOn(t, r, 20)), "a", 20)
}

// TestReaderBoundsSizes: records that do not fit any more come with the next call, those of
// the next segment do not overtake them.
func TestReaderBoundsSizes(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 64 << 10})
	for i := range 40 {
		rs := slices.Concat(of("a", i, 1), of("b", i, 1))
		rs[0].Data = make([]byte, 10_000+1000*(i%3))
		mustAppend(t, s, rs...)
	}
	var ids []string
	for r := s.Reader("a"); ; {
		entries, err := r.Read(1000, 25_000)
		if err != nil || len(entries) > 2 {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		if len(entries) == 0 {
			break
		}
		ids = append(ids, idsOf(entries)...)
	}
	wantInOrder(t, ids, "a", 40)
}

// TestReaderPassesOverWholeSegmentsUnread: what a segment counts tells that it need not be
// read.
func TestReaderPassesOverWholeSegmentsUnread(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 64 << 10})
	for i := range 10 {
		mustAppend(t, s, of("a", 500*i, 500)...)
	}
	mustAppend(t, s, of("b", 0, 1)...)
	if got := idsOf(readOn(t, s.Reader("b"), 10)); !slices.Equal(got, []string{"b 0"}) {
		t.Fatal(got)
	}
	if s.OpenFiles() != 1 {
		t.Errorf("%d segments were opened", s.OpenFiles())
	}
}

// TestFewFilesAreOpen reads many flows that begin in many segments.
func TestFewFilesAreOpen(t *testing.T) {
	const many = 2 * spool.MaxHeads
	s := open(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 64 << 10})
	for i := range many {
		mustAppend(t, s, append(of(fmt.Sprint("flow ", i), 0, 10), of("a", 500*i, 500)...)...)
	}
	readers := map[int]*spool.Reader{}
	for n := range 10 {
		for i := range many {
			if readers[i] == nil {
				readers[i] = s.Reader(fmt.Sprint("flow ", i))
			}
			if got := idsOf(readOn(t, readers[i], 1)); !slices.Equal(got, []string{fmt.Sprintf("flow %d %d", i, n)}) {
				t.Fatal(got)
			}
		}
	}
	if n := s.OpenFiles(); n > spool.MaxHeads+1 {
		t.Errorf("%d files are open", n)
	}
}

// TestMoreFlowsThanAreToldApart: those beyond wait for each other, and are settled one by
// one all the same.
func TestMoreFlowsThanAreToldApart(t *testing.T) {
	const count = spool.MaxFlows + 50
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	var want []string
	for n := range 3 {
		for i := range count {
			rs := of(fmt.Sprintf("flow %d\x00t", i), n, 1)
			mustAppend(t, s, rs...)
			if i >= spool.MaxFlows {
				want = append(want, rs[0].ID)
			}
		}
	}
	flows := s.Flows()
	if len(flows) != spool.MaxFlows+1 || flows[spool.OtherFlow] != 150 || s.PendingOf("flow 7") != 3+150 || s.PendingOf("flow 300") != 150 {
		t.Errorf("%v", flows)
	}
	others := readOn(t, s.Reader(spool.OtherFlow), 1000)
	if got := idsOf(others); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	give(t, s, spool.Delivered, others[50:60]...) // the fifty before are held
	wantInOrder(t, replay(t, s, 2, "flow 7"), "flow 7\x00t", 3)
	if got := replay(t, s, 1000, spool.OtherFlow); len(got) != 140 || got[49] != want[49] || got[50] != want[60] {
		t.Errorf("%d: %v", len(got), got)
	}
	closeSpool(t, s)
	s = open(t, spool.Options{Dir: dir})
	mustAdopt(t, s, 3*(spool.MaxFlows-1))
	if got := replay(t, s, 1000, "flow 0"); len(got) != 3 {
		t.Error(got)
	}
	if got := drain(t, s); len(got) != 3*(spool.MaxFlows-2) {
		t.Errorf("drained %d", len(got))
	}
}

// TestAFlowThatIsStoppedKeepsLittleSpace settles all of a segment but a few records of
// another flow.
func TestAFlowThatIsStoppedKeepsLittleSpace(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	for i := range 20 {
		rs := slices.Concat(of("a", i, 1), of("b", i, 1))
		rs[0].Data = make([]byte, 200_000)
		mustAppend(t, s, rs...)
	}
	markOf(t, s) // the segment takes no more
	before := usedBytes(t, dir)
	give(t, s, spool.Delivered, readOn(t, s.Reader("a"), 15)...)
	if now := usedBytes(t, dir); now < before/2 {
		t.Errorf("written anew, from %d to %d bytes, while the rest is about to be settled", before, now)
	}
	if n := len(replay(t, s, 15, "a")); n != 5 {
		t.Errorf("%d of a were left", n)
	}
	if now := usedBytes(t, dir); now > before/4 {
		t.Errorf("%d of %d bytes are still in use", now, before)
	}
	wantInOrder(t, replay(t, s, 7, "b"), "b", 20)
	if left := segmentFiles(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// usedBytes is the length of a SpoolDir's segments.
func usedBytes(tb testing.TB, dir string) (n int64) {
	tb.Helper()
	for _, path := range segmentFiles(tb, dir) {
		fi, err := os.Stat(path)
		if err != nil {
			tb.Fatal(err)
		}
		n += fi.Size()
	}
	return n
}

// TestAPageOfAListIsBounded lists records that together are far too many bytes.
func TestAPageOfAListIsBounded(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 5 << 20})
	const n = 30
	for i := range n {
		r := record(i)
		r.Data = make([]byte, 1<<20)
		mustAppend(t, s, r)
	}
	count := func(page func(at spool.Cursor) (items int, next spool.Cursor, err error)) (all int) {
		t.Helper()
		for at := spool.Cursor(""); ; {
			items, next, err := page(at)
			if err != nil || items > 9 {
				t.Fatalf("%d MiB in a page, %v", items, err)
			}
			all += items
			if at = next; at == "" {
				return all
			}
		}
	}
	if got := count(func(at spool.Cursor) (int, spool.Cursor, error) {
		entries, next, err := s.List(at, 1000)
		return len(entries), next, err
	}); got != n {
		t.Errorf("%d records, want %d", got, n)
	}
	for {
		entries, err := s.Read(n, 10<<20)
		if err == nil {
			err = s.Settle(settlements(entries, spool.Dead)...)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
	}
	if got := count(func(at spool.Cursor) (int, spool.Cursor, error) {
		letters, next, err := s.DeadLetters(at, 1000)
		return len(letters), next, err
	}); got != n {
		t.Errorf("%d dead letters, want %d", got, n)
	}
}
