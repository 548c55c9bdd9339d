package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
)

func newDrainCommand() *cobra.Command {
	var flags common
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Send what dead processes left in a spool to Redis",
		Long: `drain adopts the owners in the spool whose process has ended and whose target is
the Redis given, and sends their jobs there, oldest first. Each job goes under
the id it has had from the start, so one that Redis has already is not added
again. A job that cannot be sent stays in the spool.

An owner that is alive replays by itself and is left alone. An owner of another
target is foreign and is left alone, too.

drain ends with exit code 0 only when nothing is left in the spool, and with 3
when something is: jobs not sent, dead letters, foreign owners, owners that are
alive and hold jobs, files that cannot be read. If Redis goes away in the middle
drain waits for it, until --timeout; Ctrl-C ends it at any time and loses
nothing.`,
		Example: "  spool drain --dir /var/lib/myservice/spool --redis redis://localhost:6379 --timeout 5m",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := drainer{flags: flags, timeout: timeout, out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()}
			return d.run(cmd.Context())
		},
	}
	flags.addFlags(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after this `duration`; 0 waits as long as it takes")
	return cmd
}

// drainer is one run of spool drain.
type drainer struct {
	flags    common
	timeout  time.Duration
	out, err io.Writer
}

// drained is what the command prints.
type drained struct {
	Target       string   `json:"target"`
	Replayed     int64    `json:"replayed"`
	AlreadyThere int64    `json:"already_there"`
	Superseded   int64    `json:"superseded"`
	Dead         int64    `json:"dead"`       // set aside in this run
	Unreadable   int64    `json:"unreadable"` // found damaged in this run; see the quarantine directory
	Left         []string `json:"left"`       // empty: nothing is left
}

func (d drainer) run(ctx context.Context) error {
	if d.timeout < 0 {
		return usageError{"--timeout must not be negative"}
	}
	dir, opt, err := d.flags.place()
	switch {
	case err != nil:
		return err
	case opt == nil:
		return usageError{"no Redis named: give --redis or set REDIS_URL"}
	}
	before, err := look(ctx, dir, opt)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return errInterrupted
	}
	result := drained{Target: before.Redis.Target, Left: []string{}}
	var drainErr error
	if before.drainable() {
		if !before.Redis.Writable {
			return fmt.Errorf("Redis %s takes no writes: %s; %s in the spool are safe, try again later", //nolint:staticcheck // a name
				before.Redis.Target, before.Redis.Error, plural(before.Pending, "job"))
		}
		drainErr = d.drain(ctx, dir, opt, &result)
	}
	owners, err := inspect(dir)
	if err != nil {
		return err
	}
	after := newStatus(dir, before.Redis, owners)
	result.Left = after.left()
	if err := d.print(result); err != nil {
		return err
	}
	return verdict(ctx, result, drainErr)
}

// drainable reports whether there is an owner to adopt.
func (s *status) drainable() bool {
	for _, o := range s.Owners {
		if !o.Alive && !o.Foreign {
			return true
		}
	}
	return false
}

// drain replays with a Producer that takes no jobs.
func (d drainer) drain(ctx context.Context, dir string, opt asynq.RedisConnOpt, result *drained) error {
	p, err := queue.New(queue.Config{ //nolint:contextcheck // New waits for nothing
		Redis: opt, SpoolDir: dir, DrainOnly: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	if d.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.timeout)
		defer cancel()
	}
	show := startProgress(d.err, p.Stats)
	err = p.Drain(ctx)
	show.stop()
	err = errors.Join(err, p.Close())
	st := p.Stats()
	result.Replayed, result.AlreadyThere, result.Superseded = st.Replayed, st.AlreadyThere, st.Superseded
	result.Dead, result.Unreadable = st.Dead, st.Unreadable
	return err
}

// left says in words what is still in the spool.
func (s *status) left() []string {
	left := []string{}
	for _, o := range s.Owners {
		who := fmt.Sprintf("owner %s (pid %d on %s)", o.Name, o.PID, o.Host)
		switch {
		case o.Alive && o.Segments > 0:
			left = append(left, who+" is alive and holds jobs: it replays them itself")
		case o.Alive:
		case o.Foreign && *o.Pending > 0:
			left = append(left, fmt.Sprintf("%s is foreign: %s for %s", who, plural(*o.Pending, "job"), o.Target))
		case *o.Pending > 0:
			left = append(left, fmt.Sprintf("%s: %s not sent", who, plural(*o.Pending, "job")))
		}
		if o.DeadLetters > 0 && !o.Alive {
			left = append(left, fmt.Sprintf("%s: %s", who, plural(o.DeadLetters, "dead letter")))
		}
		for _, bad := range o.Bad {
			left = append(left, who+": "+bad)
		}
	}
	return left
}

func (d drainer) print(r drained) error {
	if d.flags.json {
		return printJSON(d.out, r)
	}
	fmt.Fprintf(d.out, "%d sent, %d already there, %d superseded, %s\n", r.Replayed, r.AlreadyThere, r.Superseded,
		plural(int(r.Dead), "new dead letter"))
	for _, line := range r.Left {
		fmt.Fprintln(d.out, "left: "+line)
	}
	return nil
}

// errInterrupted is how a drain ends by Ctrl-C.
var errInterrupted = leftError{"interrupted; what is left is safe in the spool"}

// verdict is how the command ends.
func verdict(ctx context.Context, r drained, err error) error {
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return leftError{"timed out; what is left is safe in the spool"}
	case len(r.Left) > 0:
		return leftError{"not empty: " + strings.Join(r.Left, "; ")}
	}
	return err
}
