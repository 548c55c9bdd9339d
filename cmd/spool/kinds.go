package main

import (
	"cmp"
	"slices"

	"github.com/jobspool/jobspool/queue"
)

// kindSum adds up what there is by queue and type.
type kindSum map[[2]string]queue.Kind

func (s kindSum) add(kinds ...queue.Kind) {
	for _, k := range kinds {
		key := [2]string{k.Queue, k.Type}
		s[key] = k.Add(s[key])
	}
}

// list returns those with the most jobs first.
func (s kindSum) list() []queue.Kind {
	list := make([]queue.Kind, 0, len(s))
	for _, k := range s {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b queue.Kind) int {
		return cmp.Or(cmp.Compare(b.Pending, a.Pending), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Type, b.Type))
	})
	return list
}
