package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/jobspool/jobspool/queue"
)

// choice says which jobs are to be sent. Safe for concurrent use.
type choice struct {
	queue, typename string        // empty: any
	maxAge          time.Duration // zero: any
	limit           int           // zero: none

	tooOld atomic.Bool // there was one that only its age spoke against

	mu     sync.Mutex
	chosen map[string]bool // ids of those within the limit; guarded by mu
}

func (s *choice) takes(e queue.JobEvent) bool {
	switch {
	case s.queue != "" && s.queue != e.Queue:
	case s.typename != "" && s.typename != e.Type:
	case s.maxAge > 0 && time.Since(e.At) > s.maxAge:
		s.tooOld.Store(true)
	default:
		return s.choose(e.TaskID)
	}
	return false
}

// choose holds to the limit, and to what it chose before.
func (s *choice) choose(id string) bool {
	if s.limit == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chosen[id] {
		return true
	}
	if len(s.chosen) >= s.limit {
		return false
	}
	if s.chosen == nil {
		s.chosen = map[string]bool{}
	}
	s.chosen[id] = true
	return true
}
