package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
)

func newLsCommand() *cobra.Command {
	return newListCommand(&cobra.Command{
		Use:   "ls",
		Short: "List the jobs that wait in a spool",
		Long: `ls lists the pending jobs of all owners in the spool: first what living processes
hold, then what dead ones left; of each owner the oldest job first. It never shows
payloads and headers; see 'spool show' for those.

An owner that is alive is asked through its socket. What one does not answer for, or
another command holds, is left out: that is said, and the exit code is 3. What dead owners left is held for as long as the
command runs, a pager included: nobody else replays it meanwhile.

BYTES is the size on disk, ATTEMPTS how often the job was tried and kept since it
was spooled. IN DOUBT means that Redis may have the job already: an attempt got no
reply. It is sent again under its id, which Redis takes only once.`,
		Example: `  spool ls --dir /var/lib/myservice/spool
  spool ls --queue critical --older-than 1h --limit 0
  spool ls --json --limit 0 | jq -r '.jobs[].id'`,
	}, false)
}

// newListCommand completes a command that lists pending jobs, or dead letters.
func newListCommand(cmd *cobra.Command, dead bool) *cobra.Command {
	l := lister{dead: dead}
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l.out, l.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
		return l.run(cmd.Context())
	}
	l.flags.addSpoolFlags(cmd)
	l.filter.addFlags(cmd, dead)
	cmd.Flags().IntVar(&l.limit, "limit", 50, "list at most this `number` of jobs; 0 lists all")
	return cmd
}

// lister is one run of spool ls or spool dead ls.
type lister struct {
	flags    common
	filter   filterFlags
	limit    int
	dead     bool
	kept     bool // of the journal
	out, err io.Writer
}

// errEnough ends a list that has all that was asked for.
var errEnough = errors.New("enough")

func (l lister) run(ctx context.Context) (err error) {
	if err := l.filter.check(); err != nil {
		return err
	}
	if l.limit < 0 {
		return usageError{"--limit must not be negative; 0 lists all"}
	}
	s, err := l.flags.openSurvey(ctx, l.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return l.list(ctx, s)
}

// list writes what is there, or as much of it as was read until ctx ended.
func (l lister) list(ctx context.Context, s *survey) error {
	to := l.sink()
	n, source := 0, spooledJobs
	if l.kept {
		source = keptJobs
	}
	err := s.jobsOf(ctx, source, l.filter.filter(nil, l.dead), false, func(j queue.Job) error {
		if l.limit > 0 && n == l.limit {
			return errEnough
		}
		n++
		return to.add(j)
	})
	more := errors.Is(err, errEnough)
	if ended := ctx.Err() != nil && errors.Is(err, ctx.Err()); err != nil && !more && !ended {
		return err
	}
	if werr := to.end(err != nil, s.mute); werr != nil {
		return werr
	}
	switch {
	case more:
		fmt.Fprintf(l.err, "spool: there are more than these %d: --limit 0 lists all\n", n)
		return s.verdict()
	case err != nil:
		return leftError{fmt.Sprintf("interrupted, there may be more than these %d", n)}
	}
	return s.verdict()
}

func (l lister) sink() jobSink {
	if l.flags.json {
		return &jobDocument{out: l.out}
	}
	t := newJobTable(l.out, l.dead, time.Now())
	t.kept = l.kept
	return t
}
