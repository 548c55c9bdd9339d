package main

import "github.com/spf13/cobra"

// newOutageTopic returns the runbook, which is shown by 'spool help outage'.
func newOutageTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "outage",
		Short: "What to do when Redis is away: the runbook",
		Long: `What happens to jobs now

  New jobs      The services write them to their spool and sync the disk, and
                Enqueue returns nil: they are safe. Callers do not wait for Redis.
  Queued jobs   What Redis holds is not touched. If Redis loses its memory, it
                loses them: see "Afterwards".
  Running jobs  Workers cannot record what they finish while Redis is away;
                asynq runs such a job again some minutes after Redis is back.
  In doubt      A job whose reply was lost lies in the spool, and may be in Redis
                as well. It goes under the same id, so Redis refuses the second.

What to look at

  spool status --dir DIR --redis URI --watch
                Is there an outage, since when, and why? How many jobs wait, how
                old is the oldest, how long until the spool is full?
  spool ping --redis URI --wait
                Says when Redis takes writes again. A PING proves nothing: a
                replica, a full Redis and one that cannot save answer it as well.
  spool doctor --dir DIR --redis URI
                Looks for what stands in the way: role, memory, persistence,
                rights, network, clock, the disk of the spool.
  The services' logs: "outage begins" and "outage ends", once each.

What to do

  1. Bring Redis back, or fail over. The services try about twice a second, every
     two seconds where it is silent, and go on by themselves: nothing needs to be
     restarted.
  2. Look at the time until the spool is full ("full in"). If that is short, make
     room on the disk, or raise Config.Spool.MaxBytes. A full spool loses nothing
     that it holds, but new jobs are refused with ErrFull.
  3. If Redis comes back weak, 'spool pause' before it does: live jobs go to it at
     once, and what is spooled waits for 'spool resume'.
  4. If Redis is gone for good: point the services to the new one. What they
     spooled for the old one is foreign there. 'spool drain --to URI' sends it, or
     Config.AcceptTargets has the services do so.
  5. If a host or a pod is lost, and its disk is not: 'spool adopt' takes the spool
     over on another host; 'spool export' and 'spool import' move jobs as text.

What not to do

  Do not delete files in the spool: they are the jobs. Do not copy a spool that is
  in use with cp: 'spool backup' makes a consistent copy. Do not run FLUSHALL to
  "start clean". Do not enqueue again what a service has accepted: the job is safe,
  and would run twice.

Afterwards

  spool status  nothing is pending, no dead letters, no quarantine. The services
                replay by themselves; 'spool drain' sends what processes that have
                ended left behind.
  spool dead ls jobs that were refused for their own sake, each with the reason;
                'spool dead retry' once the reason is gone.
  spool doctor  queues that Redis forgot (they are registered again with the next
                job), active tasks that no worker holds.
  If Redis restarted from an old state, it has lost jobs that it had acknowledged:
  they are not in the spool, which only has what Redis did not take. Services with
  Config.Guard notice, and send them again by themselves: 'spool status' says how
  many. After Redis was restored from a backup by hand, 'spool guard --check' compares
  what they keep with what Redis holds, and sends what is missing.

Going back to plain asynq with a full spool

  Stop the services, run 'spool drain' until it ends with exit code 0, then start
  them without jobspool. Or start them first and drain meanwhile: new jobs then go
  ahead of the spooled ones. What drain leaves it names.`,
	}
}
