package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
)

// drain has everything sent at once: by living processes, and by this one. own sends what
// dead ones left; nil: there is nothing.
func (d *drainer) drain(ctx context.Context, dir string, own *queue.Producer, result *drained) error {
	run := &draining{own: own, before: map[*desk]queue.Stats{}}
	if err := d.askLiving(ctx, dir, run); err != nil {
		return errors.Join(err, run.close()) //nolint:contextcheck // bounded by itself
	}
	show := startProgress(d.err, func() progressNow { return run.now(ctx) })
	var wg sync.WaitGroup
	for _, desk := range run.live {
		wg.Go(func() {
			stats := func() (queue.Stats, error) {
				st, err := desk.status(ctx)
				return st.Stats, err
			}
			err := d.unlessStuck(ctx, stats, func(ctx context.Context) error {
				var none struct{}
				return desk.call(ctx, http.MethodPost, "/v1/drain", struct{}{}, &none)
			})
			if ctx.Err() == nil { // else it says no more than that
				run.note(err)
			}
		})
	}
	if own != nil {
		run.note(d.unlessStuck(ctx, func() (queue.Stats, error) { return own.Stats(), nil }, own.Drain))
		run.note(run.close()) //nolint:contextcheck // bounded by itself
	}
	wg.Wait()
	show.stop()
	run.sum(context.WithoutCancel(ctx), result)
	for _, err := range run.errs {
		result.Why = append(result.Why, err.Error())
	}
	return errors.Join(run.errs...)
}

// askLiving finds the living processes that are to be asked.
func (d *drainer) askLiving(ctx context.Context, dir string, run *draining) error {
	owners, err := inspect(dir)
	if err != nil || d.notAsked() != "" {
		return err
	}
	live, _ := liveDesks(ctx, dir, owners)
	for _, desk := range live {
		st, err := desk.status(ctx)
		if err != nil || st.Stats.State == queue.StateOutage && !d.wait {
			continue // left says so
		}
		run.add(desk, st.Stats)
	}
	return nil
}

// notAsked says why living processes are not asked to send: only some jobs are to be sent, or
// in another way than theirs. Empty: they are asked.
func (d *drainer) notAsked() string {
	var flags []string
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"--to", d.to != ""},
		{"--queue", d.pick.queue != ""},
		{"--type", d.pick.typename != ""},
		{"--limit", d.pick.limit > 0},
		{"--rate", d.rate > 0},
	} {
		if f.given {
			flags = append(flags, f.name)
		}
	}
	switch n := len(flags); n {
	case 0:
		return ""
	case 1:
		return "not asked to send, because of " + flags[0]
	default:
		return "not asked to send, because of " + strings.Join(flags[:n-1], ", ") + " and " + flags[n-1]
	}
}

// sender returns the Producer that sends what dead owners left, nil if there is none.
func (d *drainer) sender(dir string, opt asynq.RedisConnOpt, before status) (*queue.Producer, error) {
	if !d.sendsItself(before) {
		return nil, nil
	}
	return queue.New(d.config(dir, opt, before))
}

// config is that of a Producer that takes no jobs.
func (d *drainer) config(dir string, opt asynq.RedisConnOpt, before status) queue.Config {
	cfg := queue.Config{
		Redis: opt, SpoolDir: dir, DrainOnly: true, Logger: slog.New(slog.DiscardHandler),
		Replay: queue.ReplayConfig{Rate: d.rate, Only: d.pick.takes, DeliverLate: d.late, MaxMemory: d.maxMemory},
	}
	for _, o := range before.Owners {
		if o.State == stateForeign && d.takes(o) {
			cfg.AcceptTargets = append(cfg.AcceptTargets, o.Target)
		}
	}
	return cfg
}

// draining is a drain that goes on in several processes.
type draining struct {
	own    *queue.Producer // nil: this process has nothing to send
	live   []*desk
	before map[*desk]queue.Stats

	mu   sync.Mutex
	errs []error // guarded by mu
}

// note keeps why not all was sent.
func (r *draining) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

func (r *draining) close() error {
	if r.own == nil {
		return nil
	}
	return r.own.Close()
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
