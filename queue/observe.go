package queue

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/spool"
)

// observed is an operation that an Observer follows. Nil: none does.
type observed struct {
	op  Operation
	ctx context.Context //nolint:containedctx // what Begin returned, for End
}

// begin tells the Observer of an operation. It must not be called without one.
func (p *Producer) begin(ctx context.Context, op Operation) (o *observed) {
	o = &observed{op: op}
	defer func() {
		if r := recover(); r != nil {
			p.observerPanicked(r)
			o = nil
		}
	}()
	if o.ctx = p.cfg.Observer.Begin(ctx, &o.op); o.ctx == nil {
		o.ctx = ctx
	}
	return o
}

// end tells the Observer how an operation ended.
func (p *Producer) end(o *observed, err error) {
	if o == nil {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			p.observerPanicked(r)
		}
	}()
	p.cfg.Observer.End(o.ctx, &o.op, err)
}

func (p *Producer) observerPanicked(r any) {
	p.cfg.Logger.Error("queue: Config.Observer panicked", "err", r)
}

// beginEnqueue tells the Observer of a call that asynq has composed, and puts the headers in place
// that it adds.
func (p *Producer) beginEnqueue(ctx context.Context, c *call) {
	if p.cfg.Observer == nil {
		return
	}
	c.op = p.begin(ctx, Operation{
		Kind: OpEnqueue, Tasks: 1, Start: c.at, Headers: c.info.Headers,
		JobEvent: JobEvent{TaskID: c.info.ID, Queue: c.info.Queue, Type: c.info.Type, At: c.at},
	})
	c.addHeaders(c.op)
}

// endEnqueue tells the Observer how a call ended, also one that asynq was not asked about or has
// refused: then of its beginning, too.
func (p *Producer) endEnqueue(ctx context.Context, c *call, task *asynq.Task, where Where, err error) {
	if p.cfg.Observer == nil {
		return
	}
	if c.info == nil {
		op := Operation{Kind: OpEnqueue, Tasks: 1, Start: time.Now()}
		if op.At = op.Start; task != nil {
			op.Type, op.Headers = task.Type(), task.Headers()
		}
		c.op = p.begin(ctx, op)
	}
	if c.op != nil {
		c.op.op.Where, c.op.op.InDoubt = where, where == InDoubt || errors.Is(err, ErrMaybeEnqueued)
	}
	p.end(c.op, err)
}

// addHeaders puts headers of an Observer in the composed task. The task of the caller's, whose
// headers TaskInfo shares, stays as it is.
func (c *call) addHeaders(o *observed) {
	if o == nil || len(o.op.added) == 0 {
		return
	}
	all := make(map[string]string, len(c.info.Headers)+len(o.op.added))
	maps.Copy(all, c.info.Headers)
	for k, v := range o.op.added {
		if _, there := all[k]; there {
			return
		}
		all[k] = v
	}
	c.info.Headers, c.cmd = all, c.cmd.WithHeaders(o.op.added)
}

// begin tells the Observer of a batch, whose tasks are composed, and puts the headers in place
// that it adds.
func (b *batchCall) begin(ctx context.Context) {
	if b.p.cfg.Observer == nil {
		return
	}
	op := Operation{Kind: OpEnqueue, Tasks: len(b.tasks), Start: b.at, JobEvent: JobEvent{At: b.at}}
	var same common
	for i := range b.tasks {
		if info := b.tasks[i].info; info != nil {
			same.add(info.Queue, info.Type)
		}
	}
	op.Queue, op.Type = same.queue, same.typename
	b.op = b.p.begin(ctx, op)
	for i := range b.tasks {
		if b.tasks[i].info != nil {
			b.tasks[i].addHeaders(b.op)
		}
	}
}

// end tells the Observer how a batch ended, also one that was refused as a whole: then of its
// beginning, too.
func (b *batchCall) end(ctx context.Context, tasks int, err error) {
	if b.p.cfg.Observer == nil {
		return
	}
	if b.at.IsZero() {
		now := time.Now()
		b.op = b.p.begin(ctx, Operation{Kind: OpEnqueue, Tasks: tasks, Start: now, JobEvent: JobEvent{At: now}})
	}
	if b.op != nil {
		b.op.op.Where, b.op.op.InDoubt = b.worst, b.worst == InDoubt || errors.Is(err, ErrMaybeEnqueued)
	}
	b.p.end(b.op, err)
}

// beginSpool tells the Observer that tasks of a batch are being written to the spool.
func (b *batchCall) beginSpool(ctx context.Context, tasks []*batchTask) *observed {
	if b.p.cfg.Observer == nil {
		return nil
	}
	jobs := make([]*job, len(tasks))
	for i, t := range tasks {
		jobs[i] = t.job
	}
	return b.p.beginSpool(ctx, b.op, jobs...)
}

// common is what several jobs have in common: empty where they differ.
type common struct {
	any             bool
	queue, typename string
}

func (c *common) add(queue, typename string) {
	if !c.any {
		*c = common{true, queue, typename}
	}
	if c.queue != queue {
		c.queue = ""
	}
	if c.typename != typename {
		c.typename = ""
	}
}

// beginSpool tells the Observer that jobs are being written to the spool: as a part of an
// operation, or by themselves if parent is nil.
func (p *Producer) beginSpool(ctx context.Context, parent *observed, jobs ...*job) *observed { //nolint:contextcheck // the parent's is ctx with what Begin added
	if p.cfg.Observer == nil || len(jobs) == 0 {
		return nil
	}
	if parent != nil {
		ctx = parent.ctx
	}
	op := Operation{Kind: OpSpool, Tasks: len(jobs), Start: time.Now()}
	if len(jobs) == 1 {
		op.JobEvent, op.Headers = jobs[0].event(), jobs[0].Headers
	}
	var same common
	for _, j := range jobs {
		same.add(j.Queue, j.Type)
		op.Where = max(op.Where, j.where())
	}
	op.Queue, op.Type, op.InDoubt = same.queue, same.typename, op.Where == InDoubt
	return p.begin(ctx, op)
}

// beginReplay tells the Observer that a job of the spool is being sent, or is a dead letter without.
func (p *Producer) beginReplay(ctx context.Context, e JobEvent, headers map[string]string) *observed {
	if p.cfg.Observer == nil {
		return nil
	}
	now := time.Now()
	return p.begin(ctx, Operation{
		Kind: OpReplay, Tasks: 1, Start: now, JobEvent: e, Spooled: max(now.Sub(e.At), 0), Headers: headers,
	})
}

// observe begins the replay of a record, and adds the Observer's headers to what is sent.
func (it *item) observe(ctx context.Context, p *Producer) {
	if it.op = p.beginReplay(ctx, it.job.event(), it.job.Headers); it.op != nil && len(it.op.op.added) > 0 {
		it.cmd = it.cmd.WithHeaders(it.op.op.added)
	}
}

// endReplay tells the Observer what became of a job: nothing, where the record was only kept.
func (r *replayer) endReplay(s settlement, err error) {
	if r.p.cfg.Observer == nil || s.Outcome == spool.Kept {
		return
	}
	if s.unsent {
		if err != nil {
			return
		}
		s.op = r.p.beginReplay(r.ctx, s.event, s.headers)
	}
	if s.op != nil && err == nil {
		s.op.op.Outcome, s.op.op.Reason = s.Outcome.String(), s.Reason
	}
	r.p.end(s.op, err)
}

// errUnrecorded is how a replay ends that the Producer's end came before.
var errUnrecorded = errors.New("queue: the Producer ended before the outcome was recorded; the job is sent again")

// abandon tells the Observer of what was sent and will not be recorded any more.
func (r *replayer) abandon() {
	for _, s := range r.unsettled {
		r.endReplay(s, errUnrecorded)
	}
}
