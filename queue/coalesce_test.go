package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jobspool/jobspool/queue/internal/compose"
)

// stub is a server for a coalescer: each attempt takes a while, or for ever.
type stub struct {
	takes time.Duration // negative: until the context ends

	running, most atomic.Int32 // attempts at a time
	pipelines     atomic.Int32
	largest       atomic.Int32 // pipeline
}

func (s *stub) attempt(ctx context.Context, n int) error {
	if r := s.running.Add(1); r > s.most.Load() {
		s.most.Store(r)
	}
	defer s.running.Add(-1)
	if n > int(s.largest.Load()) {
		s.largest.Store(int32(n)) //nolint:gosec // small
	}
	if s.takes < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	time.Sleep(s.takes)
	return nil
}

func (s *stub) coalescer() *coalescer {
	one := func(ctx context.Context, _ compose.Command) result {
		return result{verdict: enqueued, err: s.attempt(ctx, 1)}
	}
	batch := func(ctx context.Context, cmds []compose.Command) []result {
		s.pipelines.Add(1)
		err := s.attempt(ctx, len(cmds))
		results := make([]result, len(cmds))
		for i, c := range cmds {
			results[i] = result{verdict: verdict(len(c.ID)), err: err}
		}
		return results
	}
	return newCoalescer(one, batch)
}

// crowd makes n calls at once and returns what they got.
func crowd(c *coalescer, n int, timeout time.Duration) []result {
	results := make([]result, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			results[i] = c.send(ctx, compose.Command{ID: fmt.Sprintf("%0*d", i+1, 0)})
		})
	}
	wg.Wait()
	return results
}

func TestFewCallersAreNotCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{takes: time.Millisecond}
		for _, r := range crowd(s.coalescer(), inlineCallers, time.Second) {
			if r.err != nil {
				t.Error(r.err)
			}
		}
		if s.pipelines.Load() != 0 || s.most.Load() != inlineCallers {
			t.Errorf("%d pipelines, %d at a time", s.pipelines.Load(), s.most.Load())
		}
	})
}

// TestManyCallersAreCoalesced checks the bounds, and that each caller gets the answer to
// its own command.
func TestManyCallersAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers = 1000
		s := &stub{takes: time.Millisecond}
		c := s.coalescer()
		own := 0
		for i, r := range crowd(c, callers, time.Second) {
			if r.err != nil {
				t.Error(r.err)
			}
			if r.verdict == verdict(i+1) {
				own++
			}
		}
		if own < callers-inlineCallers { // those answer differently
			t.Errorf("%d of %d got their own answer", own, callers)
		}
		if s.most.Load() > inlineCallers+flushers || s.largest.Load() > flushCommands {
			t.Errorf("%d attempts at a time, %d commands in one", s.most.Load(), s.largest.Load())
		}
		if n := s.pipelines.Load(); n > callers/flushCommands+10 {
			t.Errorf("%d pipelines", n)
		}
		c.wait()
	})
}

// TestCallersLeave has a server that does not answer: each caller leaves in time, and
// those whose command was not sent know it.
func TestCallersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{takes: -1}
		c := s.coalescer()
		began := time.Now()
		classes := map[class]int{}
		for _, r := range crowd(c, 1000, 100*time.Millisecond) {
			if r.err == nil {
				t.Fatal("an answer")
			}
			if !timedOut(r.err) {
				t.Errorf("not as a timeout: %v", r.err)
			}
			classes[classify(r.err)]++
		}
		if d := time.Since(began); d != 100*time.Millisecond {
			t.Errorf("they left after %v", d)
		}
		// A caller that leaves and a flusher may meet; what was taken was at most this.
		if most := inlineCallers + flushers*flushCommands; classes[inDoubt] > most || classes[notWritten] != 1000-classes[inDoubt] {
			t.Errorf("%v", classes)
		}
		c.wait()
		if s.running.Load() != 0 {
			t.Error("an attempt goes on")
		}
	})
}

func TestACancelledCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{takes: time.Hour}
		c := s.coalescer()
		c.inFlight.Store(inlineCallers)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		r := c.send(ctx, compose.Command{})
		if !errors.Is(r.err, context.Canceled) || time.Since(began) != time.Second || classify(r.err) != inDoubt {
			t.Errorf("%v after %v", r.err, time.Since(began))
		}
		c.wait()
	})
}

func TestALargeCommandGoesAlone(t *testing.T) {
	s := &stub{}
	c := s.coalescer()
	c.inFlight.Store(1000)
	c.send(t.Context(), compose.Command{Args: []any{make([]byte, largeBytes)}})
	if s.pipelines.Load() != 0 {
		t.Error("it was coalesced")
	}
}
