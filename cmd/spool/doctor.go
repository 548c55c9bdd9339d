package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/spf13/cobra"
)

// doctorTimeout bounds a run of doctor, if no other time is given.
const doctorTimeout = 10 * time.Second

func newDoctorCommand() *cobra.Command {
	var flags common
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for everything that makes an outage lose jobs",
		Long: `doctor looks at Redis, at the way there, and at a spool, and says of each check
what it has seen and what to do:

  ok    nothing to do
  warn  jobs can be lost, or wait, if something else happens; or the check could
        not be made
  fail  jobs are refused, stuck or lost: now, or with the next crash of Redis

Areas: network (names, certificates, each sentinel or node), server (version,
role, persistence, eviction, memory, replicas), rights of this user, clock,
asynq (queues, active tasks without a lease), spool (the directory, what living
processes say, and what dead ones left).

It changes nothing but the key asynq:{default}:spool:probe, which it sets to
prove a write and which expires after a minute. What is named neither by --redis
nor by --dir is not looked at, and doctor says so. Name the user that the service
has, so that its rights are checked; what that user may not see is a warning.

Exit codes: 0 no check failed, also with warnings; 1 a check failed; 2 called
wrongly.`,
		Example: "  spool doctor --dir /var/lib/myservice/spool --redis redis://localhost:6379",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDoctor(cmd.Context(), flags, timeout, cmd.OutOrStdout())
		},
	}
	flags.addFlags(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", doctorTimeout, "what has not answered after this `duration` counts as not there")
	return cmd
}

func runDoctor(ctx context.Context, flags common, timeout time.Duration, out io.Writer) error {
	if timeout <= 0 {
		return usageError{"--timeout must be positive"}
	}
	opt, err := flags.redisOpt()
	if err != nil {
		return err
	}
	dir, noDir := flags.spoolDir()
	if noDir != nil && opt == nil {
		return usageError{"nothing to look at: give --dir or --redis, or set SPOOL_DIR or REDIS_URL"}
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d, err := diagnose(bounded, opt, dir, timeout)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return errors.New("interrupted")
	}
	if flags.json {
		if err := printJSON(out, d); err != nil {
			return err
		}
	} else {
		d.print(out)
	}
	if n := d.count(resultFail); n > 0 {
		return fmt.Errorf("%s failed", plural(n, "check"))
	}
	return nil
}

// diagnose makes all checks of what is named. It looks at Redis and at the spool at the
// same time: one that hangs leaves the other its time.
func diagnose(ctx context.Context, opt asynq.RedisConnOpt, dir string, timeout time.Duration) (*diagnosis, error) {
	d := &diagnosis{Dir: dir, Result: resultOK, LeftOut: []string{}}
	var seen spoolFacts
	var err error
	together(func() {
		if opt != nil {
			err = d.examineRedis(ctx, opt, timeout)
		}
	}, func() {
		if dir != "" {
			seen = within(ctx, func() spoolFacts { return lookAtSpool(ctx, dir) }, spoolFacts{dir: dir, err: errDiskHangs})
		}
	})
	if opt == nil {
		d.LeftOut = append(d.LeftOut, "Redis was not looked at: give --redis or set REDIS_URL")
	}
	if dir == "" {
		d.LeftOut = append(d.LeftOut, "no spool was looked at: give --dir or set SPOOL_DIR")
	} else {
		d.add("spool", judgeSpool(seen, d.Redis)...)
	}
	return d, err
}

// together runs all at the same time.
func together(fns ...func()) {
	var wg sync.WaitGroup
	for _, fn := range fns {
		wg.Go(fn)
	}
	wg.Wait()
}

// eachOf runs fn for the numbers below n at the same time.
func eachOf(n int, fn func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}

// within returns what fn returns, or late when ctx ends before: fn, which cannot be
// stopped, is then left behind.
func within[T any](ctx context.Context, fn func() T, late T) T {
	done := make(chan T, 1)
	go func() { done <- fn() }()
	select {
	case v := <-done:
		return v
	case <-ctx.Done():
		return late
	}
}
