package queue

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Observer follows what a Producer does, for tracing: see Config.Observer. An adapter for
// OpenTelemetry is the module github.com/jobspool/jobspool/queue/queueotel.
type Observer interface {
	// Begin is called when an operation begins. For OpEnqueue ctx is the caller's, for OpSpool
	// what Begin returned for the OpEnqueue that it is a part of; else it is one of the
	// replayer's. What Begin returns is handed to End, and bounds nothing; nil means ctx. Begin may
	// call op.SetHeaders.
	Begin(ctx context.Context, op *Operation) context.Context

	// End is called once for each Begin that returned, with the same op, which says by now how it
	// ended. err is what the caller of Enqueue gets, what the spool said, or why a spooled job stays
	// pending; nil for a dead letter, which has a Reason. Nothing secret is in it.
	End(ctx context.Context, op *Operation, err error)
}

// OperationKind says what a Producer does.
type OperationKind int

// The kinds of operations.
const (
	// OpEnqueue is a call of Enqueue, EnqueueContext or EnqueueBatch, or of an asynq.Scheduler.
	OpEnqueue OperationKind = iota + 1

	// OpSpool is the write of jobs to the spool, with its fsync: as a part of an OpEnqueue, or by
	// Config.Guard, of jobs that Redis has lost.
	OpSpool

	// OpReplay is one attempt to send one spooled job, until what became of it is recorded. A dead
	// letter that was not sent has one, too.
	OpReplay
)

// String returns "enqueue", "spool" or "replay".
func (k OperationKind) String() string {
	switch k {
	case OpEnqueue:
		return "enqueue"
	case OpSpool:
		return "spool"
	case OpReplay:
		return "replay"
	}
	return fmt.Sprintf("OperationKind(%d)", int(k))
}

// Operation is something that a Producer does. All its fields but Headers may be shown. It
// belongs to the Observer from Begin until End returns.
type Operation struct {
	Kind OperationKind

	// Tasks is how many tasks it is about: 1, or those of an EnqueueBatch or of one commit of
	// its to the spool.
	Tasks int

	// Start is when it began. Begin is called a little later: for OpEnqueue when asynq has composed
	// the tasks, or refused them.
	Start time.Time

	// JobEvent is about its task. Of more than one it holds what they have in common. Of a task that
	// asynq has refused TaskID and Queue are empty. At is when Enqueue was called. InDoubt, Outcome
	// and Reason are known at the end: Outcome of an OpReplay, empty if the job stays pending.
	JobEvent

	// Where is known at the end of an OpEnqueue and OpSpool: where the job is. Of more than one, the
	// last of their places in the order of the constants.
	Where Where

	// Spooled is, of an OpReplay, how long ago Enqueue was called. Never negative.
	Spooled time.Duration

	// Headers are those of the task, not to be changed, and not to be shown as a whole: they are the
	// service's. Nil for more than one task.
	Headers map[string]string

	added map[string]string
}

// MaxObserverBytes is how many bytes of headers an Observer may add to a task.
const MaxObserverBytes = 16 << 10

// SetHeaders adds headers to the tasks of an OpEnqueue, and to that of an OpReplay; it is for Begin,
// and does nothing later or to an OpSpool. A later call replaces what an earlier one has set.
//
// In an OpEnqueue they are added together, and only to tasks that have none of those names yet: what
// the caller gave a task stays. They are in the job from then on, in Redis and in the spool, and
// in TaskInfo.Headers, but not in the caller's task; they do not count for Config.MaxTaskBytes. In
// an OpReplay they are added to what Redis gets, in place of headers of the same names.
//
// It returns an error, and sets nothing, if one is not valid UTF-8 or they have more than
// MaxObserverBytes together. It keeps the map.
func (o *Operation) SetHeaders(headers map[string]string) error {
	size := 0
	for k, v := range headers {
		if size += len(k) + len(v); !utf8.ValidString(k) || !utf8.ValidString(v) {
			return errors.New("queue: a header of an Observer is not valid UTF-8")
		}
	}
	if size > MaxObserverBytes {
		return fmt.Errorf("queue: headers of an Observer have %d bytes, the limit is %d", size, MaxObserverBytes)
	}
	o.added = headers
	return nil
}
