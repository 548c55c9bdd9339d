package chaos_test

import (
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"
)

var mixedFlag = flag.Int("mixed", 2, "how many worlds have several faults at a time")

// TestMixed does several faults at a time, by chance: one to Redis, one to the network, one
// to producers and one to workers, again and again. Redis forgets nothing, so the guards that
// every other world has must see no loss.
func TestMixed(t *testing.T) {
	for i := range *mixedFlag {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, shape{producers: 3, guard: time.Duration(i%2) * time.Minute})
			w.trouble(4*length(), length())
			v := w.finish()
			v.check(t, allowed{wait: usualWait + 2*length()})
			t.Logf("%+v", v)
		})
	}
}

// trouble does faults to all four for a while, with pauses of about so long between them.
func (w *world) trouble(d, pause time.Duration) {
	byTarget := map[string][]fault{}
	for _, f := range faults() {
		if f.mixes != "" {
			byTarget[f.mixes] = append(byTarget[f.mixes], f)
		}
	}
	end := time.Now().Add(d)
	var all sync.WaitGroup
	for _, some := range byTarget {
		all.Go(func() {
			for time.Now().Before(end) {
				w.hold(pause)
				f := some[w.number(len(some))]
				w.Logf("%s", f.name)
				f.do(w)
			}
		})
	}
	all.Wait()
}
