package queue

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jobspool/jobspool/spool"
	"github.com/jobspool/jobspool/spool/latency"
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

// replayer sends what is spooled. One goroutine sends batch after batch; beside it, the next
// one is read and composed, the one before is settled, and outages are tried for their end.
//
//	read and compose 2 │ read and compose 3 │ read and compose 4
//	send 1             │ send 2             │ send 3
//	                   │ settle 1           │ settle 2
//
// So a crash sends again at most two batches: what was on its way, and the one before if its
// commit, which takes a small part of the time, had not ended.
type replayer struct {
	p         *Producer
	ctx       context.Context //nolint:containedctx // ends the goroutines; set once by newReplayer
	stop      context.CancelFunc
	ended     chan struct{}
	wake      chan struct{}          // capacity 1
	draining  atomic.Int64           // running Drain calls
	reread    atomic.Bool            // what was read ahead is to be read again
	lastQueue atomic.Pointer[string] // in whose slot to probe for all

	backlog  *backlog
	pace     *pace
	yield    yield
	room     *room
	deferred deferrals
	trials   *trials
	pausing  pausing
	asides   asides
	ahead    *draft // being read ahead; nil: none

	silent int // records in a row that were passed over for want of an answer

	// unsettled are outcomes that are being committed, or whose commit failed. Then nothing
	// else is sent before they are: this process never sends those records again.
	unsettled  []settlement
	committing chan error // of the commit of them that goes on; nil: none does

	adopted                      time.Time
	adoptErr, readErr, settleErr string // what was last complained of
	pauseErr                     string

	progress  progress
	settles   settleCounts
	batches   latency.Histogram // from sending one to its last reply
	deferring atomic.Int64      // records passed over, for Stats

	mu      sync.Mutex // guards what follows
	stepped chan struct{}
	lastErr error
	turns   int64
	through bool // the last turn found nothing more that it may send
}

// settlement is the outcome of a job.
type settlement struct {
	spool.Settlement
	event JobEvent
	why   deathKind
	op    *observed

	unsent  bool              // nobody can send the job; then
	headers map[string]string // those it has
}

func newReplayer(p *Producer) *replayer {
	r := &replayer{
		p: p, ended: make(chan struct{}), wake: make(chan struct{}, 1), stepped: make(chan struct{}),
		backlog: newBacklog(p.spool, p.cfg.Replay.Weights), pace: newPace(p.cfg.Replay.Rate),
		room: newRoom(p.sender, p.cfg.Replay.MaxMemory, p.cfg.Logger), deferred: deferrals{}, trials: newTrials(), asides: make(asides),
		pausing: pausing{dir: p.cfg.SpoolDir}, yield: yield{live: &p.live},
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// poke wakes the replayer if it sleeps.
func (r *replayer) poke() { poke(r.wake) }

// poke leaves word in a channel of capacity 1, if there is none yet.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run replays until stop is called.
func (r *replayer) run() {
	defer close(r.ended)
	defer r.abandon()
	defer r.discard()
	for r.ctx.Err() == nil {
		r.sleep(r.turn())
	}
	var n notes
	_ = r.finishTrials(&n) // complained of
	r.p.deliver(n)
}

// turn does what is due, and returns how long there is nothing more to do.
func (r *replayer) turn() (wait time.Duration) {
	select {
	case a := <-r.asides:
		r.stepAside(a)
	default:
	}
	if time.Since(r.adopted) >= adoptEvery {
		r.adopt()
	}
	r.release(time.Now())
	var n notes
	wait = diskPause
	through := false
	r.complain(&r.pauseErr, "queue: whether replay is paused cannot be told, it goes on", r.pausing.look(time.Now()))
	err := r.tryOutages(&n)
	switch {
	case err != nil:
	case r.pausing.paused():
		wait, err = pausePoll, ErrPaused
	default:
		wait, through, err = r.step(&n)
	}
	if wait > 0 && r.committing != nil { // nothing is sent beside
		if failed := r.settled(&n); failed != nil {
			wait, through, err = diskPause, false, failed
		}
	}
	r.deferring.Store(int64(len(r.deferred)))
	r.p.deliver(n)
	r.finish(err, through)
	return wait
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
	wait = min(wait, time.Until(r.adopted.Add(adoptEvery)), r.trials.due(), r.deferred.due(), r.room.due())
	if wait <= 0 {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-r.trials.done:
	case a := <-r.asides:
		r.stepAside(a)
	case <-r.ctx.Done():
	}
}

// release lets go again what was held back until now. It is done in each turn, also one that
// sends nothing: else sleep would find it due for ever.
func (r *replayer) release(now time.Time) {
	r.room.expire(now)
	if r.deferred.release(now) {
		r.reread.Store(true)
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
		r.reread.Store(true)
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
