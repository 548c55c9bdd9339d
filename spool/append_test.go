package spool_test

import (
	"errors"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

func TestWaitingCallersShareOneCommit(t *testing.T) {
	gate, entered := make(chan struct{}), make(chan int, 100)
	w := spool.NewWriter(func(records int) error {
		entered <- records
		<-gate
		return nil
	})
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Append([]byte("first")) })
	if n := <-entered; n != 1 {
		t.Fatalf("first commit has %d records", n)
	}
	for range 50 { // these arrive while the first commit is under way
		wg.Go(func() { _ = w.Append([]byte("a"), []byte("b")) })
	}
	got := 0
	for commits := 1; got < 100; commits++ {
		gate <- struct{}{}
		got += <-entered
		if commits > 50 {
			t.Fatalf("%d commits for %d records", commits, got)
		}
	}
	close(gate)
	wg.Wait()
	if len(entered) != 0 {
		t.Fatal("more commits than records")
	}
}

func TestEveryCallerLearnsOfAFailedCommit(t *testing.T) {
	cause := errors.New("disk on fire")
	w := spool.NewWriter(func(int) error { return cause })
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := w.Append([]byte("x")); !errors.Is(err, cause) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
}

func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) {
			s := open(b, spool.Options{Dir: b.TempDir()})
			r := record(1)
			r.Data = make([]byte, 250)
			one := func() {
				if err := s.Append(r); err != nil {
					b.Error(err)
				}
			}
			if callers == 1 {
				for b.Loop() {
					one()
				}
				return
			}
			b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					one()
				}
			})
		})
	}
}
