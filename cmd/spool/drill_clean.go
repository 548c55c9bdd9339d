package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

// askTimeout bounds the wait for Redis where the drill can go on without.
const askTimeout = 2 * time.Second

// drillTarget names the target of a drill's share. It is none of a Producer's: none
// adopts the share, and the drill adopts only what a drill left that was killed.
func drillTarget(target string) string { return "drill of " + strings.Replace(target, "://", " ", 1) }

// targetOf returns the name of the target, without a look at Redis.
func targetOf(ctx context.Context, opt asynq.RedisConnOpt) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	cancel() // before the look
	target, err := queue.Probe(ctx, opt)
	if target != "" {
		err = nil // that of ctx
	}
	return target, err
}

// ask calls a method of the inspector's, which know no context. One that goes on waiting
// ends when the inspector is closed.
func ask[T any](ctx context.Context, method func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		value, err := method()
		done <- answer{value, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// madeQueue reports whether the queue goes with the job: the drill's own does, another only
// if it is surely not there yet.
func (d *drill) madeQueue(ctx context.Context) bool {
	if d.queue == drillQueue {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	queues, err := ask(ctx, d.inspector.Queues)
	return err == nil && !slices.Contains(queues, d.queue)
}

// takeOut takes the job out of Redis, and out of the spool if the drill did not get that
// far. What a drill left that was killed goes with it.
func (d *drill) takeOut(ctx context.Context, failed bool) (detail string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	there := d.settled.all()
	if !failed || len(there) > 0 {
		return d.clearRedis(ctx, there)
	}
	n, err := takeOutOfSpool(d.report.Dir, drillTarget(d.report.Redis))
	if err != nil {
		d.leave(fmt.Sprintf("the job may be in %s, of target %q", d.report.Dir, drillTarget(d.report.Redis)))
		return "", err
	}
	if detail = "there was nothing in the spool"; n > 0 {
		detail = fmt.Sprintf("%s taken out of the spool", plural(n, "job"))
	}
	if d.report.ID == "" {
		return detail, nil
	}
	// An attempt without an answer may have got there.
	if _, err := d.clearRedis(ctx, []queue.JobEvent{{TaskID: d.report.ID, Queue: d.queue}}); err != nil {
		detail += fmt.Sprintf("; whether Redis has taken it without an answer is not known: that would be %s in queue %s", d.report.ID, d.queue)
	}
	return detail, nil
}

// clearRedis deletes jobs, and the queue if the drill made it.
func (d *drill) clearRedis(ctx context.Context, jobs []queue.JobEvent) (detail string, err error) {
	detail = "it was gone"
	for _, e := range jobs {
		_, err := ask(ctx, func() (bool, error) { return true, d.inspector.DeleteTask(e.Queue, e.TaskID) })
		switch {
		case err == nil:
			detail = ""
		case !errors.Is(err, asynq.ErrTaskNotFound) && !errors.Is(err, asynq.ErrQueueNotFound):
			if _, sent := d.settled.get(e.TaskID); sent {
				d.leave(fmt.Sprintf("the job is in Redis, %s in queue %s", e.TaskID, e.Queue))
			}
			return "", err
		}
	}
	if !d.ownQueue {
		return detail, nil
	}
	_, err = ask(ctx, func() (bool, error) { return true, d.inspector.DeleteQueue(d.queue, false) })
	switch {
	case err == nil, errors.Is(err, asynq.ErrQueueNotFound), errors.Is(err, asynq.ErrQueueNotEmpty): // others use it by now
		return detail, nil
	}
	d.leave("the queue " + d.queue + ", which is empty")
	return "", err
}

// takeOutOfSpool removes everything of a drill's target that no living drill holds.
func takeOutOfSpool(dir, target string) (jobs int, err error) {
	s, err := spool.Open(spool.Options{Dir: dir, Target: target, AdoptOnly: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	_, adoptErr := s.Adopt() // often another owner's
	const most = 1000        // a drill leaves one
	pending, _, err := s.List("", most)
	if err != nil {
		return 0, err
	}
	settlements := make([]spool.Settlement, len(pending))
	for i, e := range pending {
		settlements[i] = spool.Settlement{Position: e.Position, Outcome: spool.Removed}
	}
	if err := s.Settle(settlements...); err != nil {
		return 0, err
	}
	dead, _, err := s.DeadLetters("", most)
	if err != nil {
		return 0, err
	}
	positions := make([]spool.Position, len(dead))
	for i, letter := range dead {
		positions[i] = letter.Position
	}
	removed, err := s.RemoveDead(positions...)
	if jobs = len(pending) + removed; jobs == 0 {
		err = errors.Join(adoptErr, err)
	}
	return jobs, err
}
