package queue

import (
	"context"
	"errors"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// batch is what became of some records that were sent together.
type batch struct {
	r           *replayer
	settlements []settlement
	delivered   map[string]bool // queues in which Redis took a job
	unsettled   []trouble       // records that an error left pending
	err         error           // the first of those, but for errUnclear
}

// trouble is a record whose job met an error that is not its own, or may not be.
type trouble struct {
	entry spool.Entry
	job   job
	at    pass
	err   error
}

// unclear reports whether records are left that no outage stops.
func (b *batch) unclear() bool { return len(b.unsettled) > 0 && b.err == nil }

// replay sends records and judges each. Records that it does not settle stay pending. It
// tells the breakers of outages, not of their end.
func (r *replayer) replay(ctx context.Context, entries []spool.Entry, n *notes) *batch {
	b := &batch{r: r, delivered: map[string]bool{}}
	now := time.Now()
	var cmds []command
	var sent []trouble
	for _, e := range entries {
		j, cmd, reason := r.decode(ctx, e.Record, now)
		if reason != "" {
			b.settle(e, j, spool.Dead, reason)
			continue
		}
		at, _ := r.p.breakers.enter(j.Queue)
		sent, cmds = append(sent, trouble{entry: e, job: j, at: at}), append(cmds, cmd)
	}
	if len(cmds) == 0 { // Redis was not asked
		return b
	}
	for i, res := range r.p.sender.batch(ctx, cmds) {
		b.judge(ctx, sent[i], res)
	}
	b.judgeOdd()
	for _, t := range b.unsettled {
		if r.ctx.Err() == nil && !errors.Is(t.err, errUnclear) {
			r.p.failed(t.at, false, t.err, n)
		}
	}
	return b
}

// decode returns the job of a record and the command that enqueues it now, or the reason
// why it is a dead letter.
func (r *replayer) decode(ctx context.Context, rec spool.Record, now time.Time) (j job, cmd command, reason string) {
	j, err := readJob(rec)
	if err != nil {
		return job{ID: rec.ID, Queue: queueOf(rec.Class), At: rec.At}, cmd, "cannot be decoded: " + err.Error()
	}
	if !j.Expires.IsZero() && now.After(j.Expires) {
		return j, cmd, "waited longer than its MaxSpoolAge"
	}
	task, opts := j.task(now)
	if _, cmd, err = r.p.composer.Compose(ctx, task, opts...); err != nil {
		return j, cmd, "asynq refuses it: " + err.Error()
	}
	return j, cmd, ""
}

func (b *batch) settle(e spool.Entry, j job, o spool.Outcome, reason string) {
	b.settlements = append(b.settlements, settlement{
		Settlement: spool.Settlement{Position: e.Position, Outcome: o, Reason: reason}, event: j.event(),
	})
}

// judge settles one record by Redis's answer, or keeps it with its error.
func (b *batch) judge(ctx context.Context, t trouble, res result) {
	outcome, reason, err := b.r.judge(ctx, t.job, t.entry.Attempts, res)
	if err != nil {
		t.err = err
		b.unsettled = append(b.unsettled, t)
		if b.err == nil && !errors.Is(err, errUnclear) {
			b.err = err
		}
		return
	}
	if outcome == spool.Delivered {
		b.delivered[t.job.Queue] = true
	}
	b.settle(t.entry, t.job, outcome, reason)
}

// judgeOdd counts an odd error against the record where Redis took another one of the
// same queue: then it is the record's own.
func (b *batch) judgeOdd() {
	rest := b.unsettled[:0]
	for _, t := range b.unsettled {
		if classify(t.err) == odd && b.delivered[t.job.Queue] {
			b.blame(t)
			continue
		}
		rest = append(rest, t)
	}
	b.unsettled = rest
}

// blame counts an attempt against a record, and makes it a dead letter after the last.
// Attempts without a reply are counted apart, in memory: they say nothing of what a script
// has done.
func (b *batch) blame(t trouble) {
	if classify(t.err) == odd {
		if t.entry.Attempts+1 >= maxAttempts {
			b.settle(t.entry, t.job, spool.Dead, "Redis refuses it: "+t.err.Error())
			return
		}
		b.settle(t.entry, t.job, spool.Kept, "")
		return
	}
	if n := b.r.blamed(t.entry.Position); n >= maxAttempts {
		b.settle(t.entry, t.job, spool.Dead, "Redis does not answer it, and takes other writes: "+t.err.Error())
	}
}
