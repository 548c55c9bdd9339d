package main

import (
	"errors"
	"fmt"
	"strings"
)

// changed is what a command that changes jobs prints.
type changed struct {
	Matched int      `json:"matched"`           // when they were counted
	InDoubt int      `json:"in_doubt"`          // of those
	Removed *int     `json:"removed,omitempty"` // null in a dry run
	Retried *int     `json:"retried,omitempty"`
	DryRun  bool     `json:"dry_run"`
	Unknown []string `json:"unknown"`  // ids that nothing has
	LeftOut []string `json:"left_out"` // why jobs may have been left out
}

func (c changer) print(r changed, sel *selection, n int) error {
	if c.flags.json {
		return printJSON(c.out, r)
	}
	text := fmt.Sprintf("%s %s", sel, c.done())
	switch {
	case c.dryRun:
		text = fmt.Sprintf("%s would be %s", sel, c.done())
	case n < sel.jobs:
		text = fmt.Sprintf("%d of %s %s", n, sel, c.done())
	case n > sel.jobs: // one that was on its way to the disk when they were counted
		text = fmt.Sprintf("%s %s, %s were counted", plural(n, noun(c.dead)), c.done(), sel)
	}
	_, err := fmt.Fprintln(c.out, text)
	return err
}

// done is the word for what happens to jobs.
func (c changer) done() string {
	if c.what == removing {
		return "removed"
	}
	return "made pending again"
}

// verdict is how the command ends.
func (c changer) verdict(r changed, sel *selection) error {
	ids := make([]string, len(r.Unknown))
	for i, id := range r.Unknown {
		ids[i] = printable(id)
	}
	unknown := fmt.Sprintf("no %s that is picked has the id %s", noun(c.dead), strings.Join(ids, ", "))
	switch {
	case len(ids) > 0 && len(r.LeftOut) > 0:
		return leftError{unknown + "; not every owner could be asked"}
	case len(ids) > 0:
		return errors.New(unknown)
	case len(sel.filter.IDs) == 0 && len(r.LeftOut) > 0:
		return errNotAll
	}
	return nil
}

func noun(dead bool) string {
	if dead {
		return "dead letter"
	}
	return "pending job"
}
