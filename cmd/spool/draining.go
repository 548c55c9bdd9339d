package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"

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
		errs = append(errs, err, run.own.Close()) //nolint:contextcheck // bounded by itself
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
