package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
)

// defaultMaxAge is the age from which on jobs are sent only if somebody says so: what was
// right to do weeks ago may be wrong now (H52).
const defaultMaxAge = 7 * 24 * time.Hour

func newDrainCommand() *cobra.Command {
	d := &drainer{}
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Send what lies in a spool to Redis",
		Long: `drain has everything in the spool sent to Redis, and waits for it. What the
owners of processes that have ended left it adopts and sends itself, to the Redis
given, if that is the one it was meant for, oldest first. A living owner replays
its jobs by itself; drain asks it to do so now, without the small batches that a
replay begins with, and shows how it gets on.

Each job goes under the id it has had from the start, so one that Redis has
already is not added again. A job that cannot be sent stays in the spool. Dead
owners whose jobs were meant for another Redis are foreign and are left alone.

--to sends their jobs to the Redis it names, for example where the old one is gone
for good. If they were meant for more than one Redis, --from says for which. Jobs in
doubt may be in the old Redis as well: where that is still served by workers, or its
data came along, they run twice. 'spool ls --in-doubt' lists them.

With --queue, --type, --limit or --rate, only the jobs of dead owners are sent: a
living one sends all that it has, at its own rate. Jobs of dead owners that are
older than --max-age are left, since what was right to do then may be wrong now.

drain ends with exit code 0 only when nothing is left in the spool, and with 3
when something is: jobs not sent, dead letters, foreign owners, files that cannot
be read. It also says why. Without --wait it fails at once if Redis takes no
writes, and leaves the jobs of queues that have an outage while others have none;
on a Cluster each outage is one of queues. If all of Redis goes away in the middle
it waits, until --timeout; Ctrl-C ends it at any time and loses nothing. With
--dry-run, 3 means that some jobs could not be counted.`,
		Example: `  spool drain --dir /var/lib/myservice/spool --redis redis://localhost:6379 --timeout 5m
  spool drain --dir /var/lib/myservice/spool --redis redis://localhost:6379 --queue critical --limit 1000
  spool drain --dir /var/lib/myservice/spool --to redis://standby:6379 --from redis://old:6379/0 --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out, d.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return d.run(cmd.Context())
		},
	}
	d.addFlags(cmd)
	return cmd
}

// drainer is one run of spool drain.
type drainer struct {
	flags    common
	pick     choice
	rate     int
	to       string
	from     []string // targets
	timeout  time.Duration
	wait     bool
	dryRun   bool
	out, err io.Writer

	late      bool    // Config.Replay.DeliverLate
	maxMemory float64 // Config.Replay.MaxMemory
}

func (d *drainer) addFlags(cmd *cobra.Command) {
	d.flags.addFlags(cmd)
	d.flags.addForce(cmd)
	f := cmd.Flags()
	f.StringVar(&d.pick.queue, "queue", "", "only jobs of this `queue`")
	f.StringVar(&d.pick.typename, "type", "", "only jobs of this `type`")
	f.IntVar(&d.pick.limit, "limit", 0, "at most so `many` jobs; 0: all")
	f.DurationVar(&d.pick.maxAge, "max-age", defaultMaxAge, "leave jobs that were accepted longer ago; 0: send all")
	f.IntVar(&d.rate, "rate", 0, "at most so `many` jobs per second; 0: as many as can be")
	f.StringVar(&d.to, "to", "", "send all jobs of dead owners to this `URI`, whatever Redis they were meant for")
	f.StringArrayVar(&d.from, "from", nil, "with --to: only jobs that were meant for this `target`, as 'spool status' shows it; may be repeated")
	f.DurationVar(&d.timeout, "timeout", 0, "give up after this `duration`; 0 waits as long as it takes")
	f.BoolVar(&d.late, "deliver-late", false, "send jobs of dead owners whose deadline has passed, too, in place of making them dead letters")
	f.Float64Var(&d.maxMemory, "max-memory", queue.DefaultMaxMemory,
		"fill Redis up to this `share` of its maxmemory with jobs of dead owners, then wait for room; negative: never wait")
	f.BoolVar(&d.wait, "wait", false, "wait for the end of an outage")
	f.BoolVar(&d.dryRun, "dry-run", false, "only count what would be sent")
}

// drained is what the command prints.
type drained struct {
	Target       string   `json:"target"` // of the Redis given
	Replayed     int64    `json:"replayed"`
	AlreadyThere int64    `json:"already_there"`
	Superseded   int64    `json:"superseded"`
	Dead         int64    `json:"dead"`       // set aside in this run
	Unreadable   int64    `json:"unreadable"` // found damaged in this run; see the quarantine directory
	Left         []string `json:"left"`       // empty: nothing is left
	Why          []string `json:"why"`        // what went wrong
}

func (r *drained) add(before, after queue.Stats) {
	r.Replayed += after.Replayed - before.Replayed
	r.AlreadyThere += after.AlreadyThere - before.AlreadyThere
	r.Superseded += after.Superseded - before.Superseded
	r.Dead += after.Dead - before.Dead
	r.Unreadable += after.Unreadable - before.Unreadable
}

func (d *drainer) run(ctx context.Context) error {
	dir, opt, err := d.place()
	if err != nil {
		return err
	}
	bounded := ctx
	if d.timeout > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, d.timeout)
		defer cancel()
	}
	if d.dryRun {
		return d.rehearse(bounded, dir, opt)
	}
	before, err := d.ready(ctx, bounded, dir, opt)
	if err != nil {
		return err
	}
	var own *queue.Producer
	if bounded.Err() == nil {
		if own, err = d.sender(dir, opt, before); err != nil { //nolint:contextcheck // New waits for nothing
			return err
		}
	}
	result := drained{Left: []string{}, Why: []string{}}
	if before.Redis != nil {
		result.Target = before.Redis.Target
	}
	drainErr := d.drain(bounded, dir, own, &result)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.lastLook(bounded))
	defer cancel()
	after, err := look(last, dir, nil)
	if err != nil {
		return err
	}
	after.judge(before.Redis)
	result.Left = after.left(d.notAsked())
	if d.pick.tooOld.Load() {
		result.Left = append(result.Left, fmt.Sprintf("jobs older than %v were not sent: --max-age 0 sends them, too", d.pick.maxAge))
	}
	if err := d.print(result); err != nil {
		return err
	}
	return verdict(bounded, result, drainErr)
}

// lastLook is how long to wait at the end for processes to say what they hold: not for long
// if there is no time left.
func (d *drainer) lastLook(bounded context.Context) time.Duration {
	if bounded.Err() != nil {
		return 2 * time.Second
	}
	return socketTimeout
}

// place returns the directory, and the Redis to send to: nil where none was named.
func (d *drainer) place() (dir string, opt asynq.RedisConnOpt, err error) {
	if d.timeout < 0 || d.pick.limit < 0 || d.pick.maxAge < 0 || d.rate < 0 {
		return "", nil, usageError{"--timeout, --limit, --max-age and --rate must not be negative"}
	}
	if d.to == "" && len(d.from) > 0 {
		return "", nil, usageError{"--from belongs to --to: without it, jobs go to the Redis that they were meant for"}
	}
	for _, target := range d.from {
		if err := queue.CheckTarget(target); err != nil {
			return "", nil, usageError{"--from: " + err.Error()}
		}
	}
	if d.maxMemory > 1 || d.maxMemory == 0 {
		return "", nil, usageError{"--max-memory is a share of Redis's maxmemory: more than 0, at most 1, or negative"}
	}
	if dir, opt, err = d.flags.place(); err != nil || d.to == "" {
		return dir, opt, err
	}
	if d.flags.redis != "" {
		return "", nil, usageError{"--to and --redis exclude each other"}
	}
	if opt, err = queue.ParseURI(d.to); err != nil {
		return "", nil, usageError{"--to: " + err.Error()}
	}
	return dir, opt, nil
}

// ready looks at spool and Redis, and returns when jobs can be sent. Waiting is bounded.
func (d *drainer) ready(ctx, bounded context.Context, dir string, opt asynq.RedisConnOpt) (st status, err error) {
	for told := ""; ; {
		st, err = look(bounded, dir, opt)
		switch {
		case ctx.Err() != nil:
			return st, ended(ctx)
		case err != nil:
			return st, err
		case d.choose(st) != nil:
			return st, d.choose(st)
		case st.Paused != nil:
			return st, fmt.Errorf("replay is paused since %s by %s%s: run 'spool resume' first",
				st.Paused.Since.Local().Format(time.DateTime), st.Paused.By, inParentheses(st.Paused.Why))
		case opt == nil && d.sendsItself(st):
			return st, usageError{"no Redis named for what dead owners left: give --redis or set REDIS_URL"}
		}
		if bounded.Err() != nil {
			return st, nil //nolint:nilerr // what is left is said before the end
		}
		trouble := ""
		if d.sendsItself(st) && !st.Redis.Writable {
			trouble = fmt.Sprintf("Redis %s takes no writes: %s", st.Redis.Target, st.Redis.Error)
		}
		switch {
		case trouble == "":
			return st, d.flags.beOwner(dir)
		case !d.wait:
			return st, fmt.Errorf("%s; %s in the spool are safe, try again later or with --wait", trouble, plural(st.Pending, "job"))
		case trouble != told:
			fmt.Fprintln(d.err, "waiting: "+trouble)
			told = trouble
		}
		select {
		case <-bounded.Done():
			return st, ended(bounded)
		case <-time.After(time.Second):
		}
	}
}

// sendsItself reports whether there is an owner for this process to adopt.
func (d *drainer) sendsItself(st status) bool { return slices.ContainsFunc(st.Owners, d.takes) }

func (d *drainer) print(r drained) error {
	if d.flags.json {
		return printJSON(d.out, r)
	}
	fmt.Fprintf(d.out, "%s sent, %s already there, %s superseded, %s\n", count(r.Replayed), count(r.AlreadyThere), count(r.Superseded),
		plural(int(r.Dead), "new dead letter"))
	for _, line := range r.Left {
		fmt.Fprintln(d.out, "left: "+line)
	}
	for _, line := range r.Why {
		fmt.Fprintln(d.out, "why: "+line)
	}
	return nil
}

var (
	errInterrupted = leftError{"interrupted; what is left is safe in the spool"}
	errTimedOut    = leftError{"timed out; what is left is safe in the spool"}
)

// ended is how a drain ends whose context has.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errTimedOut
	}
	return errInterrupted
}

// verdict is how the command ends.
func verdict(ctx context.Context, r drained, err error) error {
	switch {
	case ctx.Err() != nil:
		return ended(ctx)
	case len(r.Left) > 0:
		return leftError{"not empty: " + strings.Join(r.Left, "; ")}
	}
	return err
}
