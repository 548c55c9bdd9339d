package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"
	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
)

const enqueueHelp = `enqueue enqueues one task, for scripts and cron: into Redis if it takes the task
within half a second, else into the spool. --redis and --dir are both needed. The
directory is created, with mode 0700, if it is missing.

It prints one line: the task's id, its queue, and where it is:

  redis     Redis has acknowledged it
  spool     it is on disk, Redis surely does not have it
  in doubt  it is on disk, and Redis may have it as well: no answer came

What is on disk stays there when enqueue ends: it does not wait for Redis. It is sent
by the next service that runs with this directory and this Redis, or by spool drain;
under the same id, so that Redis refuses a second copy. For a service to be able to
take it over, enqueue must run as the service's user.

The flags are asynq's options and mean what they mean there. A time is as in
2026-11-23T20:00:00Z (RFC 3339). Without --payload and --payload-file the task has
no payload. Other users can read command lines: for what they must not see use
--payload-file.

The exit code is 0 if the task is in Redis or on disk, 1 if it was not accepted. A
task whose --task-id or --unique lock another one has is not accepted. While Redis
is away others may not be known: then their replay lets one of them through. With a
--task-id a call that failed can be repeated without a second task.`

func newEnqueueCommand() *cobra.Command {
	var e enqueuer
	cmd := &cobra.Command{
		Use:   "enqueue",
		Short: "Enqueue one task: into Redis, or into the spool while Redis is away",
		Long:  enqueueHelp,
		Example: `  spool enqueue --dir /var/lib/myservice/spool --redis redis://localhost:6379 \
    --type report:daily --queue low --unique 23h
  make-report | spool enqueue --type report:send --payload-file - --process-in 10m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e.in, e.out, e.err = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			return e.run(cmd.Context(), cmd.Flags().Changed)
		},
	}
	e.flags.addFlags(cmd)
	e.flags.addForce(cmd)
	e.task.addFlags(cmd)
	return cmd
}

// enqueuer is one run of spool enqueue.
type enqueuer struct {
	flags    common
	task     taskFlags
	in       io.Reader
	out, err io.Writer
}

// enqueued is what the command prints.
type enqueued struct {
	ID        string     `json:"id"`
	Queue     string     `json:"queue"`
	Type      string     `json:"type"`
	State     string     `json:"state"` // asynq's
	Where     string     `json:"where"` // redis, spool or in doubt
	ProcessAt *time.Time `json:"process_at,omitempty"`
	Cause     string     `json:"cause,omitempty"` // why it is not in Redis
}

func (e enqueuer) run(ctx context.Context, given func(flag string) bool) error {
	dir, opt, err := e.flags.place()
	switch {
	case err != nil:
		return err
	case opt == nil:
		return usageError{"no Redis named: give --redis or set REDIS_URL"}
	}
	task, opts, err := e.task.read(ctx, e.in, given)
	if err == nil {
		err = e.flags.beOwner(dir)
	}
	if err != nil {
		return err
	}
	result, err := enqueueTask(ctx, dir, opt, task, opts)
	if err != nil {
		return e.refused(err)
	}
	return e.print(dir, result)
}

// enqueueTask enqueues by a Producer that lives no longer than that. What it could not
// send, and what it found, is left for others: only they know when a job of theirs is too
// late. How large a spool may be is a matter of theirs, too.
func enqueueTask(ctx context.Context, dir string, opt asynq.RedisConnOpt, task *asynq.Task, opts []asynq.Option) (result enqueued, err error) {
	p, err := queue.New(queue.Config{ //nolint:contextcheck // New waits for nothing
		Redis: opt, SpoolDir: dir, Logger: slog.New(slog.DiscardHandler), Spool: queue.SpoolConfig{MaxBytes: -1},
		Replay: queue.ReplayConfig{Only: func(queue.JobEvent) bool { return false }},
	})
	if err != nil {
		return enqueued{}, err
	}
	var where queue.Where
	info, err := p.EnqueueContext(ctx, task, append(opts, queue.ReportTo(&where))...)
	st := p.Stats()
	closeErr := p.Close() //nolint:contextcheck // bounded by itself
	if err != nil {
		return enqueued{}, errors.Join(err, closeErr)
	}
	// An error of Close is none of the task's, which is where it is.
	result = enqueued{ID: info.ID, Queue: info.Queue, Type: info.Type, State: info.State.String(), Where: where.String()}
	if info.State == asynq.TaskStateScheduled {
		result.ProcessAt = &info.NextProcessAt
	}
	if where != queue.InRedis {
		result.Cause = outageCause(st, info.Queue)
	}
	return result, nil
}

// outageCause says what stops the jobs of a queue.
func outageCause(st queue.Stats, name string) string {
	for _, o := range st.Queues {
		if o.Queue == name {
			return o.Cause
		}
	}
	return cmp.Or(st.OutageCause, "Redis gave no answer in time")
}

// refused says why the task was not accepted.
func (e enqueuer) refused(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted; nothing was enqueued")
	case errors.Is(err, asynq.ErrTaskIDConflict):
		return fmt.Errorf("not enqueued: a task with this id exists: %s in queue %s", e.task.id, e.task.queue)
	case errors.Is(err, asynq.ErrDuplicateTask):
		return fmt.Errorf("not enqueued: a task with this type, payload and queue holds the unique lock: %s in queue %s", e.task.typename, e.task.queue)
	}
	return err
}

func (e enqueuer) print(dir string, r enqueued) error {
	if e.flags.json {
		return printJSON(e.out, r)
	}
	fmt.Fprintf(e.out, "%s in queue %s: %s\n", r.ID, r.Queue, r.Where)
	if r.Where != queue.InRedis.String() {
		fmt.Fprintf(e.err, "Redis: %s\nThe task is safe in %s. A service that runs with it sends the task, or 'spool drain' does.\n", r.Cause, dir)
	}
	return nil
}
