package queue_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool/crashtest"
)

// TestLossWhileTheProducerIsKilled kills both, in each order. The next Producer sends again
// what was acknowledged more than 10 ms before. It has the machine for itself, as far as that
// goes: nobody keeps 10 ms on a busy one.
func TestLossWhileTheProducerIsKilled(t *testing.T) {
	for name, order := range map[string]func(*testing.T, *both){
		"Redis first": func(t *testing.T, b *both) {
			t.Helper()
			must(t, b.r.Kill())
			b.child.Await(b.read(200))
			b.killProducer()
			must(t, b.r.Restart())
		},
		"Redis first, and it is back": func(t *testing.T, b *both) {
			t.Helper()
			killAndRestart(t, b.r)
			b.child.Await(b.read(200))
			b.killProducer()
		},
		"the producer first": func(t *testing.T, b *both) {
			t.Helper()
			b.killProducer()
			killAndRestart(t, b.r)
		},
		"back from an RDB": func(t *testing.T, b *both) {
			t.Helper()
			must(t, client(t, b.r.Addr()).Save(t.Context()).Err())
			for range 3 { // markers that are not in it: the child may be ahead of its lines
				was := markerOf(t, b.r)
				eventually(t, "another marker", func() bool {
					b.child.Await(b.read(20)) // it stands still when nobody reads
					return markerOf(t, b.r) != was
				})
			}
			b.killProducer()
			killAndRestart(t, b.r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				if lossAndKill(t, order, name != "Redis first, and it is back") == 0 { // there the child may have noticed
					return
				}
			}
			t.Error("jobs acknowledged more than 10 ms before are missing, each time")
		})
	}
}

// both are Redis and a Producer that is killed.
type both struct {
	r       *redistest.Server
	child   *crashtest.Child
	awaited int // lines
	lines   []string
	at      time.Time
}

// read returns the number of lines when some more are read.
func (b *both) read(more int) int {
	b.awaited += more
	return b.awaited
}

func (b *both) killProducer() {
	b.at = time.Now()
	b.lines = b.child.Kill()
}

// lossAndKill kills both in an order and has the next Producer send what is missing. It returns
// how many jobs were not kept of those acknowledged more than 10 ms before, but not more than
// 200: on a machine that stands still meanwhile the process cannot keep its time.
func lossAndKill(t *testing.T, order func(*testing.T, *both), seen bool) int {
	t.Helper()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	w := workOn(t, server(r.Addr()), "default")
	b := &both{r: r, child: crashtest.Start(t, childDrains+"=guard", childDir+"="+dir, childRedis+"="+r.Addr(), childTarget+"=t")}
	b.child.Await(b.read(2000))
	order(t, b)
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Target: "t", Guard: time.Minute})
	var older, recent []string
	last := 0
	for _, l := range b.lines {
		id, ns, _ := strings.Cut(l, " ")
		at, err := strconv.ParseInt(ns, 10, 64)
		must(t, err)
		switch before := b.at.Sub(time.Unix(0, at)); {
		case before > 200*time.Millisecond:
			older = append(older, id)
		case before > 10*time.Millisecond:
			recent = append(recent, id)
		default:
			last++
		}
	}
	rdb := client(t, r.Addr())
	eventually(t, "all are sent again", func() bool { return unkept(t, rdb, w, "default", older) == 0 })
	if seen {
		eventually(t, "the loss is noticed", func() bool { return p.Stats().Losses == 1 })
	}
	drain(t, p)
	missing := unkept(t, rdb, w, "default", recent)
	st := p.Stats()
	t.Logf("%d jobs, %d more in the last 200 ms, of which %d are missing, %d in the last 10; %d losses, %d lost, %d sent again",
		len(older), len(recent), missing, last, st.Losses, st.Lost, st.Resent)
	return missing
}

// markerOf returns the marker of the only queue and producer that there are.
func markerOf(tb testing.TB, r *redistest.Server) string {
	tb.Helper()
	rdb := client(tb, r.Addr())
	keys, err := rdb.Keys(context.Background(), "asynq:{default}:spool:mark:*").Result()
	must(tb, err)
	if len(keys) != 1 {
		tb.Fatalf("markers: %q", keys)
	}
	value, err := rdb.Get(context.Background(), keys[0]).Result()
	must(tb, err)
	return value
}
