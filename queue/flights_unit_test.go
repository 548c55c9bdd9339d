package queue

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestFlights: it waits for what began before, however often that was tried, and for nothing
// that begins later.
func TestFlights(t *testing.T) {
	t.Parallel()
	var f flights
	check(t, f.wait(t.Context()))
	first := f.begin()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		if err := f.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it did not wait: %v", err)
		}
		cancel()
	}
	done := make(chan error)
	go func() { done <- f.wait(t.Context()) }()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // one always overlaps the next
		defer close(stopped)
		for last := f.begin(); ; {
			next := f.begin()
			f.end(last)
			last = next
			select {
			case <-stop:
				f.end(last)
				return
			case <-time.After(100 * time.Microsecond):
			}
		}
	}()
	time.Sleep(20 * time.Millisecond)
	f.end(first)
	select {
	case err := <-done:
		check(t, err)
	case <-time.After(30 * time.Second):
		t.Error("it waits for what began later")
	}
	close(stop)
	<-stopped
}
