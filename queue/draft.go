package queue

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// draftAge is how old the times in a draft's commands may be: they count from when it was
// composed.
const draftAge = time.Second

// draft is a batch that is read and composed, and not sent yet.
type draft struct {
	ready chan struct{} // closed when the rest is there
	at    time.Time
	items []item
	dead  []settlement // records that nobody can send
	left  bool         // records were left out: read again once it is sent
	err   error        // of the disk's
}

// item is a record on its way.
type item struct {
	entry spool.Entry
	job   job
	cmd   command

	tries int // odd errors before that were its own, since Redis took others of its queue

	// blamed: after such tries it goes alone, and an odd error is its own again.
	blamed bool

	op *observed // of its replay
}

// draft begins to read a batch and to compose it. Only one may be made at a time.
func (r *replayer) draft(count int) *draft {
	d := &draft{ready: make(chan struct{}), at: time.Now()}
	waiting := maps.Clone(r.deferred)
	go func() {
		defer close(d.ready)
		for more := true; more && d.empty(); {
			if d.left = r.ctx.Err() != nil; !d.left { // there may be many that are not wanted
				more = d.read(r, count, waiting)
			}
		}
	}()
	return d
}

// wait returns when a draft, if there is one, is complete: until then the backlog is its own.
func (d *draft) wait() {
	if d != nil {
		<-d.ready
	}
}

func (d *draft) empty() bool { return d.err == nil && !d.left && len(d.items)+len(d.dead) == 0 }

// read takes up to so many records. It reports whether there were any.
func (d *draft) read(r *replayer, count int, waiting deferrals) bool {
	var entries []spool.Entry
	entries, d.err = r.backlog.read(count, batchBytes, r.stopped)
	d.items = slices.Grow(d.items, len(entries))
	for _, e := range entries {
		if waiting.has(e.Position) {
			r.backlog.met[e.Position] = true
		}
		switch {
		case waiting.defers(e.Position, d.at): // read again when it is due
		case !r.wanted(e):
		case r.stopped(queueOf(e.Class)):
			d.left = true
		default:
			d.add(r, e)
		}
	}
	return len(entries) > 0
}

func (d *draft) add(r *replayer, e spool.Entry) {
	j, cmd, why := r.decode(r.ctx, e.Record, d.at)
	if why.kind != alive {
		s := outcome(e, j, spool.Dead, why)
		s.unsent, s.headers = true, j.Headers
		d.dead = append(d.dead, s)
		return
	}
	d.items = append(d.items, item{entry: e, job: j, cmd: cmd})
}

// decode returns the job of a record and the command that enqueues it at that time, or
// why it is a dead letter.
func (r *replayer) decode(ctx context.Context, rec spool.Record, at time.Time) (j job, cmd command, why death) {
	j, err := readJob(rec)
	if err != nil {
		return job{ID: rec.ID, Queue: queueOf(rec.Class), At: rec.At}, cmd, death{undecodable, "cannot be decoded: " + err.Error()}
	}
	if !j.Expires.IsZero() && at.After(j.Expires) {
		return j, cmd, death{expired, "waited longer than its MaxSpoolAge"}
	}
	if !r.p.cfg.Replay.DeliverLate && j.Deadline.After(j.At) && at.After(j.Deadline) {
		return j, cmd, death{pastDeadline, "its deadline passed while it was spooled"}
	}
	if _, cmd, err = r.p.composer.Compose(ctx, j.task(at)); err != nil {
		return j, cmd, death{invalid, "asynq refuses it: " + err.Error()}
	}
	return j, cmd, death{}
}

// wanted reports whether a record may be sent at all.
func (r *replayer) wanted(e spool.Entry) bool {
	only := r.p.cfg.Replay.Only
	if only == nil {
		return true
	}
	j, err := readJob(e.Record)
	if err != nil {
		j = job{ID: e.ID, Queue: queueOf(e.Class), Type: typeOf(e.Class), At: e.At}
	}
	return only(j.event())
}

// stopped reports whether jobs of a queue cannot be sent now. The flow of others has
// those of many.
func (r *replayer) stopped(queue string) bool {
	return queue != spool.OtherFlow && (r.p.breakers.stops(queue) || r.room.full(queue))
}

// take returns the batch that was read ahead, or one that is read now where that is
// empty: something may have been spooled since.
func (r *replayer) take() *draft {
	d := r.ahead
	r.ahead = nil
	d.wait()
	if d == nil || d.empty() {
		d = r.draft(r.next())
		d.wait()
	}
	if time.Since(d.at) > draftAge {
		d.renew(r)
	}
	return d
}

// renew composes again what has waited.
func (d *draft) renew(r *replayer) {
	old := d.items
	d.items, d.at = make([]item, 0, len(old)), time.Now()
	for _, it := range old {
		d.add(r, it.entry)
	}
}

// discard gives up what was read ahead. What is not settled will be read again.
func (r *replayer) discard() {
	r.ahead.wait()
	r.ahead = nil
	r.backlog.rewind()
}

// cut leaves out what cannot be sent now: records of queues that were stopped since, those
// beyond what Redis has room for, and those before or behind one that was deferred, which
// goes alone.
func (r *replayer) cut(d *draft) {
	all := len(d.items)
	d.items = slices.DeleteFunc(d.items, func(it item) bool { return r.stopped(it.job.Queue) })
	if i := slices.IndexFunc(d.items, func(it item) bool { return r.deferred.has(it.entry.Position) }); i >= 0 && len(d.items) > 1 {
		d.items = d.items[:max(i, 1)]
	}
	for i := range d.items {
		tries := r.deferred[d.items[i].entry.Position].own
		d.items[i].tries, d.items[i].blamed = tries, tries > 0
	}
	d.items = r.room.fit(r.ctx, d.items)
	d.left = d.left || len(d.items) < all
}
