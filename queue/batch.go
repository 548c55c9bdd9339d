package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue/internal/intake"
	"github.com/jobspool/jobspool/spool"
)

const (
	// pipelineTasks and pipelineBytes bound one pipeline of EnqueueBatch, and its commit
	// to the spool.
	pipelineTasks = 5000
	pipelineBytes = 4 << 20
)

// BatchError is the error of [Producer.EnqueueBatch] when some tasks were not accepted.
type BatchError struct {
	// Errs has an entry for each task, nil where it was accepted.
	Errs []error
}

// Error counts the tasks that were not accepted and shows the first error.
func (e *BatchError) Error() string {
	n, first := 0, error(nil)
	for _, err := range e.Errs {
		if err != nil {
			n++
			first = cmp.Or(first, err)
		}
	}
	return fmt.Sprintf("queue: %d of %d tasks not accepted, first: %v", n, len(e.Errs), first)
}

// Unwrap returns the errors of the tasks that were not accepted.
func (e *BatchError) Unwrap() []error {
	var errs []error
	for _, err := range e.Errs {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// EnqueueBatch is [Producer.EnqueueContext] for many tasks, faster: one pipeline to
// Redis, or one commit to the spool in an outage, for each 5,000 tasks or 4 MiB. Each
// pipeline has the budget of one call; after one that failed the rest goes to the spool.
//
// The batch is not atomic. It returns an info for each task, in their order, nil only
// where the task was not accepted. If there are such the error is a *[BatchError] that
// has the reason for each; a Producer that is closed or only drains, a bad option of the
// call, and a ctx that is done on entry are errors of the whole, with nothing written.
//
// opts hold for all tasks, after those of each.
func (p *Producer) EnqueueBatch(ctx context.Context, tasks []*asynq.Task, opts ...asynq.Option) ([]*asynq.TaskInfo, error) {
	b := &batchCall{p: p}
	infos, err := b.enqueue(ctx, tasks, opts)
	b.end(ctx, len(tasks), err)
	p.deliver(b.notes)
	return infos, err
}

func (b *batchCall) enqueue(ctx context.Context, tasks []*asynq.Task, opts []asynq.Option) ([]*asynq.TaskInfo, error) {
	own, err := intake.ReadOptions(opts) // first: it reports Nowhere
	if aerr := b.p.admit(ctx); aerr != nil {
		return nil, aerr
	}
	defer b.p.leave()
	if err != nil {
		return nil, err
	}
	b.own, b.at, b.tasks = own, time.Now(), make([]batchTask, len(tasks))
	b.compose(ctx, tasks, opts)
	b.begin(ctx)
	for from := 0; from < len(b.tasks); {
		to := b.chunk(from)
		b.send(ctx, b.tasks[from:to])
		b.shelve(ctx, b.tasks[from:to])
		from = to
	}
	return b.answer()
}

// batchCall is one call of EnqueueBatch.
type batchCall struct {
	p     *Producer
	own   ownOptions
	at    time.Time
	tasks []batchTask
	worst Where // the last of the places in which a task is
	op    *observed
	notes notes
}

// batchTask is one task of a batch. It is done when it is somewhere or has an error.
type batchTask struct {
	call
	where    Where
	err      error
	redisErr error    // of its attempt
	stopped  *breaker // why it goes to the spool
	job      *job     // that goes there
}

func (t *batchTask) done() bool { return t.where != Nowhere || t.err != nil }

// composeAlone is the number of tasks up to which one goroutine composes them: that takes
// about as long as sending them does.
const composeAlone = 128

func (b *batchCall) compose(ctx context.Context, tasks []*asynq.Task, opts []asynq.Option) {
	parts := min(runtime.GOMAXPROCS(0), (len(tasks)+composeAlone-1)/composeAlone)
	var wg sync.WaitGroup
	for k := range parts {
		from, to := k*len(tasks)/parts, (k+1)*len(tasks)/parts
		part := func() {
			for i := from; i < to; i++ {
				t := &b.tasks[i]
				if t.err = b.p.compose(ctx, &t.call, tasks[i], opts); t.err == nil {
					t.err = b.p.twin(t.cmd)
				}
			}
		}
		if k == parts-1 {
			part()
		} else {
			wg.Go(part)
		}
	}
	wg.Wait()
}

// chunk returns the end of the pipeline that begins with a task.
func (b *batchCall) chunk(from int) (to int) {
	size := 0
	for to = from; to < len(b.tasks) && to < from+pipelineTasks && size < pipelineBytes; to++ {
		size += b.tasks[to].cmd.Size()
	}
	return to
}

// send tries Redis with those tasks that no breaker stops, and with none if the spool is
// to come first.
func (b *batchCall) send(ctx context.Context, tasks []batchTask) {
	sent, passes, cmds := make([]*batchTask, 0, len(tasks)), make([]pass, 0, len(tasks)), make([]command, 0, len(tasks))
	behind := map[string]bool{} // by queue: one answer for all its tasks
	for i := range tasks {
		t := &tasks[i]
		if t.done() {
			continue
		}
		var at pass
		if at, t.stopped = b.p.breakers.enter(t.cmd.Queue); t.stopped != nil || b.own.SpoolFirst {
			continue
		}
		late, asked := behind[t.cmd.Queue]
		if !asked {
			late = b.p.gate.behind(ctx, t.cmd.Queue)
			behind[t.cmd.Queue] = late
		}
		if !late {
			sent, passes, cmds = append(sent, t), append(passes, at), append(cmds, t.cmd)
		}
	}
	if len(sent) == 0 {
		return
	}
	attemptCtx, shortened, cancel := b.p.budget.of(ctx)
	defer cancel()
	defer b.p.flights.end(b.p.flights.begin())
	told := map[*breaker]bool{} // of the failure of this one attempt
	for i, r := range b.p.sender.batch(attemptCtx, cmds) {
		t := sent[i]
		if r.err == nil {
			passes[i].succeeded()
			t.where, t.err = b.p.answered(ctx, &t.call, r.verdict)
			continue
		}
		t.redisErr, t.stopped = r.err, passes[i].of(r.err)
		if !told[t.stopped] {
			told[t.stopped] = true
			b.p.failed(passes[i], hasty(attemptCtx, r.err, shortened), r.err, &b.notes)
		}
	}
}

// shelve writes the tasks to the spool that are not done, in one commit.
func (b *batchCall) shelve(ctx context.Context, tasks []batchTask) {
	var left []*batchTask
	for i := range tasks {
		t := &tasks[i]
		if t.done() {
			continue
		}
		j, err := b.p.job(ctx, &t.call, b.own, t.redisErr)
		if err == nil && b.own.NoSpool {
			err = unavailable(j, because(b.own, t.redisErr, t.stopped))
		}
		if t.job, t.err = &j, err; err == nil {
			left = append(left, t)
		}
	}
	op := b.beginSpool(ctx, left)
	left, err := b.append(left)
	b.p.end(op, err)
	b.p.counters.notStored(len(left), err)
	for _, t := range left {
		if err != nil {
			t.err = bothFailed(*t.job, because(b.own, t.redisErr, t.stopped), err)
			continue
		}
		t.where = t.job.where()
		b.p.shelved(*t.job, t.stopped, &b.notes)
	}
}

// append writes tasks to the spool, but for those whose twin it holds: they get their error.
// It returns the others.
func (b *batchCall) append(tasks []*batchTask) ([]*batchTask, error) {
	for len(tasks) > 0 {
		records := make([]spool.Record, len(tasks))
		for i, t := range tasks {
			records[i] = t.job.record()
		}
		err := b.p.spool.Append(records...)
		twins := (*spool.TwinsError)(nil)
		if !errors.As(err, &twins) {
			return tasks, err
		}
		tasks = withoutTwins(tasks, twins.Errs)
	}
	return nil, nil
}

// withoutTwins gives those tasks their error whose twin the spool holds, and returns the
// others.
func withoutTwins(tasks []*batchTask, errs []error) (rest []*batchTask) {
	for i, t := range tasks {
		if t.err = twinError(errs[i]); t.err == nil {
			rest = append(rest, t)
		}
	}
	return rest
}

func (b *batchCall) answer() ([]*asynq.TaskInfo, error) {
	infos := make([]*asynq.TaskInfo, len(b.tasks))
	errs := make([]error, len(b.tasks))
	failed := false
	for i := range b.tasks {
		t := &b.tasks[i]
		if errs[i] = t.err; t.err != nil {
			failed = true
			continue
		}
		b.p.counters.accepted.Add(1)
		infos[i] = t.info
		b.worst = max(b.worst, t.where)
	}
	b.own.Report(int(b.worst))
	if failed {
		return infos, &BatchError{Errs: errs}
	}
	return infos, nil
}
