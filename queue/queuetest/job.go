package queuetest

import (
	"bytes"
	"maps"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/queue/internal/intake"
)

// Job is a task as the [Fake] accepted it, with asynq's defaults in place: MaxRetry 25, and
// a Timeout of 30 minutes where there is no Deadline.
type Job struct {
	ID        string
	Queue     string
	Type      string
	Payload   []byte
	Headers   map[string]string
	MaxRetry  int
	Timeout   time.Duration // whole seconds
	Deadline  time.Time     // zero: none
	Retention time.Duration // whole seconds
	Group     string
	ProcessAt time.Time // zero: at once

	Unique    bool      // asynq.Unique was given
	LockUntil time.Time // when the lock of a unique job ends; zero: not unique

	NoSpool     bool          // queue.NoSpool was given
	SpoolFirst  bool          // queue.SpoolFirst was given
	MaxSpoolAge time.Duration // zero: queue.MaxSpoolAge was not given
	Where       queue.Where   // where the job was when Enqueue returned

	lock string // asynq's key of the lock
}

// Task returns the job's task as a worker gets it, to hand it to a handler.
func (j Job) Task() *asynq.Task {
	j = j.clone()
	return asynq.NewTaskWithHeaders(j.Type, j.Payload, j.Headers)
}

func newJob(info *asynq.TaskInfo, cmd compose.Command, own intake.Options, now time.Time) Job {
	j := Job{
		ID: info.ID, Queue: info.Queue, Type: info.Type, Payload: info.Payload, Headers: info.Headers,
		MaxRetry: info.MaxRetry, Timeout: info.Timeout, Deadline: info.Deadline, Retention: info.Retention,
		Group: info.Group, NoSpool: own.NoSpool, SpoolFirst: own.SpoolFirst, MaxSpoolAge: own.MaxAge, lock: cmd.Lock(),
	}
	if info.State == asynq.TaskStateScheduled {
		j.ProcessAt = info.NextProcessAt
	}
	if j.Unique = j.lock != ""; j.Unique {
		j.LockUntil = now.Add(time.Duration(cmd.LockSeconds()) * time.Second)
	}
	return j.clone()
}

// clone returns a job that shares no memory with j.
func (j Job) clone() Job {
	j.Payload, j.Headers = bytes.Clone(j.Payload), maps.Clone(j.Headers)
	return j
}
