package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

func newGuardCommand() *cobra.Command {
	g := guarding{}
	cmd := &cobra.Command{
		Use:   "guard",
		Short: "Show the jobs kept in case Redis loses them, and compare them with Redis",
		Long: `With Config.Guard a service keeps each job that Redis has acknowledged in a journal
beside its spool, for at most that long, in case Redis loses it. Every five seconds it
looks which of those jobs are finished, and lets go of them. When Redis comes back
without jobs that it had acknowledged, the service notices and sends them again by
itself, unless Config.OnLoss is ReportLost.

guard shows what the journals hold, by process and queue; with --jobs the jobs. MARKER
is when the process last wrote to Redis the number that shows a loss. JOURNAL OF says
who wrote the journal: one that a dead process left is taken over by a living one.

With --check every living process compares its journal with Redis now: what Redis does
not hold is sent again, under its id. That is for what no marker can show, for example
after Redis was restored from a backup by hand, and for ReportLost. What dead processes
left is not compared: a service that is started takes it over.

What can run twice: Redis does not hold a job that is finished either, unless the job
has a retention. So --check also sends those that were finished since a process last
looked which are: normally five seconds, longer after an outage. With --since it only
compares jobs that Redis has acknowledged since. What Redis holds is left alone: if a
backup brought back jobs that were finished after it was made, they run again.

Jobs that the journal does not have cannot be sent: those acknowledged longer ago than
Config.Guard, or in its last 10 ms if the service was killed, and what was skipped for
want of room (see 'spool status').

Exit code 1 means that nobody could compare, 3 that some of it was not compared, or
not shown.`,
		Example: `  spool guard --dir /var/lib/myservice/spool
  spool guard --jobs --queue critical --limit 0
  spool guard --check --since 10m --dry-run
  spool guard --check --since 2026-11-25T14:00:00Z --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g.in, g.out, g.err = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			g.limited = cmd.Flags().Changed("limit")
			return g.run(cmd.Context())
		},
	}
	g.flags.addSpoolFlags(cmd)
	g.filter.addKeptFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&g.jobs, "jobs", false, "list the jobs")
	f.IntVar(&g.limit, "limit", 50, "with --jobs: list at most this `number`; 0 lists all")
	f.BoolVar(&g.check, "check", false, "compare with Redis, and send again what it does not hold")
	f.StringVar(&g.since, "since", "", "with --check: only jobs acknowledged since then: a `time`, or how long ago (10m)")
	f.BoolVar(&g.dryRun, "dry-run", false, "with --check: only say how many there are")
	f.BoolVarP(&g.yes, "yes", "y", false, "with --check: do not ask")
	return cmd
}

// guarding is one run of spool guard.
type guarding struct {
	flags    common
	filter   filterFlags
	jobs     bool
	limit    int
	limited  bool // --limit was given
	check    bool
	since    string
	dryRun   bool
	yes      bool
	in       io.Reader
	out, err io.Writer
}

func (g guarding) run(ctx context.Context) (err error) {
	if err := g.usage(); err != nil {
		return err
	}
	since, err := parseSince(g.since, time.Now())
	if err != nil {
		return err
	}
	s, err := g.flags.openGuardSurvey(ctx, g.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	switch {
	case ctx.Err() != nil:
		return leftError{"interrupted"}
	case g.jobs:
		l := lister{flags: g.flags, filter: g.filter, limit: g.limit, kept: true, out: g.out, err: g.err}
		return l.list(ctx, s)
	case g.check:
		return comparison{guarding: g, s: s, ask: queue.GuardCheck{Since: since, Queue: g.filter.queue}}.run(ctx)
	}
	return g.summarize(ctx, s)
}

// usage complains of flags that mean nothing together.
func (g guarding) usage() error {
	tty, _ := g.in.(io.Writer)
	switch {
	case g.jobs && g.check:
		return usageError{"--jobs lists, --check compares: give one of them"}
	case !g.check && (g.since != "" || g.dryRun || g.yes):
		return usageError{"--since, --dry-run and --yes belong to --check"}
	case !g.jobs && (g.filter.typename != "" || g.filter.olderThan != 0 || g.limited):
		return usageError{"--type, --older-than and --limit belong to --jobs"}
	case g.limit < 0:
		return usageError{"--limit must not be negative; 0 lists all"}
	case g.dryRun && g.yes:
		return usageError{"--dry-run only counts, --yes sends without being asked: give one of them"}
	case g.check && !g.yes && !g.dryRun && terminal(tty) == nil:
		return usageError{"there is no terminal to ask at: --yes sends without being asked, --dry-run only counts"}
	}
	return g.filter.check()
}

// parseSince reads a time, or how long ago it was; empty: the zero time.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		if d < 0 {
			return time.Time{}, usageError{"--since must not be negative"}
		}
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usageError{"--since: give how long ago (90s, 10m, 2h) or a time (2026-11-25T14:00:00Z, or 2026-11-25 14:00 in local time)"}
}

// openGuardSurvey is openSurvey, but finds dead processes also where they left nothing but a
// journal.
func (c *common) openGuardSurvey(ctx context.Context, errs io.Writer) (*survey, error) {
	s, err := c.openSurvey(ctx, errs)
	if err != nil || s.offline != nil {
		return s, err
	}
	dir, err := c.spoolDir()
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	owners, err := spool.Inspect(filepath.Join(dir, spool.JournalName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.failed(fmt.Errorf("the journal: %w", err))
	}
	if slices.ContainsFunc(owners, func(o spool.OwnerInfo) bool { return !o.Alive }) {
		if _, err := s.takeOver(ctx, dir); err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.complain()
	}
	return s, nil
}
