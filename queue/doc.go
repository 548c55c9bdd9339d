// Package queue enqueues asynq tasks into Redis, and keeps them on local disk while
// Redis cannot be reached. [Producer] takes the place of an *asynq.Client in a
// service; workers stay on plain asynq.
//
// The package makes no compatibility promise before v1.
//
// # The way of a job
//
//	Enqueue --> asynq composes --> breaker closed? --yes--> one attempt at Redis,
//	            and validates            |                   inline, in one budget
//	                                     no                     |         |
//	                                     v                  answered   outage
//	                                   spool <----------------- | --------+
//	                                     |                      v
//	                                replayer ---------------> Redis ---> workers
//
// asynq itself turns a task into keys and arguments: its client sits on an offline
// decorator of go-redis that keeps what it is given and never dials. The same
// composed command goes to Redis at once, or its meaning goes into the spool: type,
// payload, headers, queue, retries, timeout, deadline, retention, group, process-at
// and unique lock, all times absolute. At the replay asynq composes it again, under
// the same task id. New checks that asynq speaks as expected, and answers
// [ErrIncompatible] if not.
//
// # In doubt
//
// An attempt that gets no reply may have reached Redis. The client never sends
// twice by itself, so one error means one attempt; the job is spooled and replayed
// with the id it had, and Redis refuses the second copy for as long as it knows the
// first: until the job is completed, or until its retention has passed.
//
// # Outage
//
// Refused and reset connections, timeouts, LOADING, READONLY, MASTERDOWN,
// CLUSTERDOWN, OOM, MISCONF, NOREPLICAS, BUSY and refused credentials are an
// outage. In an outage Enqueue does not try Redis; only the replayer does, every 0.5
// to 1 s, with its oldest record, or with SET asynq:{queue}:spool:probe when it has
// none. The first write that Redis takes ends the outage. One line is logged when
// it begins and one when it ends.
//
// # Replay
//
// The replayer sends oldest first, in pipelines of 1, then 16, 128 and 500 records,
// and commits what became of each batch before it sends the next: a crash re-sends
// at most one batch, under the same ids. What Redis answers decides:
//
//	enqueued                               delivered
//	id taken, and this package minted it   already there
//	id taken, the caller chose it          already there if type, payload and queue
//	                                       are equal, else a dead letter
//	lock held under this id                already there
//	lock held under another id             superseded
//	an error that speaks of the record     three tries, then a dead letter
//	no answer, or an outage                stays pending
//
// While the spool is being replayed new jobs go to Redis at once: fresh first.
//
// # Times
//
// ProcessIn counts from the call. A process-at that has passed in the spool means at
// once; with a group the task is scheduled a second ahead, because asynq does not
// aggregate a task that was scheduled. A unique lock is taken for the time it has
// left, and not at all when that is less than a second. The time since which a task
// is pending, which asynq's tools show as latency, counts from the replay.
//
// # What is not here yet
//
// Twins of a job that only lies in the spool are not refused while it lies there: the
// second of two with the same unique key is superseded at the replay, and the second
// with the same id is already there or a dead letter. There is one breaker for all
// queues: a missing permission on one queue's keys, or one Cluster node that is down,
// sends all jobs to the spool until it is mended. On Cluster go-redis may send a
// command twice when a connection breaks: the id makes that harmless, but the caller
// of a unique task may get asynq.ErrDuplicateTask for its own job.
package queue
