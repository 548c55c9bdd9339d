package queue

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jobspool/jobspool/spool"
)

const (
	// probeEvery is the shortest time between two attempts in an outage; up to as
	// much again comes on top at random, so that producers do not march in step.
	probeEvery = 500 * time.Millisecond

	// adoptEvery is the time between two looks for dead owners.
	adoptEvery = 5 * time.Second

	// maxBatch is the number of records in a full batch.
	maxBatch = 500

	// batchBytes bounds the encoded size of a batch.
	batchBytes = 512 << 10

	// batchTimeout bounds the wait for the replies of one batch.
	batchTimeout = 5 * time.Second

	// maxAttempts is how often Redis may refuse a record for its own sake before
	// it becomes a dead letter.
	maxAttempts = 3
)

// batchSize is the number of records in a batch: after an outage the first is the
// half-open try, and each that goes well makes room for more.
func batchSize(step int) int {
	ramp := [...]int{1, 16, 128, maxBatch}
	return ramp[min(step, len(ramp)-1)]
}

// replayer sends what is spooled, in one goroutine, oldest first. In an outage it
// alone tries whether Redis is back.
type replayer struct {
	p         *Producer
	ctx       context.Context //nolint:containedctx // ends the goroutine; set once by newReplayer
	stop      context.CancelFunc
	ended     chan struct{}
	wake      chan struct{}          // capacity 1
	draining  atomic.Int64           // running Drain calls
	lastQueue atomic.Pointer[string] // in whose slot to probe

	// unsettled are outcomes whose commit failed. They are committed before
	// anything else is sent: this process never sends those records again.
	unsettled []spool.Settlement

	adoptErr, readErr, settleErr string // what was last complained of

	mu      sync.Mutex // guards stepped and lastErr
	stepped chan struct{}
	lastErr error
}

func newReplayer(p *Producer) *replayer {
	r := &replayer{p: p, ended: make(chan struct{}), wake: make(chan struct{}, 1), stepped: make(chan struct{})}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// poke wakes the replayer if it sleeps.
func (r *replayer) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run replays until stop is called.
func (r *replayer) run() {
	defer close(r.ended)
	var adopted time.Time
	for step := 0; r.ctx.Err() == nil; {
		if time.Since(adopted) >= adoptEvery {
			r.adopt()
			adopted = time.Now()
		}
		size := batchSize(step)
		if r.draining.Load() > 0 && !r.p.breaker.open() {
			size = maxBatch
		}
		n, err := r.step(size)
		r.finish(err)
		switch {
		case err != nil:
			step = 0
		case n > 0:
			step++
		default:
			r.sleep(time.Until(adopted.Add(adoptEvery)), true)
		}
		if err != nil || r.p.breaker.open() {
			r.sleep(probeEvery+rand.N(probeEvery), false)
		}
	}
}

// sleep waits, until poked if that is asked for.
func (r *replayer) sleep(d time.Duration, pokable bool) {
	var wake chan struct{}
	if pokable {
		wake = r.wake
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-r.ctx.Done():
	}
}

func (r *replayer) adopt() {
	n, err := r.p.spool.Adopt()
	r.complain(&r.adoptErr, "queue: what a dead process left cannot be adopted", err)
	if n > 0 {
		r.p.cfg.Logger.Info("queue: adopted jobs of dead processes", "jobs", n)
	}
}

// complain logs an error of the disk's, but not again and again.
func (r *replayer) complain(last *string, msg string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != *last {
		r.p.cfg.Logger.Error(msg, "err", err) //nolint:sloglint // the callers' are constants
	}
	*last = text
}

// step sends one batch and settles it, or probes if there is an outage and nothing
// to send. It returns the number of records that were settled. An error means
// that Redis or the disk is in trouble.
func (r *replayer) step(size int) (n int, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, batchTimeout)
	defer cancel()
	if len(r.unsettled) > 0 {
		n, err := r.settle(nil)
		return n, r.withoutDisk(ctx, err)
	}
	entries, err := r.p.spool.Read(size, batchBytes)
	r.complain(&r.readErr, "queue: the spool cannot be read", err)
	if err != nil {
		return 0, r.withoutDisk(ctx, err)
	}
	generation, _ := r.p.breaker.allow()
	settlements, redisErr := r.replay(ctx, entries)
	if len(settlements) > 0 {
		if n, err = r.settle(settlements); err != nil {
			return 0, err
		}
	}
	delivered := slices.ContainsFunc(settlements, func(s spool.Settlement) bool { return s.Outcome == spool.Delivered })
	if redisErr == nil && !delivered && r.p.breaker.open() {
		redisErr = r.p.sender.probe(ctx, r.probeQueue()) // other answers do not prove a write
	}
	switch {
	case redisErr == nil && (delivered || r.p.breaker.open()):
		r.p.recovered()
	case redisErr != nil && r.ctx.Err() == nil:
		r.p.failed(generation, false, redisErr)
	}
	return n, redisErr
}

// withoutDisk ends an outage that is over although the disk is in trouble: live jobs do
// not need it. It returns err.
func (r *replayer) withoutDisk(ctx context.Context, err error) error {
	if err != nil && r.p.breaker.open() && r.p.sender.probe(ctx, r.probeQueue()) == nil {
		r.p.recovered()
	}
	return err
}

func (r *replayer) probeQueue() string {
	if q := r.lastQueue.Load(); q != nil {
		return *q
	}
	return probeQueue
}

// settle commits outcomes, those first whose commit failed before.
func (r *replayer) settle(settlements []spool.Settlement) (n int, err error) {
	r.unsettled = append(r.unsettled, settlements...)
	err = r.p.spool.Settle(r.unsettled...)
	r.complain(&r.settleErr, "queue: what was sent cannot be recorded, replay waits", err)
	if err != nil {
		return 0, err
	}
	n = len(r.unsettled)
	r.unsettled = nil
	return n, nil
}

// replay sends a batch and judges each record. Records that it does not mention
// stay pending. The error speaks of Redis, not of a record.
func (r *replayer) replay(ctx context.Context, entries []spool.Entry) (settlements []spool.Settlement, err error) {
	settle := func(e spool.Entry, o spool.Outcome, reason string) {
		settlements = append(settlements, spool.Settlement{Position: e.Position, Outcome: o, Reason: reason})
	}
	now := time.Now()
	var cmds []command
	var sent []spool.Entry
	var jobs []job
	for _, e := range entries {
		j, err := readJob(e.Record)
		if err != nil {
			settle(e, spool.Dead, "cannot be decoded: "+err.Error())
			continue
		}
		task, opts := j.task(now)
		_, cmd, err := r.p.composer.compose(ctx, task, opts...)
		if err != nil {
			settle(e, spool.Dead, "asynq refuses it: "+err.Error())
			continue
		}
		sent, jobs, cmds = append(sent, e), append(jobs, j), append(cmds, cmd)
	}
	if len(cmds) == 0 { // Redis was not asked
		return settlements, nil
	}
	for i, res := range r.p.sender.batch(ctx, cmds) {
		outcome, reason, jerr := r.judge(ctx, jobs[i], sent[i].Attempts, res)
		switch {
		case jerr == nil:
			settle(sent[i], outcome, reason)
		case err == nil && !errors.Is(jerr, errUnclear):
			err = jerr
		}
	}
	return settlements, err
}

// finish makes the result of a step known to those who wait in drain.
func (r *replayer) finish(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastErr = err
	close(r.stepped)
	r.stepped = make(chan struct{})
}
