package main

import (
	"fmt"
	"sync"
)

// demoBooks remembers what was accepted and what was run, by task id. Safe for
// concurrent use.
type demoBooks struct {
	mu        sync.Mutex // guards the fields below
	entries   map[string]demoEntry
	accepted  int
	processed int
}

// demoEntry counts how often one task id was accepted and run.
type demoEntry struct{ accepted, runs int }

func newDemoBooks() *demoBooks { return &demoBooks{entries: map[string]demoEntry{}} }

// accept notes that Enqueue returned nil for a task. The worker may have run it
// already.
func (b *demoBooks) accept(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	e.accepted++
	b.entries[id] = e
	b.accepted++
}

// run notes that the worker ran a task.
func (b *demoBooks) run(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	e.runs++
	b.entries[id] = e
	b.processed++
}

// counts returns how many tasks were accepted and run so far.
func (b *demoBooks) counts() (accepted, processed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accepted, b.processed
}

// balance compares, task by task.
func (b *demoBooks) balance() demoBalance {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := demoBalance{accepted: b.accepted, processed: b.processed}
	for _, e := range b.entries {
		switch {
		case e.accepted == 0:
			sum.unknown += e.runs
		case e.runs < e.accepted:
			sum.lost += e.accepted - e.runs
		default:
			sum.duplicated += e.runs - e.accepted
		}
	}
	return sum
}

// demoBalance is what the books say in the end.
type demoBalance struct {
	accepted, processed int
	lost                int // accepted, never run
	duplicated          int // runs too many
	unknown             int // runs of what was never accepted
}

func (s demoBalance) String() string {
	return fmt.Sprintf("accepted=%d processed=%d lost=%d duplicated=%d", s.accepted, s.processed, s.lost, s.duplicated)
}

// err returns nil if the books balance.
func (s demoBalance) err() error {
	if s.lost == 0 && s.duplicated == 0 && s.unknown == 0 {
		return nil
	}
	return fmt.Errorf("the books do not balance: %d jobs lost, %d runs too many, %d runs of jobs never accepted",
		s.lost, s.duplicated, s.unknown)
}
