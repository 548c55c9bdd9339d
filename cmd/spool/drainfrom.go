package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jobspool/jobspool/queue"
)

// takes reports whether this process is to send what an owner left.
func (d *drainer) takes(o ownerStatus) bool {
	switch o.State {
	case stateOrphan:
		return true
	case stateForeign:
		return d.to != "" && movable(o) && (len(d.from) == 0 || slices.ContainsFunc(d.from, func(target string) bool {
			return queue.SameTarget(target, o.Target)
		}))
	}
	return false
}

// movable reports whether the jobs of a foreign owner can go to another Redis: nobody can tell
// whose the unidentifiable ones are, and the job of a drill that was killed belongs nowhere.
func movable(o ownerStatus) bool {
	return o.State == stateForeign && o.Target != "" && !strings.HasPrefix(o.Target, drillTarget(""))
}

// choose complains where it is not clear which jobs --to is to send.
func (d *drainer) choose(st status) error {
	if d.to == "" {
		return nil
	}
	jobs := map[string]int{} // by target
	for _, o := range st.Owners {
		if movable(o) && o.Pending != nil && *o.Pending > 0 {
			jobs[o.Target] += *o.Pending
		}
	}
	there := []string{}
	for _, target := range slices.Sorted(maps.Keys(jobs)) {
		there = append(there, fmt.Sprintf("%s (%s)", target, plural(jobs[target], "job")))
	}
	for _, target := range d.from {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(jobs)), func(t string) bool { return queue.SameTarget(t, target) }) {
			return usageError{fmt.Sprintf("--from: dead owners left nothing of %s; they left jobs of: %s", target, strings.Join(there, ", "))}
		}
	}
	if len(d.from) == 0 && len(jobs) > 1 {
		return usageError{"dead owners left jobs of more than one Redis: name with --from those that --to is to send: " + strings.Join(there, ", ")}
	}
	return nil
}
