package spool_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/jobspool/jobspool/spool"
	"github.com/jobspool/jobspool/spool/crashtest"
)

// childDir makes the test binary a child that appends to the spool it names and
// prints each id once it is acknowledged, until it is killed.
const childDir = "SPOOL_TEST_CHILD_DIR"

func runChild() {
	s, err := spool.Open(spool.Options{Dir: os.Getenv(childDir), SegmentBytes: 64 << 10})
	if err != nil {
		crashtest.Fail(err)
	}
	var mu sync.Mutex
	for c := range 4 {
		go func() {
			for i := c; ; i += 4 {
				if err := s.Append(record(i)); err != nil {
					crashtest.Fail(err)
				}
				mu.Lock()
				fmt.Println(record(i).ID)
				mu.Unlock()
			}
		}()
	}
	select {}
}

func TestKilledOwnerLosesNothingItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]bool{}
	for round := range 5 {
		for _, id := range crashtest.KillAfter(t, 300*(round+1), childDir+"="+dir) {
			acked[fmt.Sprint(round, id)] = true
		}
		s := open(t, spool.Options{Dir: dir})
		if _, err := s.Adopt(); err != nil {
			t.Fatal(err)
		}
		for _, id := range drain(t, s) {
			delete(acked, fmt.Sprint(round, id))
		}
		closeSpool(t, s)
		if len(acked) != 0 {
			t.Fatalf("round %d: %d acknowledged records are lost", round, len(acked))
		}
	}
}
