package queue

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jobspool/jobspool/spool"
)

const (
	// adoptEvery is the time between two looks for dead owners.
	adoptEvery = 5 * time.Second

	// batchBytes bounds the encoded size of a batch.
	batchBytes = 512 << 10

	// batchTimeout bounds the wait for the replies of one batch.
	batchTimeout = 5 * time.Second

	// diskPause is the time between two attempts where the disk fails.
	diskPause = time.Second
)

// replayer sends what is spooled. One goroutine reads, sends and settles batch after
// batch; beside it, the next batch is read and composed while one is on its way, and
// outages are tried for their end.
//
//	read and compose ──┐ next batch ┌── read and compose ──┐
//	                   send ── settle                      send ── settle
//
// A batch is settled before the next is sent: a crash sends again at most one.
type replayer struct {
	p         *Producer
	ctx       context.Context //nolint:containedctx // ends the goroutines; set once by newReplayer
	stop      context.CancelFunc
	ended     chan struct{}
	wake      chan struct{}          // capacity 1
	draining  atomic.Int64           // running Drain calls
	older     atomic.Bool            // adopted since the last look: they come before what was read
	lastQueue atomic.Pointer[string] // in whose slot to probe for all

	backlog  *backlog
	pace     *pace
	yield    yield
	guard    *guard
	deferred deferrals
	trials   *trials
	ahead    *draft // being read ahead; nil: none

	silent int // records in a row that were passed over for want of an answer

	// unsettled are outcomes whose commit failed. They are committed before
	// anything else is sent: this process never sends those records again.
	unsettled []settlement

	adopted                      time.Time
	adoptErr, readErr, settleErr string // what was last complained of

	progress  progress
	deferring atomic.Int64 // records passed over, for Stats

	mu      sync.Mutex // guards stepped and lastErr
	stepped chan struct{}
	lastErr error
}

// settlement is the outcome of a job.
type settlement struct {
	spool.Settlement
	event JobEvent
}

func newReplayer(p *Producer) *replayer {
	r := &replayer{
		p: p, ended: make(chan struct{}), wake: make(chan struct{}, 1), stepped: make(chan struct{}),
		backlog: newBacklog(p.spool, p.cfg.Replay.Weights), pace: newPace(p.cfg.Replay.Rate),
		guard: newGuard(p.sender, p.cfg.Replay.MaxMemory, p.cfg.Logger), deferred: deferrals{}, trials: newTrials(), yield: yield{live: &p.live},
	}
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
	defer r.trials.running.Wait()
	defer r.discard()
	for r.ctx.Err() == nil {
		if time.Since(r.adopted) >= adoptEvery {
			r.adopt()
		}
		if r.older.Swap(false) {
			r.discard()
		}
		var n notes
		wait := diskPause
		err := r.tryOutages(&n)
		if err == nil {
			wait, err = r.step(&n)
		}
		r.deferring.Store(int64(len(r.deferred)))
		r.p.deliver(n)
		r.finish(err)
		r.sleep(wait)
	}
}

// idle is the wait where there is nothing to do until something happens.
const idle = time.Hour

// sleep waits, but not past what is due by itself. The end of a try ends it, and being
// poked does if it is idle.
func (r *replayer) sleep(wait time.Duration) {
	var wake chan struct{}
	if wait == idle {
		wake = r.wake
	}
	wait = min(wait, time.Until(r.adopted.Add(adoptEvery)), r.trials.due(), r.deferred.due(), r.guard.due())
	if wait <= 0 {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-r.trials.done:
	case <-r.ctx.Done():
	}
}

func (r *replayer) adopt() {
	err := r.adoptDead()
	r.adopted = time.Now()
	r.complain(&r.adoptErr, "queue: what a dead process left cannot be adopted", err)
}

// adoptDead takes over what dead processes left. Safe for concurrent use.
func (r *replayer) adoptDead() error {
	n, err := r.p.spool.Adopt()
	if n > 0 {
		r.p.cfg.Logger.Info("queue: adopted jobs of dead processes", "jobs", n)
		r.older.Store(true)
	}
	return err
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
