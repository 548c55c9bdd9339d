//go:build amd64 || arm64

package spool_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/spool"
)

// TestAppendGoesOnWhileABackupWaits lets a backup hang in the middle, and appends
// more than bbolt's memory map holds: that must not wait for a read transaction.
func TestAppendGoesOnWhileABackupWaits(t *testing.T) {
	if !isolated(t) {
		return
	}
	sup := supervise(t)
	s := open(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 1 << 20})
	mustAppend(t, s, records(0, 3000)...)
	to := filepath.Join(t.TempDir(), "backup")
	disk := hangIn(t, sup, to, func(c sysCall) bool {
		return c.nr == unix.SYS_PWRITE64 && c.args[3] > 64<<10 // behind what every segment begins with
	})
	disk.begin()
	done := make(chan error, 1)
	go func() { done <- s.Backup(t.Context(), to) }()
	<-disk.asked
	for i, size := range []int{4 << 10, 8 << 10, 1 << 10} { // the first two need a larger map
		mustAppend(t, s, kib(3000+i, size))
	}
	entries, err := s.Read(1000, 1<<20)
	if err == nil {
		err = s.Settle(settlements(entries, spool.Delivered)...)
	}
	if err != nil || len(entries) != 1000 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	mustAppend(t, s, records(3003, 4000)...)
	select {
	case err := <-done:
		t.Fatalf("Backup did not wait: %v", err)
	default:
	}
	disk.end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	copied := open(t, spool.Options{Dir: to, AdoptOnly: true, Timeout: -1})
	if _, err := copied.Adopt(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, id := range drain(t, copied) {
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
	}
	for i := 1000; i < 3000; i++ { // these were pending from its beginning to its end
		if id := record(i).ID; !seen[id] {
			t.Errorf("%s is not in the backup", id)
		}
	}
	if ids := drain(t, s); len(ids) != 3000 || ids[0] != "id-1000" {
		t.Errorf("%d records after the backup", len(ids))
	}
}

// TestAppendGoesOnBesideReaders appends across several segments while others do nothing
// but read.
func TestAppendGoesOnBesideReaders(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir(), SegmentBytes: 256 << 10})
	mustAppend(t, s, kib(0, 1))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for what, read := range map[string]func() error{
		"List": func() error {
			pending, _, err := s.Find("id-0")
			if err == nil && len(pending) != 1 {
				err = fmt.Errorf("found %d", len(pending))
			}
			return err
		},
		"Verify": func() error {
			reports, err := s.Verify()
			for _, r := range reports {
				err = errors.Join(append(r.Problems, err)...)
			}
			return err
		},
		"Backup": func() error { return s.Backup(t.Context(), filepath.Join(t.TempDir(), "backup")) },
	} {
		wg.Go(func() {
			for n := 0; ; n++ {
				if err := read(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 1000 {
		mustAppend(t, s, kib(1+i, 1))
	}
	close(stop)
	wg.Wait()
	wantIDs(t, drain(t, s), 1001)
}
