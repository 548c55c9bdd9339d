package spool_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

// TestDrainGivesBlocksBack appends 64 MiB, twice, and leaves a few dead letters in every
// segment.
func TestDrainGivesBlocksBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir, SegmentBytes: 8 << 20})
	var most []int64
	dead := 0
	for outage := range 2 {
		before := allocatedUnder(t, dir)
		n := 0
		for ; n < 4096; n += 64 {
			var rs []spool.Record
			for i := range 64 {
				rs = append(rs, kib(n+i, 16))
			}
			mustAppend(t, s, rs...)
		}
		most = append(most, allocatedUnder(t, dir)-before)
		if files := len(segmentFiles(t, dir)); files < 8 {
			t.Errorf("%d segments", files)
		}
		for {
			entries, err := s.Read(500, 8<<20)
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) == 0 {
				break
			}
			batch := settlements(entries, spool.Delivered)
			for i := range batch {
				if batch[i].Position.Seq()%300 == 7 {
					batch[i].Outcome = spool.Dead
					dead++
				}
			}
			if err := s.Settle(batch...); err != nil {
				t.Fatal(err)
			}
		}
		if left := allocatedUnder(t, dir); left > 16<<20 {
			t.Errorf("outage %d: %d bytes are allocated after the drain", outage, left)
		}
	}
	if most[0] > 64<<20*5/4 || most[1] > most[0]*11/10 {
		t.Errorf("64 MiB of records took %d bytes, the second time %d", most[0], most[1])
	}
	letters, _, err := s.DeadLetters("", 1000)
	if err != nil || len(letters) != dead || dead < 20 {
		t.Errorf("%d dead letters of %d, %v", len(letters), dead, err)
	}
	for _, d := range letters {
		if want := fmt.Sprintf("id-%d", (d.Position.Seq()-1)%4096); d.ID != want || len(d.Data) != 16<<10 {
			t.Errorf("dead letter %s with %d bytes, want %s", d.ID, len(d.Data), want)
		}
	}
}

// TestOneRecordTakesLittle is about what a process that runs for a second leaves behind
// each time.
func TestOneRecordTakesLittle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := open(t, spool.Options{Dir: dir})
	mustAppend(t, s, record(0))
	if used := allocatedUnder(t, dir); used > 1<<20 {
		t.Errorf("%d bytes in use", used)
	}
	closeSpool(t, s)
	if used := allocatedUnder(t, dir); used > 256<<10 {
		t.Errorf("%d bytes left", used)
	}
}
