package queue

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestOneCallerRegistersAQueueAgain has many callers find it due: it costs one SADD.
func TestOneCallerRegistersAQueueAgain(t *testing.T) {
	s := newSender()
	defer s.stop()
	start := time.Now()
	for range 2 {
		if !s.claim("q", start) {
			t.Fatal("a queue that is not known is not registered by each caller before it returns")
		}
	}
	s.known.Store("q", start.Add(s.knownFor))
	for after, want := range map[time.Duration]bool{0: true, registerEvery - 1: true, registerEvery: false} {
		if s.knows("q", start.Add(after)) != want {
			t.Errorf("known %v after it was registered: not %v", after, want)
		}
	}
	later := start.Add(registerEvery)
	for round := range 100 {
		var claims atomic.Int32
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if s.claim("q", later) {
					claims.Add(1)
				}
			})
		}
		wg.Wait()
		if n := claims.Load(); n != 1 {
			t.Fatalf("round %d: %d of 16 callers register it", round, n)
		}
		later = later.Add(registerAgain) // the try failed
	}
	s.forget()
	if !s.claim("q", later) {
		t.Error("forgotten, and not registered")
	}
}
