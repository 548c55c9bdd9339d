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
// Up to eight commands at a time go to Redis from their callers' goroutines, each over a
// connection of its own. More are coalesced into pipelines by two goroutines, so that
// however many callers wait for a server that does not answer, ten attempts at it are all
// there is. A caller leaves when its budget is over: its job goes to the spool, in doubt if
// its command may have been sent.
//
// # In doubt
//
// An attempt that gets no reply may have reached Redis, now or later. The client never
// sends twice by itself, so one error means one attempt; the job is spooled and replayed
// with the id it had, and Redis refuses the second copy for as long as it knows the
// first: until the job is completed, or until its retention has passed, which
// Config.DedupeWindow gives a floor to. What an error of an attempt means is one of
//
//	in doubt      no reply, and whatever is not known to be one of the others
//	not written   refused and failed dials, and replies that mean that Redis takes no
//	              writes now: an outage
//	denied        this user may not write this queue's keys: an outage of the queue
//	odd           another error of the script, which may have done half its work: an
//	              outage of the queue
//	refused       the task is larger than Redis takes: an error to the caller
//
// # Outage
//
// Refused and reset connections, timeouts, LOADING, READONLY, MASTERDOWN,
// CLUSTERDOWN, OOM, MISCONF, NOREPLICAS, BUSY and refused credentials are an
// outage: of all queues where there is one server or a Sentinel's master, of the queue on
// Cluster, where a queue is one slot. A queue can also have an outage of its own, see
// above. An attempt that was cut short by its caller's own deadline counts only when three
// in a row were.
//
// In an outage Enqueue does not try Redis; only the replayer does, with the oldest record
// that the outage stops, or with SET asynq:{queue}:spool:probe when there is none: every 0.5
// to 0.9 s, and where the server is silent as soon as the try before has waited its 2 s. The
// first write that Redis takes ends the outage; but where Redis takes other writes and
// answers jobs with odd errors, it takes a job. If no record can be sent, because replay is
// paused or nothing of the queue is spooled, the outage ends with a probe all the same, and
// the next call of Enqueue tells: at once the first time, then after 1 s, 2 s and so on up to
// a minute, until Redis takes a job. One line is logged when an outage begins and one when it
// ends, and Config.OnStateChange is called.
//
// # Twins
//
// While a job lies in the spool, the Producer refuses others with its unique lock, and
// others with its id if the caller chose that, as Redis would: with
// [asynq.ErrDuplicateTask] and [asynq.ErrTaskIDConflict]. It knows what it spooled itself
// and what it adopted. Of twins that two processes have spooled, the replay lets one
// through.
//
// asynq takes a unique lock before it sees that the id exists, and would leave it behind:
// it is given back.
//
// # Replay
//
// Queues take turns, by Config.Replay.Weights; within a queue the oldest go first. The
// replayer sends pipelines of 1, then 16, 128 and 500 records. While one is on its way, the
// next is read and composed, and what became of the one before is committed: a crash
// re-sends at most those two, under the same ids. What Redis answers decides:
//
//	enqueued                               delivered
//	id taken, and this package minted it   already there
//	id taken, the caller chose it          already there if type, payload and queue
//	                                       are equal, else a dead letter
//	lock held under this id                already there
//	lock held under another id             superseded
//	the same three, where an earlier       repaired by one script: what is in no list is
//	attempt failed inside the script       enqueued, what a worker has or had is left alone
//	an odd error, and Redis took another   three tries, then a dead letter
//	job of the queue; or the error is of
//	the record's own keys or group
//	longer in the spool than MaxSpoolAge,  dead letter, without being sent
//	or past its deadline
//	no answer, or an outage                stays pending; where Redis takes others it is
//	                                       passed over, and tried again alone, later
//
// While the spool is being replayed new jobs go to Redis at once: fresh first. With
// Config.Replay.Ordering FIFO they go behind the older ones of their queue.
//
// A replay stops short of Redis's maxmemory and goes on when there is room: with its memory
// full, workers could not take jobs out either. It holds back when calls of Enqueue get slow
// beside it.
//
// # Guard
//
// Redis loses what it has acknowledged when it crashes without appendonly, when a replica
// that lagged is promoted, when it is emptied or restarted from an old state. With
// Config.Guard each job that Redis has acknowledged, at once or at a replay, is kept in
// SpoolDir/journal for that long, by a goroutine of its own, in the page cache within some
// 8 ms: that survives the process, and not the host.
//
//	entries     1 2 3 4 5 6 7 8 9          acknowledged, in the journal
//	marker              4         9        in Redis, per producer and queue, every 100 ms
//	after a loss        4                  what Redis went back to: 5 to 9 are suspect
//
// Redis executes, and forgets, in one order. So a marker that is back at an earlier value
// proves a loss, also one without a lost connection, and of the jobs that were
// acknowledged since that value those that Redis does not hold are sent again, under the
// same ids, by way of the spool. The marker is set by a script that leaves any other value
// than the expected alone: the evidence survives a lost reply. The first one of a queue is set
// before the first job of the queue is sent; where its reply is lost, a loss before the next
// one goes unnoticed.
//
// Every five seconds it is looked which jobs are gone from Redis, completed or archived; of
// more than 100,000 jobs in the journal that takes longer, a second for each 20,000. With the
// marker intact they are finished, and let go of. So after a loss no more can run twice than what
// was finished since. How many of them were, nobody can tell any more: Stats.ResentMaybeDone
// counts all that were sent again and were due, and is an upper bound. Retention does not help
// here: what it keeps is in the Redis that was lost, and with it that a job was finished. What
// is known to be finished is known to this process only: to those who adopt its journal a
// job is finished when Redis, with the marker intact, does not have it.
//
// A loss that leaves the last marker as it is, of less than 100 ms, goes unnoticed; so does what
// an eviction policy takes. What Redis has lost of one queue is bounded for all queues before
// anything is looked up, so jobs that come after it are not sent again, however much there is
// to look up. While a loss goes on, the journal gives up nothing that may be lost: without room
// it takes no new jobs, see Stats.JournalSkipped.
//
// Config.Confirm is the other way: a job counts as acknowledged only when replicas have it.
//
// # Looking after the spool
//
// Each Producer serves an admin API, HTTP over a Unix socket in its share of SpoolDir, to
// processes of its own user and of root; [Producer.Handler] serves the same on any port. The
// command in cmd/spool asks living processes over their sockets, and serves what dead ones
// left to itself by [OpenOffline]. What is removed or retried waits until nothing that was
// read is on its way to Redis.
//
// A file in SpoolDir pauses the replay of every process there, see [spool.PauseReplay]: it is
// looked for every half second. Outages are still probed for their end, so new jobs go to
// Redis, and Drain fails with [ErrPaused].
//
// # Tracing
//
// Config.Observer is told when a call of Enqueue, a write to the spool and the replay of a job
// begin and end, and may add headers to tasks: a trace's context, and at the replay how long the job
// was spooled. They go behind what asynq has encoded, since the options inside a task are private
// and it cannot be made again; the unique key, made of queue, type and payload, and the id stay as
// they are. From there they are in the record and in the journal like any header. The module queue/queueotel is
// an Observer for OpenTelemetry, and a middleware for workers.
//
// # Targets
//
// A target names the Redis that jobs are meant for: see Config.Target. Each Producer's share
// of a SpoolDir says its target. Every five seconds a Producer looks for shares whose
// process is dead, and adopts those whose target is its own, see [SameTarget], or one of
// Config.AcceptTargets; others are foreign and stay where they are. What it has adopted is
// replayed before its own, oldest share first.
//
// # Times
//
// ProcessIn counts from the call. A process-at that has passed in the spool means at
// once; with a group the task is scheduled a second ahead, because asynq does not
// aggregate a task that was scheduled. A unique lock is taken for the time it has
// left, and not at all when that is less than a second. The time since which a task
// is pending, which asynq's tools show as latency, counts from the replay.
//
// # Clients
//
// The Producer has a client of its own, whose settings make one error mean one attempt: no
// retries, one dial, deadlines of the context. On Cluster commands go straight to the
// client of the server that has the queue, because a Cluster client sends again what got no
// reply, whatever its settings; where the slots are is looked up again after MOVED and while
// an outage lasts. A dial that failed is handed to go-redis as a connection that fails,
// which keeps go-redis from logging a line for each, and from answering with an old error
// for a second after Redis is back.
//
// asynq's tools find a queue in the set asynq:queues. A queue is entered there again on each
// new connection, at the end of each outage, and every 30 s while jobs go to it: Redis may
// have been emptied.
package queue
