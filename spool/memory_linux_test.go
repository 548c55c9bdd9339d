package spool_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/spool"
)

// limitMemory lets the address space of this process grow by so many bytes. It returns
// what ends that.
func limitMemory(t *testing.T, more uint64) (end func()) {
	t.Helper()
	var pages uint64
	b, err := os.ReadFile("/proc/self/statm")
	if err == nil {
		_, err = fmt.Sscan(string(b), &pages)
	}
	var before unix.Rlimit
	if err == nil {
		err = unix.Getrlimit(unix.RLIMIT_AS, &before)
	}
	if err != nil {
		t.Fatal(err)
	}
	set := func(to unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_AS, &to); err != nil {
			t.Fatal(err)
		}
	}
	set(unix.Rlimit{Cur: pages*uint64(os.Getpagesize()) + more, Max: before.Max})
	return func() { set(before) }
}

// TestNoMemoryForTheMap lets there be no address space for the memory map of a new
// segment. TestEveryDiskErrorInTurn does that to one in use, which bbolt makes useless
// for good.
func TestNoMemoryForTheMap(t *testing.T) {
	if !isolated(t) {
		return
	}
	const segmentBytes = 512 << 20 // and the map is twice that
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir, SegmentBytes: segmentBytes})
	end := limitMemory(t, segmentBytes) // Go needs some of it
	for range 3 {
		if err := s.Append(record(0)); !errors.Is(err, unix.ENOMEM) || errors.Is(err, spool.ErrMaybeStored) {
			t.Errorf("Append: %v", err)
		}
	}
	end()
	for i := range 10 {
		mustAppend(t, s, record(i))
	}
	closeSpool(t, s)

	s = open(t, spool.Options{Dir: dir, SegmentBytes: segmentBytes})
	end = limitMemory(t, segmentBytes)
	mustAdopt(t, s, 0)
	if st := s.Stats(); len(st.Bad) != 1 {
		t.Errorf("%+v", st)
	}
	end()
	mustAdopt(t, s, 10)
	wantIDs(t, drain(t, s), 10)
	if st := s.Stats(); len(st.Bad) > 0 || st.Quarantined > 0 {
		t.Errorf("%+v", st)
	}
}
