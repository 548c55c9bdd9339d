package main

import "github.com/spf13/cobra"

const demoLong = `Shows what a Producer is for, in one process and with nothing but this program:
a Redis embedded in it (or, with --redis-server, a real one), a worker that is a
plain asynq server, and a queue.Producer that enqueues at a steady rate. A third
of the way through, Redis is taken away; the jobs go on, into a spool in a
temporary directory. Then Redis comes back, the spool is replayed, and when the
worker has run everything the books are read.

While it runs, it shows the Producer's state and log and what became of the jobs
so far: accepted (Enqueue returned nil), sent (to Redis at once), spooled (to
disk), replayed (from disk to Redis), pending (still on disk) and processed (run
by the worker). At the end it shows how long Enqueue took before the outage,
during it (until the Producer had seen Redis again) and after it, and the sums:
lost are jobs accepted and never processed, duplicated are runs too many. It
fails unless both are zero.

Redis is taken away while the worker has no job in hand, for which the demo holds
back its own jobs for a moment: a job that asynq is just processing when Redis
dies is given back by asynq only minutes later.`

const demoExample = `  spool demo                              # ten seconds, needs nothing
  spool demo --redis-server               # kill -9 and restart a real redis-server
  spool demo --rate 200 --outage 30s      # fewer jobs, a longer outage`

// newDemoCommand returns the command "demo".
func newDemoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:          "demo",
		Short:        "Take Redis away under load and count: no job lost, none run twice",
		Long:         demoLong,
		Example:      demoExample,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.jobsSet, o.rateSet = cmd.Flags().Changed("jobs"), cmd.Flags().Changed("rate")
			plan, err := o.plan()
			if err != nil {
				return err
			}
			return runDemo(cmd.Context(), plan, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.jobs, "jobs", demoJobs, "`number` of jobs in all; without --rate, over a run of --outage + 7s")
	flags.IntVar(&o.rate, "rate", demoRate, "`number` of jobs per second; without --jobs, for a run of --outage + 7s")
	flags.DurationVar(&o.outage, "outage", demoOutage, "how long Redis is away")
	flags.BoolVar(&o.realRedis, "redis-server", false, "run a real redis-server (must be on PATH), end it by SIGKILL and start it again")
	return cmd
}
