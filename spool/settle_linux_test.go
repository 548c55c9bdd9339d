//go:build amd64 || arm64

package spool_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/spool"
)

// TestWhatIsSettledOfASegmentThatIsGivenUp lets the disk fail so that a segment can
// neither be settled nor salvaged, and settles the same again, as a caller does who was
// told of an error: once the disk is well, none of it is pending.
func TestWhatIsSettledOfASegmentThatIsGivenUp(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	for name, meanwhile := range map[string]func(t *testing.T, path string){
		"sound": func(*testing.T, string) {},
		"damaged": func(t *testing.T, path string) {
			t.Helper()
			damage(t, path, func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("payload 4"), []byte("PAYLOAD 4")) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "spool")
			s := open(t, spool.Options{Dir: dir, Timeout: -1})
			mustAppend(t, s, records(0, 9)...)
			path := segmentFiles(t, dir)[0]
			entries, err := s.Read(4, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			batch := settlements(entries, spool.Delivered)
			batch[1].Outcome, batch[2].Outcome = spool.Dead, spool.Kept
			disk := &fault{nrs: []int{unix.SYS_FDATASYNC, unix.SYS_FSYNC}, errno: unix.EIO, from: 1, forever: true}
			sup.over(t, dir, disk.rule)
			if err := s.Settle(batch...); err == nil {
				t.Error("Settle on a disk that fails: no error")
			}
			for range 2 {
				if err := s.Settle(batch...); err != nil {
					t.Errorf("Settle once the segment is given up: %v", err)
				}
				if _, err := s.Adopt(); err != nil {
					t.Errorf("Adopt on a disk that fails: %v", err)
				}
			}
			if n, err := s.RetryDead(entries[1].Position); err == nil {
				t.Errorf("RetryDead: %d, and no error", n)
			}
			if st := s.Stats(); len(st.Bad) != 1 {
				t.Errorf("%+v", st)
			}
			disk.end()
			meanwhile(t, path)
			if _, err := s.Adopt(); err != nil {
				t.Fatal(err)
			}
			want := []string{"id-2", "id-4", "id-5", "id-6", "id-7", "id-8"}
			if name == "damaged" {
				want = slices.Delete(want, 1, 2)
			}
			entries, err = s.Read(9, 1<<20)
			if err != nil || len(entries) == 0 || entries[0].Attempts != 1 {
				t.Errorf("%+v, %v", entries, err)
			}
			if ids := drain(t, s); !slices.Equal(ids, want) {
				t.Errorf("pending are %v, want %v", ids, want)
			}
			letters, _, err := s.DeadLetters("", 10)
			if err != nil || len(letters) != 1 || letters[0].ID != "id-1" {
				t.Errorf("dead letters: %+v, %v", letters, err)
			}
			st := s.Stats()
			if len(st.Bad) != 0 || st.Settled[spool.Dead] != 1 || st.Settled[spool.Kept] != 1 || st.Settled[spool.Delivered] != int64(2+len(want)) {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestSettlingTheLastOfAFlowWhileTheDiskFails lets each sync of a settling fail in turn.
// The one that comes after the new state was written leaves a segment that is salvaged
// without that flow.
func TestSettlingTheLastOfAFlowWhileTheDiskFails(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	for from := 1; from <= 2; from++ {
		t.Run(fmt.Sprint(from), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "spool")
			s := open(t, spool.Options{Dir: dir, Timeout: -1})
			for i, class := range []string{"a", "b"} {
				r := record(i)
				r.Class = class
				mustAppend(t, s, r)
			}
			entries, err := s.Reader("a").Read(9, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			disk := &fault{nrs: []int{unix.SYS_FDATASYNC}, errno: unix.EIO, from: from}
			sup.over(t, dir, disk.rule)
			if err := s.Settle(settlements(entries, spool.Delivered)...); err != nil {
				t.Error(err)
			}
			if _, hits := disk.counts(); hits != 1 || s.Stats().Quarantined != 1 {
				t.Errorf("%d faults, %+v", hits, s.Stats())
			}
			if ids := drain(t, s); !slices.Equal(ids, []string{"id-1"}) {
				t.Errorf("left: %v", ids)
			}
		})
	}
}
