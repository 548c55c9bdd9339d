// Package queueprom shows what a [queue.Producer] tells of itself as Prometheus metrics. It is a
// module of its own, so that who uses package queue does not inherit client_golang.
//
// The package makes no compatibility promise before v1: names of metrics may change.
//
// # Metrics
//
// All have the label target. All but those that begin with jobspool_queue_ are there from the
// start, with zeros, for each value of their labels. Counters count since [queue.New].
//
//	jobspool_jobs_accepted_total                      Jobs for which Enqueue returned nil
//	jobspool_jobs_sent_total                          Jobs that Redis acknowledged at once
//	jobspool_jobs_spooled_total                       Jobs written to the spool
//	jobspool_jobs_adopted_total                       Pending jobs that dead processes left and this one took over
//	jobspool_jobs_retried_total                       Dead letters made pending again
//	jobspool_jobs_resent_total                        Jobs that Redis had lost, written to the spool
//	jobspool_jobs_settled_total{outcome}              Jobs that left the spool, by what became of them
//	jobspool_jobs_dead_total{reason}                  Jobs that became dead letters, by the kind of reason
//	jobspool_jobs_in_doubt_total                      Spooled jobs that Redis may have had already
//	jobspool_jobs_in_doubt_settled_total{outcome}     Jobs in doubt, resent and adopted ones included, by what became of them
//	jobspool_jobs_maybe_stored_total                  Jobs refused with ErrMaybeStored, which may be in the spool all the same
//	jobspool_imbalance_jobs{equation}                 By how much the books do not balance; zero but for jobs being counted
//	jobspool_state{state}                             1 for the state that the Producer is in, 0 for the others
//	jobspool_outages_total{scope}                     Outages that have begun: of all jobs, or of one queue's
//	jobspool_outage_seconds_total{scope}              How long outages have lasted, up to now; those of several queues add up
//	jobspool_pending_jobs                             Jobs that wait in the spool
//	jobspool_pending_bytes                            Size of the jobs that wait in the spool
//	jobspool_pending_oldest_age_seconds               Since when the oldest job waits in the spool; 0 if none does
//	jobspool_deferred_jobs                            Pending jobs that Redis did not answer while it took others
//	jobspool_dead_letters                             Dead letters that lie in the spool
//	jobspool_replay_jobs_per_second                   Jobs that the replay settled per second of late
//	jobspool_replay_paused                            1 if a person has paused the replay
//	jobspool_replay_waiting                           1 if the replay waits although Redis takes jobs, for example for room in Redis
//	jobspool_time_to_empty_seconds                    Until nothing is pending, at the present rate; 0 if nothing is pending or replayed
//	jobspool_spool_used_bytes                         Disk blocks of everything in SpoolDir
//	jobspool_spool_left_bytes                         What the spool may still take; as of the last write or look for dead processes
//	jobspool_time_to_full_seconds                     Until the spool is full, at the rate of the last minute; 0 if it does not grow
//	jobspool_spool_stalled                            1 if the disk does not answer
//	jobspool_bad_segments                             Segment files that cannot be read and are left alone
//	jobspool_segments_quarantined_total               Damaged segment files put into quarantine
//	jobspool_orphans                                  Dead processes whose share this one has adopted, and not emptied yet
//	jobspool_foreign_owners                           Shares in SpoolDir of other targets, living or dead, which this process does not adopt
//	jobspool_guard_seconds                            For how long the journal keeps what Redis acknowledged; 0: there is none
//	jobspool_journal_jobs                             Jobs in the journal that are not known to be finished
//	jobspool_journal_bytes                            Size of the journal, finished jobs included
//	jobspool_journal_skipped_total                    Jobs that the journal could not keep
//	jobspool_losses_total                             Times that Redis was found to have lost jobs of a queue
//	jobspool_last_loss_timestamp_seconds              When that was last; 0: never
//	jobspool_jobs_lost_total                          Jobs that Redis had lost, as far as the journal knows them
//	jobspool_jobs_maybe_done_total                    Lost jobs that may have been finished before they were sent again
//	jobspool_queue_pending_jobs{queue}                Jobs of the queue that wait in the spool
//	jobspool_queue_pending_bytes{queue}               Size of the jobs of the queue that wait in the spool
//	jobspool_queue_pending_oldest_age_seconds{queue}  Since when the oldest job of the queue waits in the spool, at most
//	jobspool_attempt_duration_seconds                 Attempts at Redis of single calls of Enqueue, whatever came of them
//	jobspool_append_duration_seconds                  Writes to the spool, as their callers waited for them
//	jobspool_commit_duration_seconds                  Commits of what is written to the spool; many writes share one
//	jobspool_replay_batch_duration_seconds            Batches of the replay, from sending to the last reply
//
// The labels are
//
//	outcome   replayed, already_there, superseded, dead; of jobs_settled_total also removed (by a
//	          person) and unreadable (damaged on disk)
//	reason    undecodable, expired (MaxSpoolAge), deadline, invalid (asynq refuses it), refused
//	          (Redis does), failing (its script fails), id_taken, unknown_reply
//	equation  accepted = sent + spooled; and spooled + adopted + retried + resent = settled + pending
//	state     up, partial, outage
//	scope     all; queue: outages of one queue, which is all there are on Cluster
//	queue     one that has pending jobs: the 100 with the most; empty: all others together
//
// No label and no metric holds a payload, a task id or a password.
//
// # Alerts
//
// The file alerts/alerts.yml has rules for Prometheus. What they name in their annotations are
// commands of cmd/spool.
package queueprom
