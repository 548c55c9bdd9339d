package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/jobspool/jobspool/queue"
)

// comparison is one run of spool guard --check.
type comparison struct {
	guarding
	s   *survey
	ask queue.GuardCheck
}

// compared is what it prints.
type compared struct {
	Looked    int               `json:"looked"` // jobs that are not known to be finished
	Missing   int               `json:"missing"`
	SentAgain *int              `json:"sent_again"` // null in a dry run
	DryRun    bool              `json:"dry_run"`
	Processes []comparedProcess `json:"processes"`
	LeftOut   []string          `json:"left_out"`
}

type comparedProcess struct {
	PID int `json:"pid"`
	queue.GuardChecked
}

func (c comparison) run(ctx context.Context) error {
	c.skipDead(ctx)
	if !c.yes {
		r, err := c.compare(ctx, true)
		if err != nil || c.dryRun {
			return c.end(r, err)
		}
		sure := r.Missing == 0
		if !sure {
			if sure, err = askYes(ctx, c.in, c.err, fmt.Sprintf("Send %s again that Redis does not hold", plural(r.Missing, "job"))); err != nil {
				return leftError{"interrupted, nothing was sent"}
			}
		}
		if !sure || r.Missing == 0 {
			r.SentAgain = new(int)
			return c.end(r, nil)
		}
	}
	return c.end(c.compare(ctx, false))
}

// skipDead says what dead processes left: nobody compares it.
func (c comparison) skipDead(ctx context.Context) {
	for _, d := range c.s.all {
		if d.live {
			continue
		}
		if k, err := d.kept(ctx, c.ask.Queue); err == nil && k.Jobs > 0 {
			c.s.mute = append(c.s.mute, fmt.Sprintf("%s in journals of dead processes are not compared: start their service, which takes them over",
				plural(k.Jobs, "job")))
			c.s.complain()
		}
	}
}

// compare has each living process compare its journal. The error is that of ctx, or that there
// is none.
func (c comparison) compare(ctx context.Context, report bool) (compared, error) {
	r := compared{DryRun: c.dryRun, Processes: []comparedProcess{}}
	ask, sent, failed := c.ask, 0, false
	ask.Report = report
	var off error
	for _, d := range c.s.all {
		if !d.live {
			continue
		}
		var found queue.GuardChecked
		switch err := d.call(ctx, http.MethodPost, keptJobs+"/check", ask, &found); {
		case ctx.Err() != nil:
			return r, leftError{"interrupted: ask again with --check --dry-run what is missing"}
		case errors.As(err, new(unableError)):
			off = err
			continue
		case err != nil:
			c.s.failed(err)
			failed = true
			continue
		}
		r.Processes = append(r.Processes, comparedProcess{d.pid, found})
		r.Looked, r.Missing, sent = r.Looked+found.Looked, r.Missing+found.Missing, sent+found.SentAgain
	}
	if !report {
		r.SentAgain = &sent
	}
	switch {
	case len(r.Processes) > 0:
		return r, nil
	case failed:
		return r, errors.New("no process could compare its journal with Redis")
	}
	return r, fmt.Errorf("nobody can compare: %w", cmp.Or(off, errors.New("no process of a service with Config.Guard is alive here")))
}

// end prints what was found, and returns how the command ends.
func (c comparison) end(r compared, err error) error {
	if err != nil {
		return err
	}
	r.LeftOut = append([]string{}, c.s.mute...)
	if c.flags.json {
		err = printJSON(c.out, r)
	} else {
		err = c.print(r)
	}
	if err == nil && len(r.LeftOut) > 0 {
		return leftError{"not all that is kept was compared"}
	}
	return err
}

func (c comparison) print(r compared) error {
	if len(r.Processes) > 1 {
		for _, p := range r.Processes {
			fmt.Fprintf(c.out, "process %d: %s\n", p.PID, comparedText(p.Looked, p.Missing, p.SentAgain, c.dryRun))
		}
	}
	sent := 0
	if r.SentAgain != nil {
		sent = *r.SentAgain
	}
	_, err := fmt.Fprintln(c.out, comparedText(r.Looked, r.Missing, sent, c.dryRun))
	return err
}

func comparedText(looked, missing, sent int, dryRun bool) string {
	text := fmt.Sprintf("%s compared, %s missing in Redis", plural(looked, "job"), count(int64(missing)))
	if dryRun {
		return text + ": would be sent again"
	}
	return fmt.Sprintf("%s, %s sent again", text, count(int64(sent)))
}
