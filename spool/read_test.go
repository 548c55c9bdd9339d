package spool_test

import (
	"fmt"
	"slices"
	"strings"
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

func isClass(class string) func(string) bool { return func(c string) bool { return c == class } }

// replay reads and settles what is not skipped until there is no more, and returns the ids.
func replay(tb testing.TB, s *spool.Spool, count int, skip func(string) bool) (ids []string) {
	tb.Helper()
	for {
		entries, err := s.Read(count, 1<<20, skip)
		if err != nil {
			tb.Fatal(err)
		}
		if len(entries) == 0 {
			return ids
		}
		for _, e := range entries {
			ids = append(ids, e.ID)
		}
		give(tb, s, spool.Delivered, entries...)
	}
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

// TestReadSkipsClasses has classes mixed in many segments, in an adopted share and in the
// Spool's own.
func TestReadSkipsClasses(t *testing.T) {
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
	wantInOrder(t, replay(t, s, 70, func(class string) bool { return class != "c" }), "c", 60)
	wantInOrder(t, replay(t, s, 1000, isClass("a")), "b", 3000)
	if ids := replay(t, s, 10, isClass("a")); len(ids) > 0 {
		t.Fatalf("read %v", ids)
	}
	if st := s.Stats(); st.Pending != 6000 || st.Settled[spool.Unreadable] != 0 || st.Quarantined != 0 {
		t.Fatalf("%+v", st)
	}
	wantInOrder(t, replay(t, s, 1000, isClass("b")), "a", 6000)
}

// TestReadPassesOverWholeSegmentsUnread: what a segment counts tells that it need not be
// read.
func TestReadPassesOverWholeSegmentsUnread(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 64 << 10})
	for i := range 10 {
		mustAppend(t, s, of("a", 500*i, 500)...)
	}
	mustAppend(t, s, of("b", 0, 1)...)
	asked := 0
	entries, err := s.Read(10, 1<<20, func(class string) bool {
		asked++
		return class == "a"
	})
	if err != nil || len(entries) != 1 || entries[0].Class != "b" {
		t.Fatalf("%v, %v", entries, err)
	}
	if asked != 2 {
		t.Errorf("asked %d times about 2 classes", asked)
	}
	if s.OpenFiles() != 1 {
		t.Errorf("%d segments were opened", s.OpenFiles())
	}
}

// TestReadReachesSoFar has one record behind so many that are skipped.
func TestReadReachesSoFar(t *testing.T) {
	const extra = 3
	s := open(t, spool.Options{Dir: t.TempDir()})
	mustAppend(t, s, of("b", 0, 1)...)
	mustAppend(t, s, of("a", 0, spool.MaxPassed)...)
	mustAppend(t, s, of("b", 1, 1)...)
	mustAppend(t, s, of("a", spool.MaxPassed, extra)...)
	mustAppend(t, s, of("b", 2, 1)...)
	wantInOrder(t, replay(t, s, 1, isClass("a")), "b", 2) // the third is out of reach
	if n := s.Stats().Pending; n != spool.MaxPassed+extra+1 {
		t.Fatalf("%d pending", n)
	}
	entries, err := s.Read(extra, 1<<20, nil) // held ones come first
	if err != nil || len(entries) != extra || entries[0].ID != "a 0" {
		t.Fatalf("%d, %v", len(entries), err)
	}
	give(t, s, spool.Delivered, entries...)
	if entries = readExactlySkipping(t, s, 1, isClass("a")); entries[0].ID != "b 2" {
		t.Fatalf("read %s", entries[0].ID)
	}
	give(t, s, spool.Delivered, entries...)
	if got := drain(t, s); len(got) != spool.MaxPassed || got[0] != fmt.Sprint("a ", extra) {
		t.Fatalf("drained %d", len(got))
	}
}

func readExactlySkipping(tb testing.TB, s *spool.Spool, want int, skip func(string) bool) []spool.Entry {
	tb.Helper()
	entries, err := s.Read(1<<20, 1<<30, skip)
	if err != nil || len(entries) != want {
		tb.Fatalf("read %d, %v; want %d", len(entries), err, want)
	}
	return entries
}

// TestReadStopsInOrder: what is out of reach in one segment is not overtaken from the next.
func TestReadStopsInOrder(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 1 << 20})
	mustAppend(t, s, of("a", 0, spool.MaxPassed+1)...)
	mustAppend(t, s, slices.Concat(of("b", 0, 1), of("large", 0, 1))...)
	big := of("large", 1, 1)
	big[0].Data = make([]byte, 1<<20)
	mustAppend(t, s, big...)
	mustAppend(t, s, of("b", 1, 1)...)
	if s.OpenFiles() == 0 || s.Stats().Pending != spool.MaxPassed+5 {
		t.Fatalf("%+v", s.Stats())
	}
	readExactlySkipping(t, s, 0, func(class string) bool { return class != "b" })
	wantInOrder(t, replay(t, s, 10, func(class string) bool { return class == "large" })[spool.MaxPassed+1:], "b", 2)
}

// TestReadSkipsWithMoreClassesThanAreCounted: the rest is counted as one, together with the
// class without a name.
func TestReadSkipsWithMoreClassesThanAreCounted(t *testing.T) {
	const classes = spool.MaxClasses + 50
	s := open(t, spool.Options{Dir: t.TempDir()})
	for i := range classes {
		mustAppend(t, s, of(fmt.Sprint("class ", i), 0, 3)...)
	}
	mustAppend(t, s, of("", 0, 3)...)
	readExactlySkipping(t, s, 0, func(string) bool { return true })
	last := fmt.Sprint("class ", classes-1)
	readExactlySkipping(t, s, 3, func(class string) bool { return class != last })
	asked := map[string]int{}
	entries := readExactlySkipping(t, s, 3+3, func(class string) bool {
		asked[class]++
		return class != last && class != ""
	})
	for i, e := range entries {
		want := last
		if i >= 3 {
			want = ""
		}
		if e.Class != want || e.ID != fmt.Sprintf("%s %d", want, i%3) {
			t.Errorf("%d: %q of class %q", i, e.ID, e.Class)
		}
	}
	for class, n := range asked {
		if n != 1 {
			t.Errorf("asked %d times about %q", n, class)
		}
	}
	if len(asked) != classes+1 {
		t.Errorf("asked about %d classes", len(asked))
	}
	give(t, s, spool.Delivered, entries...)
	readExactlySkipping(t, s, 0, func(string) bool { return true })
	if got := drain(t, s); len(got) != 3*(classes-1) || !strings.HasPrefix(got[0], "class 0") {
		t.Errorf("drained %d", len(got))
	}
}
