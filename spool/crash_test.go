package spool_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

// childDir makes the test binary a child that appends to the spool it names and
// prints each id once it is acknowledged, until it is killed.
const childDir = "SPOOL_TEST_CHILD_DIR"

func runChild() {
	s, err := spool.Open(spool.Options{Dir: os.Getenv(childDir), SegmentBytes: 64 << 10})
	if err != nil {
		fmt.Println("ERROR", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for c := range 4 {
		go func() {
			for i := c; ; i += 4 {
				if err := s.Append(record(i)); err != nil {
					fmt.Println("ERROR", err)
					os.Exit(1)
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
		for _, id := range killAfter(t, dir, 300*(round+1)) {
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

// killAfter runs a child, kills it after n acknowledgements and returns all it
// gave.
func killAfter(t *testing.T, dir string, n int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if id := lines.Text(); strings.HasPrefix(id, "ERROR") {
			t.Error(id)
		} else {
			ids = append(ids, id)
		}
		if len(ids) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // killed
	return ids
}
