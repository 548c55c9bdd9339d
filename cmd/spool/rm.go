package main

import "github.com/spf13/cobra"

const rmHelp = `

Jobs are picked by their ids, by flags, or by both: then both must be true of a job.
Without any, --all means all of them. It says how many there are and asks, on a
terminal; elsewhere it needs --yes. What was enqueued after they were counted stays.
What dead owners left is not replayed by anybody while it asks.

Exit code 1 means that an id is unknown (the others are removed all the same), 3 that
jobs may have been left out, because the process that holds them did not answer, or
that it was interrupted.`

func newRmCommand() *cobra.Command {
	c := changer{what: removing}
	return c.command(&cobra.Command{
		Use:   "rm [ID...]",
		Short: "Remove pending jobs from a spool for good",
		Long: `rm removes pending jobs that must not run any more, from the spool of any owner,
living or dead. They are gone for good; 'spool export' can keep a copy. The books
count them as removed.

rm does not take back what Redis has: a job that is in doubt may be there already.` + rmHelp,
		Example: `  spool rm --dir /var/lib/myservice/spool 6b6ea2b5-5e2c-4a4c-9d2a-0f1f8e2f3c11
  spool rm --queue mail --older-than 24h --dry-run
  spool rm --queue mail --older-than 24h --yes`,
	})
}

func newDeadRmCommand() *cobra.Command {
	c := changer{what: removing, dead: true}
	return c.command(&cobra.Command{
		Use:     "rm [ID...]",
		Short:   "Remove dead letters for good",
		Long:    "rm removes dead letters for good, from the spool of any owner, living or dead." + rmHelp,
		Example: `  spool dead rm --dir /var/lib/myservice/spool --reason "its deadline passed" --yes`,
	})
}

func newDeadRetryCommand() *cobra.Command {
	c := changer{what: retrying, dead: true}
	return c.command(&cobra.Command{
		Use:   "retry [ID...]",
		Short: "Make dead letters pending again",
		Long: `retry makes dead letters pending again: a living owner sends them with its next
batch, what a dead one left waits for an adopter or for 'spool drain'. What killed
them must be gone: a job whose deadline or MaxSpoolAge has passed becomes a dead
letter again, but for a Producer with Config.Replay.DeliverLate, as to deadlines.

Dead letters are picked by their ids, by flags, or by both: then both must be true.
Without any, --all means all of them.

Exit code 1 means that an id is unknown (the others are retried all the same), 3 that
dead letters may have been left out, because the process that holds them did not
answer, or that it was interrupted.`,
		Example: `  spool dead retry --dir /var/lib/myservice/spool 6b6ea2b5-5e2c-4a4c-9d2a-0f1f8e2f3c11
  spool dead retry --reason "its task id is taken"`,
	})
}
