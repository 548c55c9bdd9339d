package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jobspool/jobspool/queue"
)

// selection is what a filter picked when it was counted.
type selection struct {
	filter  queue.Filter
	jobs    int
	inDoubt int
	queues  map[string]int
	ids     map[string]bool // of those that were asked for
}

// newSelection begins to count. What comes later than now is neither counted nor picked by
// its filter afterwards; ids are clear enough.
func newSelection(f queue.Filter, now time.Time) *selection {
	if len(f.IDs) == 0 {
		f.Before = now
	}
	return &selection{filter: f, queues: map[string]int{}, ids: map[string]bool{}}
}

func (s *selection) add(j queue.Job) {
	s.jobs++
	s.queues[j.Queue]++
	if j.InDoubt || j.HalfDone {
		s.inDoubt++
	}
	if len(s.filter.IDs) > 0 {
		s.ids[j.ID] = true
	}
}

// missing returns the ids that nothing had.
func (s *selection) missing() []string {
	missing := []string{}
	for _, id := range s.filter.IDs {
		if !s.ids[id] && !slices.Contains(missing, id) {
			missing = append(missing, id)
		}
	}
	return missing
}

// String returns, for example, "12 pending jobs of queue mail (3 in doubt: Redis may have
// them already)".
func (s *selection) String() string {
	text := plural(s.jobs, noun(s.filter.Dead))
	switch names := slices.Sorted(maps.Keys(s.queues)); len(names) {
	case 0:
	case 1:
		text += " of queue " + printable(names[0])
	default:
		text += fmt.Sprintf(" of %d queues", len(names))
	}
	if s.inDoubt > 0 {
		text += fmt.Sprintf(" (%d in doubt: Redis may have them already)", s.inDoubt)
	}
	return text
}
