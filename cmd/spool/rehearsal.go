package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
)

// rehearse counts what a drain would send.
func (d *drainer) rehearse(ctx context.Context, dir string, opt asynq.RedisConnOpt) (err error) {
	defer func() {
		if ctx.Err() != nil {
			err = ended(ctx)
		}
	}()
	st, err := look(ctx, dir, opt)
	if err != nil {
		return err
	}
	if err := d.choose(st); err != nil {
		return err
	}
	foreign := map[string]bool{}
	for _, o := range st.Owners {
		foreign[o.Name] = o.State == stateForeign && !d.takes(o)
	}
	ds, err := d.flags.openDesks(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ds.close()) }()
	plan := rehearsal{sum: kindSum{}}
	for _, desk := range ds.all {
		if why := d.notAsked(); desk.live && why != "" {
			fmt.Fprintf(d.err, "spool: %s is %s: its jobs are not counted\n", desk.name, why)
			continue
		}
		err := desk.jobs(ctx, queue.Filter{}, false, func(j queue.Job) error {
			event := queue.JobEvent{TaskID: j.ID, Queue: j.Queue, Type: j.Type, At: j.At}
			if !foreign[j.Owner] && (desk.live || d.pick.takes(event)) {
				plan.Jobs++
				plan.sum.add(queue.Kind{Queue: j.Queue, Type: j.Type, Pending: 1, Bytes: int64(j.Bytes), Oldest: j.At})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	ds.complain(d.err)
	plan.Kinds, plan.LeftOut = plan.sum.list(), append([]string{}, ds.mute...)
	if err = plan.show(d); err == nil && len(ds.mute) > 0 {
		err = errNotAll
	}
	return err
}

// rehearsal is what a drain would send.
type rehearsal struct {
	Jobs    int          `json:"jobs"`
	Kinds   []queue.Kind `json:"kinds"`
	LeftOut []string     `json:"left_out"` // why there may be more

	sum kindSum
}

func (r *rehearsal) show(d *drainer) error {
	if d.flags.json {
		return printJSON(d.out, r)
	}
	fmt.Fprintf(d.out, "%s would be sent\n", plural(r.Jobs, "job"))
	for _, k := range r.Kinds {
		fmt.Fprintf(d.out, "  queue %s, type %s: %s, the oldest %s old\n", printable(k.Queue), printable(k.Type), count(int64(k.Pending)), age(time.Now(), k.Oldest))
	}
	if d.pick.tooOld.Load() {
		fmt.Fprintf(d.out, "jobs older than %v are not counted: --max-age 0 sends them, too\n", d.pick.maxAge)
	}
	return nil
}
