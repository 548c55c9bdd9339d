package spool_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/spool"
)

// kib is a record of about so many KiB.
func kib(i, size int) spool.Record {
	r := record(i)
	r.Data = []byte(strings.Repeat("x", size<<10))
	return r
}

// appendUntilFull appends records of some KiB and returns how many were taken.
func appendUntilFull(t *testing.T, s *spool.Spool, from, size int) (n int) {
	t.Helper()
	for ; n < 1<<14; n++ {
		if err := s.Append(kib(from+n, size)); errors.Is(err, spool.ErrFull) {
			if errors.Is(err, spool.ErrMaybeStored) {
				t.Error(err)
			}
			return n
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("never full")
	return 0
}

// TestFullDisk goes on with all but Append while another file takes the whole disk.
func TestFullDisk(t *testing.T) {
	if !isolatedMounts(t) {
		return
	}
	disk := smallDisk(t, 4)
	s := open(t, spool.Options{Dir: filepath.Join(disk, "spool"), SegmentBytes: 512 << 10, MinFreeBytes: -1})
	n := 0
	for ; n < 1000; n++ { // into the second segment
		mustAppend(t, s, kib(n, 1))
	}
	free := fill(t, disk)
	n += appendUntilFull(t, s, n, 1) // what was reserved is used
	var delivered []string
	kept := map[string]int{}
	for round := 0; ; round++ {
		entries, err := s.Read(100, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		batch := settlements(entries, spool.Delivered)
		for i, e := range entries {
			switch {
			case i%20 == 7:
				batch[i].Outcome = spool.Dead
			case i%20 == 11 && kept[e.ID] == 0:
				batch[i].Outcome = spool.Kept
				kept[e.ID]++
				continue
			}
			delivered = append(delivered, e.ID)
		}
		if err := s.Settle(batch...); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if round == 0 {
			if err := s.Append(kib(n, 1)); !errors.Is(err, spool.ErrFull) {
				t.Errorf("Append on a full disk: %v", err)
			}
		}
	}
	once := map[string]bool{}
	for _, id := range delivered {
		if once[id] {
			t.Errorf("%s came twice", id)
		}
		once[id] = true
	}
	if st := s.Stats(); len(once) != n || st.Pending != 0 || st.DeadLetters == 0 || len(kept) == 0 {
		t.Errorf("%d records of %d, %d kept, %+v", len(once), n, len(kept), st)
	}
	letters, _, err := s.DeadLetters("", 1000)
	if err != nil || len(letters) != s.Stats().DeadLetters {
		t.Errorf("%d dead letters, %v", len(letters), err)
	}
	free()
	mustAppend(t, s, record(0))
}

// TestFullDiskRefusesALargeSettlement settles more exceptions in one call than there are
// blocks for: nothing changes, and smaller calls work.
func TestFullDiskRefusesALargeSettlement(t *testing.T) {
	if !isolatedMounts(t) {
		return
	}
	disk := smallDisk(t, 4)
	s := open(t, spool.Options{Dir: filepath.Join(disk, "spool"), MinFreeBytes: -1})
	mustAppend(t, s, records(0, 2000)...)
	fill(t, disk)
	entries, err := s.Read(2000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	batch := settlements(entries, spool.Dead)
	for i := range batch {
		batch[i].Reason = strings.Repeat("because ", 100)
	}
	for range 2 {
		if err := s.Settle(batch...); !errors.Is(err, spool.ErrFull) {
			t.Errorf("Settle: %v", err)
		}
	}
	if st := s.Stats(); st.Pending != 2000 || st.DeadLetters != 0 {
		t.Errorf("%+v", st)
	}
	if err := s.Settle(batch[:10]...); err != nil {
		t.Error(err)
	}
	if ids := drain(t, s); len(ids) != 1990 || s.Stats().DeadLetters != 10 {
		t.Errorf("%d records, %+v", len(ids), s.Stats())
	}
}

// TestFullBeforeTheFirstRecord leaves nothing behind of what could not be made.
func TestFullBeforeTheFirstRecord(t *testing.T) {
	if !isolatedMounts(t) {
		return
	}
	disk := smallDisk(t, 2)
	dir := filepath.Join(disk, "spool")
	left := open(t, spool.Options{Dir: dir, MinFreeBytes: -1})
	mustAppend(t, left, records(0, 10)...)
	closeSpool(t, left)
	s := open(t, spool.Options{Dir: dir, MinFreeBytes: -1})
	before := listing(t, dir)
	free := fill(t, disk)
	for range 3 {
		if err := s.Append(record(0)); !errors.Is(err, spool.ErrFull) {
			t.Errorf("Append: %v", err)
		}
		if other, err := spool.Open(spool.Options{Dir: dir, MinFreeBytes: -1}); !errors.Is(err, spool.ErrFull) || !errors.Is(err, unix.ENOSPC) {
			t.Errorf("Open: %v", err)
			if err == nil {
				closeSpool(t, other)
			}
		}
	}
	if names(before) != names(listing(t, dir)) {
		t.Errorf("before:\n%s\nafter:\n%s", before, listing(t, dir))
	}
	mustAdopt(t, s, 10)
	wantIDs(t, drain(t, s), 10)
	free()
	mustAppend(t, s, records(0, 10)...)
	wantIDs(t, drain(t, s), 10)
}

// names drops the times of a listing.
func names(listing string) string {
	var all []string
	for line := range strings.Lines(listing) {
		name, _, _ := strings.Cut(line, " ")
		all = append(all, name)
	}
	return strings.Join(all, "\n")
}

// TestFloorOfFreeDisk leaves MinFreeBytes free, and by default a share of the disk.
func TestFloorOfFreeDisk(t *testing.T) {
	if !isolatedMounts(t) {
		return
	}
	disk := smallDisk(t, 8)
	for option, floor := range map[int64]int64{3 << 20: 3 << 20, 0: 8 << 20 * 5 / 100} {
		s := open(t, spool.Options{Dir: filepath.Join(disk, "spool"), SegmentBytes: 1 << 20, MinFreeBytes: option})
		n := appendUntilFull(t, s, 0, 7)
		var st unix.Statfs_t
		if err := unix.Statfs(disk, &st); err != nil {
			t.Fatal(err)
		}
		if free := int64(st.Bavail) * st.Bsize; free < floor-64<<10 || free > floor+1<<20 { // a step of 1 MiB at this size
			t.Errorf("%d bytes are free, want %d", free, floor)
		}
		if left := s.Stats().LeftBytes; left < 0 || left > 1<<20 {
			t.Errorf("LeftBytes %d", left)
		}
		wantIDs(t, drain(t, s), n)
		mustAppend(t, s, record(0))
		drain(t, s)
		closeSpool(t, s)
	}
}

// TestMaxBytesBoundsTheWholeSpoolDir counts blocks of others, and of what lies in
// quarantine.
func TestMaxBytesBoundsTheWholeSpoolDir(t *testing.T) {
	dir := t.TempDir()
	const maxBytes = 4 << 20
	s := open(t, spool.Options{Dir: dir, SegmentBytes: 512 << 10, MaxBytes: maxBytes})
	alone := appendUntilFull(t, s, 0, 7)
	if used, st := allocatedUnder(t, dir), s.Stats(); used > maxBytes || used < maxBytes/2 || st.UsedBytes > maxBytes {
		t.Errorf("%d bytes are allocated, MaxBytes is %d: %+v", used, maxBytes, st)
	}
	wantIDs(t, drain(t, s), alone)
	again := appendUntilFull(t, s, 0, 7)
	if again < alone*9/10 {
		t.Errorf("%d records the second time, %d the first", again, alone)
	}
	wantIDs(t, drain(t, s), again)

	other := open(t, spool.Options{Dir: dir, Target: "other"})
	mustAppend(t, other, kib(0, 1<<10))
	quarantine := filepath.Join(dir, "quarantine")
	if err := os.Mkdir(quarantine, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(quarantine, "x.seg"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := appendUntilFull(t, s, 0, 7); n > alone*5/8 || n < alone/8 {
		t.Errorf("%d records beside 2 MiB of others', %d alone", n, alone)
	}
	if used := allocatedUnder(t, dir); used > maxBytes {
		t.Errorf("%d bytes are allocated, MaxBytes is %d", used, maxBytes)
	}
}

// TestSalvageWaitsForSpace keeps a damaged segment as it is while nothing can be written.
func TestSalvageWaitsForSpace(t *testing.T) {
	if !isolatedMounts(t) {
		return
	}
	disk := smallDisk(t, 4)
	dir := filepath.Join(disk, "spool")
	for range 2 {
		s := open(t, spool.Options{Dir: dir, MinFreeBytes: -1})
		mustAppend(t, s, records(0, 500)...)
		closeSpool(t, s)
	}
	path := segmentFiles(t, dir)[0]
	damage(t, path, func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("payload 4"), []byte("PAYLOAD 4")) })
	damaged, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, spool.Options{Dir: dir, MinFreeBytes: -1})
	free := fill(t, disk)
	for range 2 {
		if _, err := s.Adopt(); err != nil {
			t.Error(err)
		}
		drain(t, s) // the sound segment, the first time
	}
	st := s.Stats()
	if len(st.Bad) != 1 || !strings.Contains(st.Bad[0], filepath.Base(path)) || st.Settled[spool.Delivered] != 500 || st.Quarantined != 0 {
		t.Errorf("%+v", st)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, damaged) {
		t.Errorf("the damaged segment was touched: %v", err)
	}
	if list, err := spool.Quarantine(dir); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	free()
	mustAdopt(t, s, 500)
	drain(t, s)
	st = s.Stats()
	if len(st.Bad) != 0 || st.Quarantined != 1 || st.Settled[spool.Unreadable] != 111 || st.Settled[spool.Delivered] != 1000-111 { // 4, 40 to 49, 400 to 499
		t.Errorf("%+v", st)
	}
}

// damage changes a file in place.
func damage(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(change(b), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
