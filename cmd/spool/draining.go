package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
)

// drain has everything sent at once: by living processes, and by this one.
func (d *drainer) drain(ctx context.Context, dir string, opt asynq.RedisConnOpt, before status, result *drained) error {
	owners, err := inspect(dir)
	if err != nil {
		return err
	}
	var live []*desk
	if !d.picky() {
		live, _ = liveDesks(ctx, dir, owners)
	}
	run := &draining{before: map[*desk]queue.Stats{}}
	var errs []error
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, desk := range live {
		st, err := desk.status(ctx)
		if err != nil || st.Stats.State == queue.StateOutage && !d.wait {
			continue // left says so
		}
		run.add(desk, st.Stats)
		wg.Go(func() {
			var none struct{}
			err := desk.call(ctx, http.MethodPost, "/v1/drain", struct{}{}, &none)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	if d.sendsItself(before) {
		p, err := queue.New(d.config(dir, opt, before)) //nolint:contextcheck // New waits for nothing
		if err != nil {
			return err
		}
		run.own = p
	}
	show := startProgress(d.err, func() progressNow { return run.now(ctx) })
	if run.own != nil {
		err := run.own.Drain(ctx)
		mu.Lock()
		errs = append(errs, err, run.own.Close())
		mu.Unlock()
	}
	wg.Wait()
	show.stop()
	run.sum(context.WithoutCancel(ctx), result)
	return errors.Join(errs...)
}

// picky reports whether only some jobs are to be sent, or in another way than their process
// would.
func (d *drainer) picky() bool {
	return d.to != "" || d.rate > 0 || d.pick.limit > 0 || d.pick.queue != "" || d.pick.typename != ""
}

// config is that of a Producer that takes no jobs.
func (d *drainer) config(dir string, opt asynq.RedisConnOpt, before status) queue.Config {
	cfg := queue.Config{
		Redis: opt, SpoolDir: dir, DrainOnly: true, Logger: slog.New(slog.DiscardHandler),
		Replay: queue.ReplayConfig{Rate: d.rate, Only: d.pick.takes},
	}
	if d.to != "" {
		for _, o := range before.Owners {
			if o.State == stateOrphan || o.State == stateForeign {
				cfg.AcceptTargets = append(cfg.AcceptTargets, o.Target)
			}
		}
	}
	return cfg
}

// draining is a drain that goes on in several processes.
type draining struct {
	own    *queue.Producer // nil: this process has nothing to send
	live   []*desk
	before map[*desk]queue.Stats
}

func (r *draining) add(d *desk, st queue.Stats) {
	r.live = append(r.live, d)
	r.before[d] = st
}

// now is how far it is.
func (r *draining) now(ctx context.Context) (p progressNow) {
	add := func(st queue.Stats, total int64) {
		p.total += total
		p.done += max(total-int64(st.Pending), 0)
		if st.State != queue.StateUp {
			p.phase = "waiting for Redis"
		}
		if st.ReplayWaits != "" {
			p.phase = "waiting for room in Redis"
		}
	}
	p.phase = "draining"
	if r.own != nil {
		st := r.own.Stats()
		add(st, st.Adopted)
	}
	for _, d := range r.live {
		before := r.before[d]
		st, err := d.status(ctx)
		if err != nil {
			st.Stats = before
		}
		add(st.Stats, int64(before.Pending)+st.Stats.Adopted-before.Adopted)
	}
	return p
}

// sum adds up what was done.
func (r *draining) sum(ctx context.Context, result *drained) {
	if r.own != nil {
		result.add(queue.Stats{}, r.own.Stats())
	}
	for _, d := range r.live {
		if st, err := d.status(ctx); err == nil {
			result.add(r.before[d], st.Stats)
		}
	}
}

// rehearse counts what a drain would send.
func (d *drainer) rehearse(ctx context.Context, dir string, opt asynq.RedisConnOpt) (err error) {
	st, err := look(ctx, dir, opt)
	if err != nil {
		return err
	}
	foreign := map[string]bool{}
	for _, o := range st.Owners {
		foreign[o.Name] = o.State == stateForeign && d.to == ""
	}
	ds, err := d.flags.openDesks(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ds.close()) }()
	plan := rehearsal{Kinds: []queue.Kind{}}
	for _, desk := range ds.all {
		if desk.live && d.picky() {
			continue
		}
		err := desk.jobs(ctx, queue.Filter{}, false, func(j queue.Job) error {
			event := queue.JobEvent{TaskID: j.ID, Queue: j.Queue, Type: j.Type, At: j.At}
			if !foreign[j.Owner] && (desk.live || d.pick.takes(event)) {
				plan.add(j)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	ds.complain(d.err)
	return plan.show(d)
}

// rehearsal is what a drain would send.
type rehearsal struct {
	Jobs   int          `json:"jobs"`
	Oldest *time.Time   `json:"oldest,omitempty"`
	Kinds  []queue.Kind `json:"kinds"`
}

func (r *rehearsal) add(j queue.Job) {
	r.Jobs++
	if r.Oldest == nil || j.At.Before(*r.Oldest) {
		r.Oldest = &j.At
	}
	for i, k := range r.Kinds {
		if k.Queue == j.Queue && k.Type == j.Type {
			r.Kinds[i].Pending, r.Kinds[i].Bytes = k.Pending+1, k.Bytes+int64(j.Bytes)
			return
		}
	}
	r.Kinds = append(r.Kinds, queue.Kind{Queue: j.Queue, Type: j.Type, Pending: 1, Bytes: int64(j.Bytes)})
}

func (r *rehearsal) show(d *drainer) error {
	if d.flags.json {
		return printJSON(d.out, r)
	}
	fmt.Fprintf(d.out, "%s would be sent\n", plural(r.Jobs, "job"))
	for _, k := range r.Kinds {
		fmt.Fprintf(d.out, "  queue %s, type %s: %s\n", k.Queue, k.Type, count(int64(k.Pending)))
	}
	if r.Oldest != nil {
		fmt.Fprintf(d.out, "the oldest was accepted %s ago\n", age(time.Now(), *r.Oldest))
	}
	if d.pick.tooOld.Load() {
		fmt.Fprintf(d.out, "jobs older than %v are not counted: --max-age 0 sends them, too\n", d.pick.maxAge)
	}
	return nil
}
