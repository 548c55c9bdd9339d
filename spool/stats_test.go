package spool_test

import (
	"fmt"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

func TestStatsByClass(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir, SegmentBytes: 64 << 10})
	const classes, each = 4, 200
	for i := range classes * each {
		r := record(i)
		r.Class = fmt.Sprintf("class-%d", i%classes)
		mustAppend(t, s, r)
	}
	closeSpool(t, s) // the counts are read again
	s = open(t, spool.Options{Dir: dir})
	mustAdopt(t, s, classes*each)
	entries, err := s.Read(10, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(settlements(entries[1:], spool.Delivered)...); err != nil { // the first is held
		t.Fatal(err)
	}
	st := s.Stats()
	bytes := int64(0)
	for name, want := range map[string]int{"class-0": each - 2, "class-1": each - 3, "class-2": each - 2, "class-3": each - 2} {
		c := st.Classes[name]
		if c.Pending != want {
			t.Errorf("%s: %d pending, want %d", name, c.Pending, want)
		}
		bytes += c.Bytes
	}
	if bytes != st.PendingBytes || !st.Oldest.Equal(record(0).At) || !st.Classes["class-0"].Oldest.Equal(record(0).At) {
		t.Errorf("%d bytes by class; %+v", bytes, st)
	}
	drain(t, s)
	if st := s.Stats(); len(st.Classes) != 0 || st.PendingBytes != 0 || !st.Oldest.IsZero() {
		t.Errorf("after the drain: %+v", st)
	}
}

// TestManyClasses has more classes than a segment counts one by one.
func TestManyClasses(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir()})
	const classes = 300
	var rs []spool.Record
	for i := range 2 * classes {
		r := record(i)
		r.Class = fmt.Sprintf("class-%d", i%classes)
		rs = append(rs, r)
	}
	mustAppend(t, s, rs...)
	st := s.Stats()
	if n := len(st.Classes); n < 256 || n > 258 || st.Classes[""].Pending < 2*(classes-256) {
		t.Errorf("%d classes, %+v in the rest", n, st.Classes[""])
	}
	drain(t, s)
	if st := s.Stats(); len(st.Classes) != 0 {
		t.Errorf("left: %v", st.Classes)
	}
}
