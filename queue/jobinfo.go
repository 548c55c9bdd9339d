package queue

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/spool"
)

// Job is a job of the spool as people see it, and as it is exported and imported: one JSON
// object. All times are absolute. What is not known or not set is left out.
type Job struct {
	ID    string    `json:"id"`
	Queue string    `json:"queue"`
	Type  string    `json:"type"`
	At    time.Time `json:"at"` // of the call of Enqueue

	// Payload and Headers are there only where they were asked for.
	Payload Payload           `json:"payload"`
	Headers map[string]string `json:"headers,omitempty"`

	MaxRetry         int        `json:"max_retry"`
	TimeoutSeconds   int64      `json:"timeout_seconds,omitempty"`
	Deadline         *time.Time `json:"deadline,omitempty"`
	RetentionSeconds int64      `json:"retention_seconds,omitempty"`
	Group            string     `json:"group,omitempty"`
	ProcessAt        *time.Time `json:"process_at,omitempty"`
	UniqueKey        string     `json:"unique_key,omitempty"`
	UniqueUntil      *time.Time `json:"unique_until,omitempty"`
	Expires          *time.Time `json:"expires,omitempty"`   // by MaxSpoolAge
	OwnID            bool       `json:"own_id,omitempty"`    // the caller chose the id
	InDoubt          bool       `json:"in_doubt,omitempty"`  // Redis may have it: an attempt got no reply
	HalfDone         bool       `json:"half_done,omitempty"` // Redis may have a part of it: a script failed inside

	Owner    string `json:"owner,omitempty"` // in whose share it lies
	Bytes    int    `json:"bytes,omitempty"` // of the record
	Attempts int    `json:"attempts,omitempty"`

	Dead *Death `json:"dead,omitempty"` // nil: it is pending

	// Unreadable says why nothing but id, queue, type and time is known.
	Unreadable string `json:"unreadable,omitempty"`
}

// Since is when the job became what it is: pending, or a dead letter.
func (j Job) Since() time.Time {
	if j.Dead != nil {
		return j.Dead.Since
	}
	return j.At
}

// Death says why and when a job became a dead letter.
type Death struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// Payload is bytes that are a string in JSON where they are UTF-8, else an object with the
// one field base64. Nil is null, and differs from an empty one.
type Payload []byte

// MarshalJSON implements [json.Marshaler].
func (p Payload) MarshalJSON() ([]byte, error) {
	switch {
	case p == nil:
		return []byte("null"), nil
	case utf8.Valid(p):
		return json.Marshal(string(p))
	}
	return json.Marshal(inBase64{p})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (p *Payload) UnmarshalJSON(b []byte) error {
	var text *string
	if err := json.Unmarshal(b, &text); err == nil {
		if *p = nil; text != nil {
			*p = Payload(*text)
		}
		return nil
	}
	var other inBase64
	if err := json.Unmarshal(b, &other); err != nil || other.Bytes == nil {
		return errors.New("a payload is a string, an object with the field base64, or null")
	}
	*p = other.Bytes
	return nil
}

type inBase64 struct {
	Bytes []byte `json:"base64"`
}

// newJobInfo returns what is to be shown of a record.
func newJobInfo(e spool.Entry, payload bool) Job {
	j, err := readJob(e.Record)
	if err != nil {
		j = job{ID: e.ID, Queue: queueOf(e.Class), Type: typeOf(e.Class), At: e.At}
	}
	info := Job{
		ID: j.ID, Queue: j.Queue, Type: j.Type, At: j.At, MaxRetry: j.MaxRetry, TimeoutSeconds: int64(j.Timeout / time.Second),
		Deadline: known(j.Deadline), RetentionSeconds: int64(j.Retention / time.Second), Group: j.Group, ProcessAt: known(j.ProcessAt),
		UniqueKey: j.Lock, UniqueUntil: known(j.LockUntil), Expires: known(j.Expires),
		OwnID: j.OwnID, InDoubt: j.InDoubt, HalfDone: j.HalfDone, Owner: e.Position.Owner(), Bytes: len(e.Data), Attempts: e.Attempts,
	}
	if err == nil {
		err = info.unspeakable()
	}
	if err != nil {
		info.Unreadable = err.Error()
	}
	if payload {
		info.Payload, info.Headers = j.Payload, j.Headers
	}
	return info
}

// unspeakable takes away times that JSON has no words for: asynq takes a deadline in any year.
func (j *Job) unspeakable() error {
	var err error
	for name, at := range map[string]**time.Time{"deadline": &j.Deadline, "process_at": &j.ProcessAt, "expires": &j.Expires} {
		if t := *at; t != nil && (t.UTC().Year() < 0 || t.UTC().Year() > 9998) { // one less, for any zone
			err = fmt.Errorf("queue: record %s: %s is in the year %d", j.ID, name, t.UTC().Year())
			*at = nil
		}
	}
	return err
}

func newDeadInfo(d spool.DeadLetter, payload bool) Job {
	info := newJobInfo(d.Entry, payload)
	info.Dead = &Death{Reason: d.Reason, Since: d.Since}
	return info
}

// known returns nil for no time.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func timeOr(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// Record returns the job as a spool keeps it, or what is wrong with it. What says where a
// job lay (Owner, Bytes, Attempts) makes no difference. A dead letter becomes pending.
func (j Job) Record() (spool.Record, error) {
	if err := j.check(); err != nil {
		return spool.Record{}, fmt.Errorf("queue: job %q: %w", j.ID, err)
	}
	return job{
		ID: j.ID, Queue: j.Queue, Type: j.Type, Payload: j.Payload, Headers: j.Headers, MaxRetry: j.MaxRetry,
		Timeout: compose.Seconds(j.TimeoutSeconds), Deadline: wholeSeconds(j.Deadline), Retention: compose.Seconds(j.RetentionSeconds),
		Group: j.Group, ProcessAt: wholeSeconds(j.ProcessAt), Lock: j.UniqueKey, LockUntil: timeOr(j.UniqueUntil),
		OwnID: j.OwnID, InDoubt: j.InDoubt, HalfDone: j.HalfDone, Expires: timeOr(j.Expires), At: j.At,
	}.record(), nil
}

func (j Job) check() error {
	var errs []error
	complain := func(bad bool, text string) {
		if bad {
			errs = append(errs, errors.New(text))
		}
	}
	complain(j.Unreadable != "", "it could not be read: "+j.Unreadable)
	complain(j.ID == "", "id is missing")
	complain(j.Queue == "", "queue is missing")
	complain(j.Type == "", "type is missing")
	complain(j.At.IsZero(), "at is missing: the time of the call")
	complain(j.MaxRetry < 0, "max_retry is negative")
	complain(j.TimeoutSeconds < 0, "timeout_seconds is negative")
	complain(j.RetentionSeconds < 0, "retention_seconds is negative")
	complain((j.UniqueKey == "") != (j.UniqueUntil == nil), "unique_key and unique_until need each other")
	return errors.Join(errs...)
}

// wholeSeconds cuts a time as asynq does.
func wholeSeconds(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return time.Unix(t.Unix(), 0)
}

// typeOf returns the type of a record's class.
func typeOf(class string) string { return class[min(len(queueOf(class))+1, len(class)):] }

// JobOf returns what is to be shown of a record, with payload and headers if they are wanted.
func JobOf(r spool.Record, payload bool) Job { return newJobInfo(spool.Entry{Record: r}, payload) }
