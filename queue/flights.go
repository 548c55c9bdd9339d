package queue

import (
	"context"
	"sync/atomic"
	"time"
)

// flights counts what is on its way: from before jobs are sent until they are in the journal, if
// Redis acknowledged them. So one can wait until all is there that Redis has acknowledged
// before. begin and end are safe for concurrent use.
type flights struct {
	phase atomic.Uint32
	up    [2]atomic.Int64 // by the phase, odd or even, that they began in
}

// begin returns what end is to be called with.
func (f *flights) begin() (phase uint32) {
	phase = f.phase.Load() % 2
	f.up[phase].Add(1)
	return phase
}

func (f *flights) end(phase uint32) { f.up[phase].Add(-1) }

// wait returns when all has ended that began before, whatever begins meanwhile. Not safe for
// concurrent use.
func (f *flights) wait(ctx context.Context) error {
	for range 2 { // what has read the phase, but has not counted yet, counts in either
		before := (f.phase.Add(1) - 1) % 2
		for f.up[before].Load() > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
	}
	return nil
}
