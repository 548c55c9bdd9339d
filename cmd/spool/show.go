package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
)

func newShowCommand() *cobra.Command {
	return newShowerCommand(&cobra.Command{
		Use:   "show ID",
		Short: "Show all that the spool knows of a job",
		Long: `show shows a job, pending or dead, of whichever owner in the spool. The payload and
the headers are shown only with --payload; a payload that is no printable text is
dumped in hex, in the JSON document as base64. If several jobs have the id, all of
them are shown.

A job that Redis has is not in the spool any more: see 'asynq task inspect'.`,
		Example: `  spool show 6b6ea2b5-5e2c-4a4c-9d2a-0f1f8e2f3c11 --dir /var/lib/myservice/spool
  spool show order:4711 --payload
  spool show order:4711 --payload --json | jq .jobs[0].payload`,
	}, true, true)
}

// newShowerCommand completes a command that shows one job: what is pending, dead letters, or
// both.
func newShowerCommand(cmd *cobra.Command, pending, dead bool) *cobra.Command {
	s := shower{pending: pending, dead: dead}
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s.out, s.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
		return s.run(cmd.Context(), args[0])
	}
	s.flags.addSpoolFlags(cmd)
	cmd.Flags().BoolVar(&s.payload, "payload", false, "show payload and headers, too")
	return cmd
}

// shower is one run of spool show or spool dead show.
type shower struct {
	flags         common
	pending, dead bool
	payload       bool
	out, err      io.Writer
}

func (s shower) run(ctx context.Context, id string) (err error) {
	sv, err := s.flags.openSurvey(ctx, s.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sv.close()) }()
	jobs, err := s.find(ctx, sv, id)
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted before the whole spool was searched")
	case err != nil:
		return err
	case len(jobs) == 0:
		return s.notFound(id, sv.partial())
	case s.flags.json:
		return printJSON(s.out, map[string]any{"jobs": s.documents(jobs)})
	}
	return s.print(jobs)
}

// find returns what has the id. Pending jobs come first: one that dies meanwhile is not
// missed.
func (s shower) find(ctx context.Context, sv *survey, id string) (jobs []queue.Job, err error) {
	for _, dead := range []bool{false, true} {
		if dead && !s.dead || !dead && !s.pending {
			continue
		}
		err := sv.jobs(ctx, queue.Filter{IDs: []string{id}, Dead: dead}, true, func(j queue.Job) error {
			jobs = append(jobs, j)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return jobs, nil
}

func (s shower) notFound(id string, partial bool) error {
	what := "job"
	if !s.pending {
		what = "dead letter"
	}
	text := fmt.Sprintf("no %s in the spool has the id %s", what, printable(id))
	if partial {
		return errors.New(text + ", but not all of it could be searched")
	}
	return errors.New(text)
}

func (s shower) documents(jobs []queue.Job) []shownJob {
	docs := make([]shownJob, len(jobs))
	for i, j := range jobs {
		if docs[i] = redacted(j); s.payload {
			docs[i] = opened(j)
		}
	}
	return docs
}

func (s shower) print(jobs []queue.Job) error {
	for i, j := range jobs {
		if i > 0 {
			fmt.Fprintln(s.out)
		}
		if err := printSheet(s.out, j, s.payload); err != nil {
			return err
		}
	}
	return nil
}
