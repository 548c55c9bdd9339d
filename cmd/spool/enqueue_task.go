package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/spf13/cobra"

	"github.com/jobspool/jobspool/queue"
)

// taskFlags say what task to enqueue.
type taskFlags struct {
	typename, payload, payloadFile string

	queue, id, group    string
	headers             []string
	maxRetry            int
	timeout, processIn  time.Duration
	unique, retention   time.Duration
	deadline, processAt string

	maxSpoolAge time.Duration
	noSpool     bool
}

func (t *taskFlags) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.typename, "type", "", "the task's type `name`, required")
	f.StringVar(&t.payload, "payload", "", "the payload `text`")
	f.StringVar(&t.payloadFile, "payload-file", "", "read the payload from this `file`; - is standard input")
	f.StringVar(&t.queue, "queue", "default", "the queue's `name`")
	f.StringVar(&t.id, "task-id", "", "an `id` of your own")
	f.StringVar(&t.group, "group", "", "the `name` of the group to aggregate with")
	f.StringArrayVar(&t.headers, "header", nil, "a header, as `key=value`; may be repeated")
	f.IntVar(&t.maxRetry, "max-retry", 0, "retry at most `n` times (default asynq's, 25)")
	f.DurationVar(&t.timeout, "timeout", 0, "the `duration` a worker has (default asynq's, 30m)")
	f.DurationVar(&t.processIn, "process-in", 0, "process after this `duration`")
	f.DurationVar(&t.unique, "unique", 0, "hold a unique lock for this `duration`")
	f.DurationVar(&t.retention, "retention", 0, "keep the completed task for this `duration`")
	f.StringVar(&t.deadline, "deadline", "", "the `time` by which it must be done")
	f.StringVar(&t.processAt, "process-at", "", "process at this `time`")
	f.DurationVar(&t.maxSpoolAge, "max-spool-age", 0, "a dead letter if longer than this `duration` in the spool")
	f.BoolVar(&t.noSpool, "no-spool", false, "fail rather than spool")
}

// read returns the task and its options.
func (t *taskFlags) read(ctx context.Context, stdin io.Reader, given func(flag string) bool) (*asynq.Task, []asynq.Option, error) {
	opts, err := t.options(given)
	if err != nil {
		return nil, nil, err
	}
	headers, err := t.headerMap()
	if err != nil {
		return nil, nil, err
	}
	payload, err := t.readPayload(ctx, stdin, given)
	if err != nil {
		return nil, nil, err
	}
	return asynq.NewTaskWithHeaders(t.typename, payload, headers), opts, nil
}

// options returns asynq's options, and ours, for the flags that were given.
func (t *taskFlags) options(given func(flag string) bool) ([]asynq.Option, error) {
	if err := t.check(given); err != nil {
		return nil, err
	}
	deadline, err := parseTime("deadline", t.deadline, given)
	if err != nil {
		return nil, err
	}
	processAt, err := parseTime("process-at", t.processAt, given)
	if err != nil {
		return nil, err
	}
	opts := []asynq.Option{asynq.Queue(t.queue)}
	for _, o := range []struct {
		flag string
		opt  asynq.Option
	}{
		{"task-id", asynq.TaskID(t.id)},
		{"group", asynq.Group(t.group)},
		{"max-retry", asynq.MaxRetry(t.maxRetry)},
		{"timeout", asynq.Timeout(t.timeout)},
		{"process-in", asynq.ProcessIn(t.processIn)},
		{"unique", asynq.Unique(t.unique)},
		{"retention", asynq.Retention(t.retention)},
		{"deadline", asynq.Deadline(deadline)},
		{"process-at", asynq.ProcessAt(processAt)},
		{"max-spool-age", queue.MaxSpoolAge(t.maxSpoolAge)},
	} {
		if given(o.flag) {
			opts = append(opts, o.opt)
		}
	}
	if t.noSpool {
		opts = append(opts, queue.NoSpool())
	}
	return opts, nil
}

// check refuses what cannot be meant. asynq refuses the rest.
func (t *taskFlags) check(given func(flag string) bool) error {
	if strings.TrimSpace(t.typename) == "" {
		return usageError{"no task named: give --type"}
	}
	for _, pair := range [][2]string{{"payload", "payload-file"}, {"process-in", "process-at"}, {"no-spool", "max-spool-age"}} {
		if given(pair[0]) && given(pair[1]) {
			return usageError{fmt.Sprintf("--%s and --%s exclude each other", pair[0], pair[1])}
		}
	}
	if t.maxRetry < 0 {
		return usageError{"--max-retry must be at least 0"}
	}
	for _, d := range []struct {
		flag         string
		value, least time.Duration
	}{
		{"timeout", t.timeout, 0},
		{"process-in", t.processIn, 0},
		{"retention", t.retention, 0},
		{"unique", t.unique, time.Second},
		{"max-spool-age", t.maxSpoolAge, time.Millisecond},
	} {
		if given(d.flag) && d.value < d.least {
			return usageError{fmt.Sprintf("--%s must be at least %v", d.flag, d.least)}
		}
	}
	return nil
}

func parseTime(flag, text string, given func(flag string) bool) (time.Time, error) {
	if !given(flag) {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usageError{fmt.Sprintf("--%s: %q is not a time as in 2026-11-23T20:00:00Z", flag, text)}
	}
	return at, nil
}

// headerMap returns nil if there are none. Its errors do not show values.
func (t *taskFlags) headerMap() (map[string]string, error) {
	var headers map[string]string
	for i, h := range t.headers {
		key, value, ok := strings.Cut(h, "=")
		if !ok || key == "" {
			return nil, usageError{fmt.Sprintf("--header number %d is not key=value", i+1)}
		}
		if _, twice := headers[key]; twice {
			return nil, usageError{fmt.Sprintf("--header %s is given twice", key)}
		}
		if headers == nil {
			headers = map[string]string{}
		}
		headers[key] = value
	}
	return headers, nil
}

// readPayload returns nil without a payload: to a unique lock that is not an empty one.
func (t *taskFlags) readPayload(ctx context.Context, stdin io.Reader, given func(flag string) bool) ([]byte, error) {
	switch {
	case given("payload"):
		return []byte(t.payload), nil
	case !given("payload-file"):
		return nil, nil
	case t.payloadFile == "-":
		return readAll(ctx, stdin)
	}
	f, err := os.Open(t.payloadFile)
	if err != nil {
		return nil, fmt.Errorf("--payload-file: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	return readAll(ctx, f)
}

// readAll reads a payload, until ctx ends. A read that waits for a terminal or a pipe
// cannot be ended: it is left to the end of the process.
func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	type read struct {
		payload []byte
		err     error
	}
	done := make(chan read, 1)
	go func() {
		b, err := io.ReadAll(io.LimitReader(r, queue.DefaultMaxTaskBytes+1))
		done <- read{b, err}
	}()
	select {
	case got := <-done:
		switch {
		case got.err != nil:
			return nil, fmt.Errorf("--payload-file: %w", got.err)
		case len(got.payload) > queue.DefaultMaxTaskBytes:
			return nil, fmt.Errorf("--payload-file: the payload is larger than %d bytes, which is the limit", queue.DefaultMaxTaskBytes)
		}
		return got.payload, nil
	case <-ctx.Done():
		return nil, errors.New("interrupted; nothing was enqueued")
	}
}
