package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// drillQueue is the queue of drills alone.
const drillQueue = "spool-drill"

const drillHelp = `drill sends one job the way that jobs go in an outage, while there is none: through
the spool. It shows that the fallback works, before it is needed, and how long each
step takes:

  open the spool      create a share in the directory and lock it, durably
  write the job       on disk, fsynced
  replay it to Redis  until Redis has acknowledged it
  find it in Redis    with the same type and payload
  take it out again   out of Redis, and its queue with it

The job goes to the queue spool-drill, which no worker should serve. Where one does,
it may have taken the job before drill finds it; that is said, and no failure. With
--queue and --type drill takes the way of your jobs instead; a worker must then
know what to do with a task of that type. The queue goes again when it is empty,
one of your own only if it surely was not there before.

Run it as the user of the service, or as root with --force. The directory must
exist. The share that drill makes has a target of its own, shown by spool status
while it runs: jobs that others have left are not touched, and nobody else takes
the job.

If Redis is away drill waits for it, until --timeout. What could not be sent is
taken out of the spool again. Ctrl-C does the same at once.

The exit code is 0 only if every step worked. It is 1 if a step failed, or drill was
interrupted, and drill knows of nothing that it left behind; 3 if the job, or the
queue, is left somewhere, which is said.`

func newDrillCommand() *cobra.Command {
	var d driller
	cmd := &cobra.Command{
		Use:     "drill",
		Short:   "Send a job through the spool to Redis, to see that this works",
		Long:    drillHelp,
		Example: "  spool drill --dir /var/lib/myservice/spool --redis redis://localhost:6379",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out, d.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return d.run(cmd.Context())
		},
	}
	d.flags.addFlags(cmd)
	d.flags.addForce(cmd)
	cmd.Flags().StringVar(&d.queue, "queue", drillQueue, "the `name` of the job's queue")
	cmd.Flags().StringVar(&d.typename, "type", "spool:drill", "the `name` of the job's type")
	cmd.Flags().DurationVar(&d.timeout, "timeout", 30*time.Second, "give up after this `duration`")
	return cmd
}

// driller is the command line of spool drill.
type driller struct {
	flags           common
	queue, typename string
	timeout         time.Duration
	out, err        io.Writer
}

func (d driller) run(ctx context.Context) error {
	if err := d.check(); err != nil {
		return err
	}
	dir, opt, err := d.flags.place()
	switch {
	case err != nil:
		return err
	case opt == nil:
		return usageError{"no Redis named: give --redis or set REDIS_URL"}
	}
	if _, err = inspect(dir); err == nil { // a typo must not make a spool that works
		err = d.flags.beOwner(dir)
	}
	if err != nil {
		return err
	}
	target, err := targetOf(ctx, opt)
	if err != nil {
		return usageError{err.Error()}
	}
	r := drill{
		driller: d, opt: opt, settled: newSettled(),
		report: drillReport{Dir: dir, Redis: target, Queue: d.queue, Type: d.typename, Left: []string{}},
	}
	r.all(ctx)
	if err := d.print(r.report); err != nil {
		return err
	}
	return r.report.verdict(ctx)
}

func (d driller) check() error {
	switch {
	case d.timeout <= 0:
		return usageError{"--timeout must be more than 0"}
	case strings.TrimSpace(d.queue) == "":
		return usageError{"--queue must not be blank"}
	case strings.TrimSpace(d.typename) == "":
		return usageError{"--type must not be blank"}
	}
	return nil
}

// drillReport is what the command prints.
type drillReport struct {
	Dir   string      `json:"dir"`
	Redis string      `json:"redis"`
	Queue string      `json:"queue"`
	Type  string      `json:"type"`
	ID    string      `json:"id,omitempty"`
	OK    bool        `json:"ok"`
	Steps []drillStep `json:"steps"`
	Left  []string    `json:"left"` // empty: drill knows of nothing that it left behind
}

// drillStep is one step of a drill.
type drillStep struct {
	Step   string  `json:"step"`
	Result string  `json:"result"` // ok, failed or skipped
	MS     float64 `json:"duration_ms"`
	Detail string  `json:"detail,omitempty"`

	took time.Duration
}

func (d driller) print(r drillReport) error {
	if d.flags.json {
		return printJSON(d.out, r)
	}
	w := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STEP\tRESULT\tTIME\tDETAIL")
	var all time.Duration
	for _, s := range r.Steps {
		took := "-"
		if s.Result != stepSkipped {
			took = s.took.Round(time.Microsecond).String()
		}
		all += s.took
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Step, s.Result, took, cmp.Or(s.Detail, "-"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if r.OK {
		fmt.Fprintf(d.out, "the way through %s to %s works: %s in all\n", r.Dir, r.Redis, all.Round(time.Microsecond))
	}
	for _, line := range r.Left {
		fmt.Fprintln(d.out, "left: "+line)
	}
	return nil
}

// verdict is how the command ends.
func (r *drillReport) verdict(ctx context.Context) error {
	text := ""
	for _, s := range r.Steps {
		if s.Result == stepFailed && text == "" {
			text = fmt.Sprintf("could not %s: %s", s.Step, s.Detail)
		}
	}
	if ctx.Err() != nil && !r.OK {
		text = "interrupted"
	}
	switch {
	case len(r.Left) > 0:
		return leftError{strings.Join(append([]string{cmp.Or(text, "not all was taken out again")}, r.Left...), "; left: ")}
	case text != "":
		return errors.New(text)
	}
	return nil
}
