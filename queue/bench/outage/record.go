package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/hibiken/asynq"
)

// call is one call of Enqueue.
type call struct {
	at, took time.Duration // at since the run began
	failed   bool
}

// record is what one of the two did.
type record struct {
	name, queue string
	lost        int // jobs that Redis did not hold at the end

	mu    sync.Mutex // guards calls
	calls []call
}

func (r *record) add(c call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
}

// lookFor counts the jobs that are not in Redis. All calls have returned.
func (r *record) lookFor(redis asynq.RedisConnOpt) (err error) {
	inspector := asynq.NewInspector(redis)
	defer func() { err = errors.Join(err, inspector.Close()) }()
	const page = 1000
	found := map[string]bool{} // by payload, which is the job's number
	for n, full := 1, true; full; n++ {
		tasks, err := inspector.ListPendingTasks(r.queue, asynq.PageSize(page), asynq.Page(n))
		if err != nil {
			return err
		}
		for _, t := range tasks {
			found[string(t.Payload)] = true
		}
		full = len(tasks) == page
	}
	r.lost = len(r.calls) - len(found)
	return nil
}

// failed is how many calls returned an error.
func (r *record) failed() (n int) {
	for _, c := range r.calls {
		if c.failed {
			n++
		}
	}
	return n
}

func (r *record) longest() (d time.Duration) {
	for _, c := range r.calls {
		d = max(d, c.took)
	}
	return d
}

// summary is a line for people.
func (r *record) summary() string {
	count := func(n int) string { return humanize.Comma(int64(n)) }
	return fmt.Sprintf("%s: %s jobs offered, %s calls failed, %s jobs lost, longest call %.2f s",
		r.name, count(len(r.calls)), count(r.failed()), count(r.lost), r.longest().Seconds())
}
