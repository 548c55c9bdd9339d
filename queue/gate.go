package queue

import (
	"context"
	"sync"
	"time"
)

const (
	// gateRecords is how few records of a queue must be left for a new job to wait for
	// their replay: one batch has them all.
	gateRecords = maxBatch

	// gateWait bounds that wait. After a wait in vain the next is made no sooner than
	// gateRest later.
	gateWait = 100 * time.Millisecond
	gateRest = time.Second
)

// gate keeps new jobs from overtaking older ones of their queue that lie in the spool. They
// go there, too; but when few are left they wait a moment instead, else under steady
// traffic the spool would never be empty. Safe for concurrent use.
type gate struct {
	p *Producer

	mu     sync.Mutex
	closed map[string]time.Time // queue -> time until which no job waits
}

// behind reports whether a new job of the queue has to go to the spool because of older
// ones. It waits up to gateWait, or a quarter of the time that ctx has left.
func (g *gate) behind(ctx context.Context, queue string) bool {
	if g.p.cfg.Replay.Ordering != FIFO {
		return false
	}
	left := g.p.spool.PendingOf(queue)
	if left == 0 || left > gateRecords || g.p.breakers.stops(queue) || g.rests(queue) || g.p.replayer.pausing.paused() {
		return left > 0
	}
	timer := time.NewTimer(gateTime(ctx))
	defer timer.Stop()
	for {
		stepped := g.p.replayer.nextStep()
		if left = g.p.spool.PendingOf(queue); left == 0 || g.p.breakers.stops(queue) {
			return left > 0
		}
		select {
		case <-stepped:
		case <-timer.C:
			g.rest(queue)
			return true
		case <-ctx.Done():
			return true
		}
	}
}

// gateTime is gateWait, or less where the caller has little time.
func gateTime(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return gateWait
	}
	return max(min(gateWait, time.Until(deadline)/4), 0)
}

func (g *gate) rests(queue string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Before(g.closed[queue])
}

func (g *gate) rest(queue string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil {
		g.closed = map[string]time.Time{}
	}
	g.closed[queue] = time.Now().Add(gateRest)
}
