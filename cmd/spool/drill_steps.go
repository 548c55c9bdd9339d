package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
)

// The results of a step.
const (
	stepOK      = "ok"
	stepFailed  = "failed"
	stepSkipped = "skipped"
)

// drill is one run of spool drill.
type drill struct {
	driller
	opt     asynq.RedisConnOpt
	report  drillReport
	settled *settledJobs
	failed  bool

	inspector *asynq.Inspector
	ownQueue  bool // the queue is to be deleted if it is empty
	task      *asynq.Task
	producer  *queue.Producer // until it is closed
}

// all makes the steps. What comes behind one that failed is skipped, but for the last:
// that takes the job out of wherever it is, for longer than ctx and --timeout.
func (d *drill) all(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	d.inspector = asynq.NewInspector(d.opt)
	defer func() { _ = d.inspector.Close() }()
	d.ownQueue = d.madeQueue(limited)

	d.step(ctx, "open the spool", func() (string, error) { return "", d.open() }) //nolint:contextcheck // New waits for nothing
	d.step(ctx, "write the job", func() (string, error) { return "", d.write(limited) })
	d.step(ctx, "replay it to Redis", func() (string, error) { return d.replay(limited) })
	opened := d.producer != nil
	d.close() //nolint:contextcheck // bounded by itself
	d.step(ctx, "find it in Redis", func() (string, error) { return d.find(limited) })

	failed := d.failed
	if d.failed = !opened; opened {
		ctx = context.WithoutCancel(ctx)
	}
	d.step(ctx, "take it out again", func() (string, error) { return d.takeOut(ctx, failed) })
	d.report.OK = !d.failed && !failed && len(d.report.Left) == 0
}

// step makes a step, unless one before has failed, and reports it.
func (d *drill) step(ctx context.Context, name string, do func() (detail string, err error)) {
	s := drillStep{Step: name, Result: stepSkipped}
	if !d.failed {
		began := time.Now()
		detail, err := "", ctx.Err()
		if err == nil {
			detail, err = do()
		}
		s.took, s.Result, s.Detail = time.Since(began), stepOK, detail
		s.MS = float64(s.took.Microseconds()) / 1000
		if err != nil {
			s.Result, s.Detail, d.failed = stepFailed, err.Error(), true
		}
	}
	d.report.Steps = append(d.report.Steps, s)
}

func (d *drill) open() (err error) {
	d.producer, err = queue.New(queue.Config{
		Redis: d.opt, SpoolDir: d.report.Dir, Target: drillTarget(d.report.Redis), Logger: slog.New(slog.DiscardHandler),
		Spool:      queue.SpoolConfig{MaxBytes: -1}, // how large it may be is a matter of the service's
		OnReplayed: d.settled.add, OnDead: d.settled.add,
		OnStateChange: func(c queue.StateChange) {
			if c.Outage {
				fmt.Fprintf(d.err, "Redis does not take the job: %s; waiting for it until --timeout\n", c.Cause)
			}
		},
	})
	return err
}

// write takes the job to the spool. A worker that does not know its type tries it once.
func (d *drill) write(ctx context.Context) error {
	d.task = asynq.NewTask(d.typename, []byte("spool drill "+rand.Text()))
	info, err := d.producer.EnqueueContext(ctx, d.task, queue.SpoolFirst(),
		asynq.Queue(d.queue), asynq.MaxRetry(0), asynq.Timeout(time.Minute))
	if err == nil {
		d.report.ID = info.ID
	}
	return err
}

// replay waits until the job's replay is over.
func (d *drill) replay(ctx context.Context) (detail string, err error) {
	for {
		if e, ok := d.settled.get(d.report.ID); ok {
			switch e.Outcome {
			case "delivered":
				return "", nil
			case "dead":
				return "", fmt.Errorf("the job became a dead letter: %s", e.Reason)
			}
			return e.Outcome, nil
		}
		select {
		case <-d.settled.more:
		case <-ctx.Done():
			return "", d.notReplayed(ctx.Err())
		}
	}
}

// notReplayed says why the job is still in the spool.
func (d *drill) notReplayed(ended error) error {
	if errors.Is(ended, context.Canceled) {
		return errors.New("interrupted")
	}
	st := d.producer.Stats()
	cause := outageCause(st, d.queue)
	if st.ReplayWaits != "" {
		cause = st.ReplayWaits
	}
	return fmt.Errorf("not within %v: %s", d.timeout, cause)
}

func (d *drill) close() {
	if d.producer == nil {
		return
	}
	if err := d.producer.Close(); err != nil {
		d.leave("the share of " + d.report.Dir + " could not be closed: " + err.Error())
	}
	d.producer = nil
}

// find compares what Redis has with what was enqueued.
func (d *drill) find(ctx context.Context) (detail string, err error) {
	info, err := ask(ctx, func() (*asynq.TaskInfo, error) { return d.inspector.GetTaskInfo(d.queue, d.report.ID) })
	switch {
	case errors.Is(err, asynq.ErrTaskNotFound):
		return "not there any more: a worker has taken it", nil
	case err != nil:
		return "", err
	case info.Queue != d.queue || info.Type != d.task.Type() || !bytes.Equal(info.Payload, d.task.Payload()):
		return "", errors.New("the task there is not the one that was enqueued")
	}
	return info.State.String(), nil
}

// leave notes what is left behind.
func (d *drill) leave(what string) { d.report.Left = append(d.report.Left, what) }

// settledJobs are the jobs whose replay is over. Safe for concurrent use.
type settledJobs struct {
	more chan struct{} // capacity 1: there is one more

	mu   sync.Mutex // guards jobs
	jobs map[string]queue.JobEvent
}

func newSettled() *settledJobs {
	return &settledJobs{more: make(chan struct{}, 1), jobs: map[string]queue.JobEvent{}}
}

func (s *settledJobs) add(e queue.JobEvent) {
	s.mu.Lock()
	s.jobs[e.TaskID] = e
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *settledJobs) get(id string) (queue.JobEvent, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.jobs[id]
	return e, ok
}

// all returns those that went to Redis.
func (s *settledJobs) all() (sent []queue.JobEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.jobs {
		if e.Outcome != "dead" {
			sent = append(sent, e)
		}
	}
	return sent
}
