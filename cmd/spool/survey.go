package main

import (
	"context"
	"errors"
	"io"

	"github.com/jobspool/jobspool/queue"
)

var errNotAll = leftError{"jobs may have been left out: not every owner could be asked"}

// survey is one command's way over all desks. It says once what they do not cover.
type survey struct {
	*desks
	err  io.Writer
	told int // complaints
}

func (c *common) openSurvey(ctx context.Context, errs io.Writer) (*survey, error) {
	ds, err := c.openDesks(ctx)
	if err != nil {
		return nil, err
	}
	s := &survey{desks: ds, err: errs}
	s.complain()
	return s, nil
}

// complain says what is not covered and was not said yet.
func (s *survey) complain() {
	(&desks{mute: s.mute[s.told:]}).complain(s.err)
	s.told = len(s.mute)
}

// partial reports whether something is not covered.
func (s *survey) partial() bool { return len(s.mute) > 0 }

// verdict is how a command ends that has done what it can.
func (s *survey) verdict() error {
	if s.partial() {
		return errNotAll
	}
	return nil
}

// failed notes that a desk did not do its work; the others go on.
func (s *survey) failed(err error) {
	s.mute = append(s.mute, err.Error()+"; some of its jobs are left out")
	s.complain()
}

// jobs hands on every pending job, or dead letter, of every desk that a filter picks. It
// ends with the first error of fn's, and with ctx.
func (s *survey) jobs(ctx context.Context, f queue.Filter, payload bool, fn func(queue.Job) error) error {
	return s.jobsOf(ctx, spooledJobs, f, payload, fn)
}

// jobsOf is jobs for any list. Desks that have none have nothing.
func (s *survey) jobsOf(ctx context.Context, list string, f queue.Filter, payload bool, fn func(queue.Job) error) error {
	for _, d := range s.all {
		var own error
		err := d.jobsOf(ctx, list, f, payload, func(j queue.Job) error {
			if own = ctx.Err(); own == nil {
				own = fn(j)
			}
			return own
		})
		switch {
		case own != nil:
			return own
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.As(err, new(unableError)):
			s.failed(err)
		}
	}
	return nil
}

// change removes or retries at every desk what a filter picks, and returns how many jobs that
// were. The error is that of ctx.
func (s *survey) change(ctx context.Context, what string, f queue.Filter) (n int, err error) {
	for _, d := range s.all {
		done, err := d.change(ctx, what, f)
		n += done
		if err != nil && !errors.Is(err, context.Canceled) {
			s.failed(err)
		}
		if err != nil && ctx.Err() != nil {
			return n, ctx.Err()
		}
	}
	return n, nil
}
