package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jobspool/jobspool/queue"
)

// stuckAfter is how long a drain goes on that sends nothing any more while queues have an
// outage. Batches take up to as long.
const stuckAfter = 5 * time.Second

// unlessStuck runs a drain. Without --wait it ends it where only the end of an outage that
// some queues have would let it go on.
func (d *drainer) unlessStuck(ctx context.Context, stats func() (queue.Stats, error), drain func(context.Context) error) error {
	if d.wait {
		return drain(ctx)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var stuck error
	var wg sync.WaitGroup
	wg.Go(func() {
		if stuck = untilStuck(ctx, stats); stuck != nil {
			stop()
		}
	})
	err := drain(ctx)
	stop()
	if wg.Wait(); stuck != nil {
		return stuck
	}
	return err
}

// untilStuck waits until ctx ends, or nothing more is sent: then it says why.
func untilStuck(ctx context.Context, stats func() (queue.Stats, error)) error {
	settled, since := int64(-1), time.Now()
	for sleepFor(ctx, stuckAfter/10) {
		st, err := stats()
		if err != nil {
			continue // the drain says so, too
		}
		now := st.Replayed + st.AlreadyThere + st.Superseded + st.Dead + st.Removed + st.Unreadable
		if now != settled || st.State != queue.StatePartial {
			settled, since = now, time.Now()
		} else if time.Since(since) > stuckAfter {
			return fmt.Errorf("%s; --wait waits for the end", queueOutages(st))
		}
	}
	return nil
}
