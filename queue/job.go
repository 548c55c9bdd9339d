package queue

import (
	"fmt"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/spool"
)

// job is the meaning of one Enqueue: what a record keeps and what a replay makes
// a task of. All times are absolute.
type job struct {
	ID        string
	Queue     string
	Type      string
	Payload   []byte // nil and empty differ: asynq gives them different unique keys
	Headers   map[string]string
	MaxRetry  int
	Timeout   time.Duration // whole seconds
	Deadline  time.Time     // whole seconds; zero: none
	Retention time.Duration // whole seconds
	Group     string
	ProcessAt time.Time // whole seconds, as Redis keeps it; zero: at once
	Lock      string    // the unique key; empty: not unique
	LockUntil time.Time // when the lock ends
	OwnID     bool      // the caller chose the id
	InDoubt   bool      // Redis may have taken it: an attempt got no reply
	HalfDone  bool      // Redis may have done half: the script failed inside
	Expires   time.Time // when it becomes a dead letter if it is still in the spool; milliseconds, zero: never
	At        time.Time // of the call
}

// newJob reads the meaning off what asynq composed just before that time.
func newJob(info *asynq.TaskInfo, cmd command, at time.Time) job {
	j := job{
		ID: info.ID, Queue: info.Queue, Type: info.Type, Payload: info.Payload, Headers: info.Headers,
		MaxRetry: info.MaxRetry, Timeout: info.Timeout, Deadline: info.Deadline, Retention: info.Retention,
		Group: info.Group, At: at,
	}
	if lock := cmd.Lock(); lock != "" {
		j.Lock, j.LockUntil = lock, at.Add(time.Duration(cmd.LockSeconds())*time.Second)
	}
	if info.State == asynq.TaskStateScheduled {
		j.ProcessAt = time.Unix(info.NextProcessAt.Unix(), 0)
	}
	return j
}

// task returns a task that asynq composes as it would have composed the job at the time
// of the call, had it been replayed at once. The options are the task's own: with options
// of a call asynq makes a copy of them all.
func (j job) task(now time.Time) *asynq.Task {
	opts := append(make([]asynq.Option, 0, 9),
		asynq.TaskID(j.ID), asynq.Queue(j.Queue), asynq.MaxRetry(j.MaxRetry), asynq.Retention(j.Retention))
	if !j.Deadline.IsZero() {
		opts = append(opts, asynq.Deadline(j.Deadline))
	}
	switch {
	case j.Timeout != 0:
		opts = append(opts, asynq.Timeout(j.Timeout))
	case j.Deadline.IsZero():
		// A timeout below a second: asynq cuts it to 0, and puts its default only
		// where none was given at all.
		opts = append(opts, asynq.Timeout(1))
	}
	processAt := j.ProcessAt
	if j.Group != "" {
		opts = append(opts, asynq.Group(j.Group))
		// asynq hands a scheduled task with a group to a worker by itself. In the
		// past it would be aggregated instead, so it stays scheduled.
		if soon := now.Add(time.Second); !processAt.IsZero() && processAt.Before(soon) {
			processAt = soon
		}
	}
	lockFrom := now
	if processAt.After(now) {
		opts = append(opts, asynq.ProcessAt(processAt))
		lockFrom = processAt
	}
	if j.Lock != "" && j.LockUntil.Sub(now) >= time.Second {
		// asynq counts the TTL from the process-at and cuts to whole seconds: half
		// a second more rounds instead.
		ttl := j.LockUntil.Sub(lockFrom) + time.Second/2
		opts = append(opts, asynq.Unique(max(ttl, time.Second)))
	}
	return asynq.NewTaskWithHeaders(j.Type, j.Payload, j.Headers, opts...)
}

// record returns the job as the spool keeps it.
func (j job) record() spool.Record {
	r := spool.Record{
		ID: j.ID, Class: j.Queue + "\x00" + j.Type, Lock: j.Lock, LockUntil: j.LockUntil, At: j.At, Data: j.encode(),
	}
	if j.OwnID { // nobody else has one that was minted
		r.Key = compose.TaskKey(j.Queue, j.ID)
	}
	return r
}

// queueOf returns the queue of a record's class.
func queueOf(class string) string {
	queue, _, _ := strings.Cut(class, "\x00")
	return queue
}

// The fields of an encoded job, as protobuf would write them. Zero values are left
// out; numbers are never reused. A reader that meets an unknown field is too old.
const (
	fieldQueue     protowire.Number = 1
	fieldType      protowire.Number = 2
	fieldPayload   protowire.Number = 3 // present and empty: not nil
	fieldHeader    protowire.Number = 4 // repeated: key, then fieldValue
	fieldValue     protowire.Number = 5
	fieldMaxRetry  protowire.Number = 6
	fieldTimeout   protowire.Number = 7 // seconds
	fieldDeadline  protowire.Number = 8 // Unix seconds
	fieldRetention protowire.Number = 9 // seconds
	fieldGroup     protowire.Number = 10
	fieldProcessAt protowire.Number = 11 // Unix seconds
	fieldOwnID     protowire.Number = 12
	fieldInDoubt   protowire.Number = 13
	fieldHalfDone  protowire.Number = 14
	fieldExpires   protowire.Number = 15 // Unix milliseconds
)

func (j job) encode() []byte {
	return j.appendTo(make([]byte, 0, len(j.Payload)+len(j.Queue)+len(j.Type)+32))
}

func (j *job) appendTo(b []byte) []byte {
	str := func(n protowire.Number, s string) {
		b = protowire.AppendTag(b, n, protowire.BytesType)
		b = protowire.AppendString(b, s)
	}
	num := func(n protowire.Number, v int64) {
		if v != 0 {
			b = protowire.AppendTag(b, n, protowire.VarintType)
			b = protowire.AppendVarint(b, protowire.EncodeZigZag(v))
		}
	}
	str(fieldQueue, j.Queue)
	str(fieldType, j.Type)
	for k, v := range j.Headers {
		str(fieldHeader, k)
		str(fieldValue, v)
	}
	if j.Group != "" {
		str(fieldGroup, j.Group)
	}
	num(fieldMaxRetry, int64(j.MaxRetry))
	num(fieldTimeout, int64(j.Timeout/time.Second))
	if !j.Deadline.IsZero() {
		num(fieldDeadline, j.Deadline.Unix())
	}
	num(fieldRetention, int64(j.Retention/time.Second))
	if !j.ProcessAt.IsZero() {
		num(fieldProcessAt, j.ProcessAt.Unix())
	}
	num(fieldOwnID, flag(j.OwnID))
	num(fieldInDoubt, flag(j.InDoubt))
	num(fieldHalfDone, flag(j.HalfDone))
	if !j.Expires.IsZero() {
		num(fieldExpires, j.Expires.UnixMilli())
	}
	if j.Payload != nil {
		b = protowire.AppendTag(b, fieldPayload, protowire.BytesType)
		b = protowire.AppendBytes(b, j.Payload)
	}
	return b
}

func flag(v bool) int64 {
	if v {
		return 1
	}
	return 0
}

// readJob is the inverse of job.record. The payload shares memory with r.
func readJob(r spool.Record) (job, error) {
	j := job{ID: r.ID, Lock: r.Lock, LockUntil: r.LockUntil, At: r.At}
	header := ""
	for b := r.Data; len(b) > 0; {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return job{}, fmt.Errorf("queue: record %s: %w", r.ID, protowire.ParseError(n))
		}
		b = b[n:]
		var text []byte
		var raw uint64
		switch kind {
		case protowire.BytesType:
			text, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			raw, n = protowire.ConsumeVarint(b)
		default:
			return job{}, fmt.Errorf("queue: record %s: field %d has wire type %d", r.ID, field, kind)
		}
		if n < 0 {
			return job{}, fmt.Errorf("queue: record %s: field %d: %w", r.ID, field, protowire.ParseError(n))
		}
		b = b[n:]
		if !j.set(field, text, protowire.DecodeZigZag(raw), &header) {
			return job{}, fmt.Errorf("queue: record %s: field %d is of a newer version", r.ID, field)
		}
	}
	return j, nil
}

// set takes one decoded field; header carries a header's key to its value.
func (j *job) set(field protowire.Number, text []byte, v int64, header *string) bool {
	switch field {
	case fieldQueue:
		j.Queue = string(text)
	case fieldType:
		j.Type = string(text)
	case fieldPayload:
		j.Payload = text[:len(text):len(text)]
	case fieldHeader:
		*header = string(text)
	case fieldValue:
		if j.Headers == nil {
			j.Headers = map[string]string{}
		}
		j.Headers[*header] = string(text)
	case fieldMaxRetry:
		j.MaxRetry = int(v)
	case fieldTimeout:
		j.Timeout = compose.Seconds(v)
	case fieldDeadline:
		j.Deadline = time.Unix(v, 0)
	case fieldRetention:
		j.Retention = compose.Seconds(v)
	case fieldGroup:
		j.Group = string(text)
	case fieldProcessAt:
		j.ProcessAt = time.Unix(v, 0)
	case fieldOwnID:
		j.OwnID = v != 0
	case fieldInDoubt:
		j.InDoubt = v != 0
	case fieldHalfDone:
		j.HalfDone = v != 0
	case fieldExpires:
		j.Expires = time.UnixMilli(v)
	default:
		return false
	}
	return true
}
