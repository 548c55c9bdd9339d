package chaos_test

import (
	"flag"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

var mixedFlag = flag.Int("mixed", 2, "how many worlds have several faults at a time")

// TestMixed does several faults at a time, by chance: one to Redis, one to the network, one
// to producers and one to workers, again and again. Redis forgets nothing, so the guards that
// every other world has must see no loss. When it is back from a kill, it is LOADING for a while.
//
// Left out are faults that need another kind of world (a replica, Sentinel, Cluster, a clock that
// can be set), those that are two in one, and those of the disk: they refuse jobs, and then no
// job that is refused would be a failure any more.
func TestMixed(t *testing.T) {
	for i := range *mixedFlag {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, shape{args: slowLoading(-10), producers: 3, guard: time.Duration(i%2) * time.Minute})
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
	for target, some := range byTarget {
		all.Go(func() {
			w := w.stream(target)
			for time.Now().Before(end) {
				w.hold(pause)
				f := some[w.number(len(some))]
				w.Logf("%-8s %s", target, f.name)
				f.do(w)
			}
		})
	}
	all.Wait()
}

// TestStreams: with the same seed choices are the same, also where several make some at a time.
func TestStreams(t *testing.T) {
	choices := func() map[string][]int {
		w := &world{site: &site{seed: 42}}
		all := map[string][]int{}
		var mu sync.Mutex
		var choosing sync.WaitGroup
		for _, target := range []string{toRedis, toNetwork, toProducer, toWorker} {
			choosing.Go(func() {
				w := w.stream(target)
				var some []int
				for range 1000 {
					some = append(some, w.number(1<<30))
					runtime.Gosched()
				}
				mu.Lock()
				defer mu.Unlock()
				all[target] = some
			})
		}
		choosing.Wait()
		return all
	}
	first, second := choices(), choices()
	if !reflect.DeepEqual(first, second) {
		t.Error("the same seed makes other choices")
	}
	if slices.Equal(first[toRedis], first[toNetwork]) {
		t.Error("all make the same choices")
	}
}
