// Package queueotel traces jobs with OpenTelemetry, from the call of Enqueue through spool and replay
// to the worker. [New] is the Observer of a queue.Producer; [Middleware] is for workers, which are
// plain asynq's.
//
// The package makes no compatibility promise before v1.
//
//	caller ── enqueue mail          producer span, child of the caller's; its context goes
//	              └─ spool mail     into the task's headers. Only in an outage: the write
//	                                to disk
//	replay mail                     a trace of its own, maybe hours later, linked to enqueue
//	process mail                    in the worker, linked to enqueue
//
// Worker and replay link to the producer's span and are not its children: a trace would last
// as long as the outage, and backends and samplers that wait for its end would not. So what they
// are in is sampled on its own, too; a sampler can look at the links.
//
// # Headers
//
// The propagator's headers, for W3C Trace Context traceparent and tracestate, are in the job
// wherever it goes: in Redis, in the spool, in what another process adopts. A task that has one of
// them already keeps its own, and gets none. The replay adds [SpooledHeader]. A handler that passes
// the headers of its task on to new ones should leave all of them out: see [WithoutHeaders].
//
// A tracer that does not record, and a span that is not sampled, still hand on their context, as
// elsewhere in OpenTelemetry. With Baggage among the propagators, baggage goes into Redis and
// onto the disk.
//
// # Spans
//
// Names and attributes follow the semantic conventions for messaging, version 1.43.0. The name is the
// operation and the queue, where that is known.
//
//	attribute                      of
//	messaging.system               all; asynq
//	messaging.operation.name       all; enqueue, spool, replay, process
//	messaging.operation.type       enqueue and replay: send; process: process
//	messaging.destination.name     the queue, unless a batch has several
//	messaging.message.id           the task id, of a single task
//	messaging.batch.message_count  of more than one task
//	asynq.task.type                the task's type, unless a batch has several
//	asynq.task.retried             process: how often it was tried before
//	jobspool.where                 enqueue and spool: redis, spool, in doubt, nowhere
//	jobspool.in_doubt              true if Redis may have had the job before
//	jobspool.outcome               replay: delivered, already there, superseded, dead; pending
//	                               if it has to be tried again
//	jobspool.reason                replay: of a dead letter
//	jobspool.spooled_ms            replay, and process of a job that was replayed: milliseconds
//	                               from the call of Enqueue to the replay
//	error.type                     of what failed: closed, full, duplicate_task ...
//
// The status says error for what failed, and for a dead letter. Errors are in it as text;
// payloads, passwords and other headers are in no span.
package queueotel
