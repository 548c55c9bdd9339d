package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
)

// changer is one run of a command that removes or retries jobs.
type changer struct {
	flags    common
	filter   filterFlags
	what     undertaking
	dead     bool // dead letters, in place of pending jobs
	all      bool
	yes      bool
	dryRun   bool
	in       io.Reader
	out, err io.Writer
}

// undertaking is what is done to jobs: the API's word for it.
type undertaking string

const (
	removing undertaking = "remove"
	retrying undertaking = "retry"
)

// command completes the command whose runs are like c.
func (c changer) command(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		c.in, c.out, c.err = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
		return c.run(cmd.Context(), ids)
	}
	c.flags.addSpoolFlags(cmd)
	c.filter.addFlags(cmd, c.dead)
	f := cmd.Flags()
	f.BoolVar(&c.all, "all", false, "all of them")
	f.BoolVar(&c.dryRun, "dry-run", false, "only say how many there are")
	if c.what == removing {
		f.BoolVarP(&c.yes, "yes", "y", false, "do not ask")
	}
	return cmd
}

func (c changer) run(ctx context.Context, ids []string) (err error) {
	if err := c.check(ids); err != nil {
		return err
	}
	s, err := c.flags.openSurvey(ctx, c.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	sel, err := c.count(ctx, s, ids)
	if err == nil {
		var sure bool
		if sure, err = c.confirmed(ctx, sel); err == nil {
			return c.change(ctx, s, sel, sure)
		}
	}
	if ctx.Err() != nil {
		return leftError{"interrupted, nothing was changed"}
	}
	return err
}

// check complains of what was not said clearly enough.
func (c changer) check(ids []string) error {
	picks := len(ids) > 0 || c.filter.given()
	tty, _ := c.in.(io.Writer)
	switch {
	case !picks && !c.all:
		return usageError{"give ids, or flags that pick jobs, or --all to mean all of them"}
	case picks && c.all:
		return usageError{"--all means all of them: leave it out, or the ids and flags that pick some"}
	case c.what == removing && !c.yes && !c.dryRun && terminal(tty) == nil:
		return usageError{"there is no terminal to ask at: --yes removes without being asked, --dry-run only counts"}
	}
	return c.filter.check()
}

// count looks at all that is picked.
func (c changer) count(ctx context.Context, s *survey, ids []string) (*selection, error) {
	sel := newSelection(c.filter.filter(ids, c.dead), time.Now())
	err := s.jobs(ctx, sel.filter, false, func(j queue.Job) error {
		sel.add(j)
		return nil
	})
	return sel, err
}

// confirmed asks a person, if it is due.
func (c changer) confirmed(ctx context.Context, sel *selection) (bool, error) {
	if c.yes || c.dryRun || c.what != removing || sel.jobs == 0 {
		return true, nil
	}
	return askYes(ctx, c.in, c.err, fmt.Sprintf("Remove %s", sel))
}

// change does it if that is sure, and says what was done.
func (c changer) change(ctx context.Context, s *survey, sel *selection, sure bool) error {
	r := changed{Matched: sel.jobs, InDoubt: sel.inDoubt, DryRun: c.dryRun, Unknown: sel.missing()}
	n, complaints := 0, len(s.mute)
	var interrupted error
	if sure && !c.dryRun && sel.jobs > 0 {
		n, interrupted = s.change(ctx, string(c.what), sel.filter)
	}
	switch {
	case c.dryRun:
	case c.what == removing:
		r.Removed = &n
	default:
		r.Retried = &n
	}
	r.LeftOut = append([]string{}, s.mute...)
	if err := c.print(r, sel, n); err != nil {
		return err
	}
	switch {
	case interrupted != nil:
		return leftError{"interrupted, the others are as they were"}
	case len(sel.filter.IDs) > 0 && len(s.mute) > complaints:
		return leftError{"not all was done: an owner did not answer any more"}
	case !sure || n == sel.jobs || len(sel.filter.IDs) == 0:
		return c.verdict(r, sel)
	}
	return cmp.Or(c.verdict(r, sel), errors.New("the others were gone before their turn came: sent, or changed by somebody else"))
}
