package queue

import (
	"cmp"
	"context"
	"math/rand/v2"
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

	// batchTimeout bounds the wait for the replies of one batch, tryTimeout that for the
	// try whether an outage is over.
	batchTimeout = 5 * time.Second
	tryTimeout   = 2 * time.Second

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
	lastQueue atomic.Pointer[string] // in whose slot to probe for all

	// next is when to try whether an outage is over, by breaker.
	next map[*breaker]time.Time

	// unanswered counts the tries of a record at the head that Redis did not answer
	// although it took a probe right after.
	unanswered   map[spool.Position]int
	unansweredMu sync.Mutex

	// unsettled are outcomes whose commit failed. They are committed before
	// anything else is sent: this process never sends those records again.
	unsettled []settlement

	adoptErr, readErr, settleErr string // what was last complained of

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
		next: map[*breaker]time.Time{}, unanswered: map[spool.Position]int{},
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
	var adopted time.Time
	for step := 0; r.ctx.Err() == nil; {
		if time.Since(adopted) >= adoptEvery {
			r.adopt()
			adopted = time.Now()
		}
		var n notes
		diskErr := r.tryOutages(&n)
		size := batchSize(step)
		if r.draining.Load() > 0 {
			size = maxBatch
		}
		b, done, err := r.step(size, &n)
		r.p.deliver(n)
		diskErr = cmp.Or(diskErr, err)
		r.finish(cmp.Or(diskErr, b.err))
		if done > 0 {
			step++
		}
		if b.err != nil || diskErr != nil {
			step = 0
		}
		switch {
		case diskErr != nil, done == 0 && b.unclear():
			r.sleep(pause(), false)
		case done == 0:
			r.sleep(r.untilNext(adopted.Add(adoptEvery)), true)
		}
	}
}

// pause is the time between two attempts in an outage.
func pause() time.Duration { return probeEvery + rand.N(probeEvery) }

// untilNext returns how long nothing is to be done, at most until then.
func (r *replayer) untilNext(then time.Time) time.Duration {
	for _, t := range r.next {
		if t.Before(then) {
			then = t
		}
	}
	return time.Until(then)
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

// step sends one batch of what no outage stops, and settles it. It returns the number of
// records that were settled; an error is one of the disk's.
func (r *replayer) step(size int, n *notes) (b *batch, done int, err error) {
	if len(r.unsettled) > 0 {
		done, err = r.settle(nil, n)
		return &batch{}, done, err
	}
	if all := r.p.breakers.shared; all != nil && all.open() {
		return &batch{}, 0, nil
	}
	entries, err := r.read(size, r.p.breakers.stops)
	if err != nil || len(entries) == 0 {
		return &batch{}, 0, err
	}
	ctx, cancel := context.WithTimeout(r.ctx, batchTimeout)
	defer cancel()
	b = r.replay(ctx, entries, n)
	done, err = r.settle(b.settlements, n)
	return b, done, err
}

// read returns the oldest records of the queues that are not skipped.
func (r *replayer) read(count int, skip func(queue string) bool) ([]spool.Entry, error) {
	known := map[string]bool{} // by class
	entries, err := r.p.spool.Read(count, batchBytes, func(class string) bool {
		v, ok := known[class]
		if !ok {
			v = skip(queueOf(class))
			known[class] = v
		}
		return v
	})
	r.complain(&r.readErr, "queue: the spool cannot be read", err)
	return entries, err
}

// settle commits outcomes, those first whose commit failed before.
func (r *replayer) settle(settlements []settlement, n *notes) (done int, err error) {
	r.unsettled = append(r.unsettled, settlements...)
	if len(r.unsettled) == 0 {
		return 0, nil
	}
	outcomes := make([]spool.Settlement, len(r.unsettled))
	for i, s := range r.unsettled {
		outcomes[i] = s.Settlement
	}
	err = r.p.spool.Settle(outcomes...)
	r.complain(&r.settleErr, "queue: what was sent cannot be recorded, replay waits", err)
	if err != nil {
		return 0, err
	}
	for _, s := range r.unsettled {
		r.p.noteSettled(n, s.event, s.Outcome, s.Reason)
		delete(r.unanswered, s.Position)
	}
	done = len(r.unsettled)
	r.unsettled = nil
	return done, nil
}

// blamed counts a try of a record that Redis did not answer.
func (r *replayer) blamed(at spool.Position) int {
	r.unansweredMu.Lock()
	defer r.unansweredMu.Unlock()
	r.unanswered[at]++
	return r.unanswered[at]
}

// finish makes the result of a step known to those who wait in drain.
func (r *replayer) finish(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastErr = err
	close(r.stepped)
	r.stepped = make(chan struct{})
}
