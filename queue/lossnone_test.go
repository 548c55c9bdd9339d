package queue_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool/crashtest"
)

// TestNoLossNoAlarm has Redis and the network do what loses nothing, under load, while
// workers finish jobs at once.
func TestNoLossNoAlarm(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(*testing.T, *redistest.Server, *redistest.Proxy, *lossTrial){
		"restart with appendonly": func(t *testing.T, r *redistest.Server, _ *redistest.Proxy, l *lossTrial) {
			t.Helper()
			l.load(time.Second)
			killAndRestart(t, r)
			time.Sleep(2 * time.Second)
			killAndRestart(t, r)
		},
		"cut connections": func(_ *testing.T, _ *redistest.Server, proxy *redistest.Proxy, l *lossTrial) {
			l.load(500 * time.Millisecond)
			for range 40 {
				proxy.Cut()
				time.Sleep(rand.N(150 * time.Millisecond))
			}
		},
		"lost replies": func(_ *testing.T, _ *redistest.Server, proxy *redistest.Proxy, l *lossTrial) {
			l.load(500 * time.Millisecond)
			for i := range 40 {
				proxy.CutAfterReplies(rand.N(60), []redistest.CutMode{redistest.CutFIN, redistest.CutRST, redistest.CutHalf, redistest.CutHang}[i%4])
				time.Sleep(rand.N(200 * time.Millisecond))
			}
		},
		"flapping": func(_ *testing.T, _ *redistest.Server, proxy *redistest.Proxy, l *lossTrial) {
			l.load(500 * time.Millisecond)
			for end := time.Now().Add(*flapFor); time.Now().Before(end); {
				proxy.Refuse()
				proxy.Cut()
				time.Sleep(rand.N(700 * time.Millisecond))
				proxy.Accept()
				time.Sleep(rand.N(700 * time.Millisecond))
			}
		},
		"frozen": func(t *testing.T, r *redistest.Server, _ *redistest.Proxy, l *lossTrial) {
			t.Helper()
			l.load(500 * time.Millisecond)
			for range 4 {
				must(t, r.Freeze())
				time.Sleep(rand.N(2500 * time.Millisecond))
				must(t, r.Thaw())
				time.Sleep(rand.N(time.Second))
			}
		},
		"no traffic for several sweeps": func(_ *testing.T, _ *redistest.Server, _ *redistest.Proxy, l *lossTrial) {
			l.load(500 * time.Millisecond)
			ids := l.stop()
			time.Sleep(12 * time.Second)
			l.load(200 * time.Millisecond)
			wantKept(l.tb, l.rdb, l.w, l.queue, ids)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{AppendOnly: true})
			proxy := redistest.NewProxy(t, r.Addr())
			cfg := queue.Config{Redis: server(proxy.Addr()), DedupeWindow: time.Minute} // so that what is in doubt runs once
			l := newLossTrial(t, cfg, client(t, r.Addr()), "default")
			disturb(t, r, proxy, l)
			l.end()
			time.Sleep(300 * time.Millisecond) // a marker is due
			wantNoAlarm(t, l.p)
		})
	}
}

// TestRetentionIsNoLoss: what is done and retained, and what is forgotten after that, is done.
func TestRetentionIsNoLoss(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), Guard: time.Minute})
	w := workOn(t, server(r.Addr()), "default")
	stop := underLoad(t, p, "default", asynq.Retention(2*time.Second))
	time.Sleep(time.Second)
	ids := stop()
	eventually(t, "all ran, and are let go of", func() bool { return len(w.ran()) == len(ids) && p.Journalled() == 0 })
	wantOnce(t, w.ran(), ids)
	wantNoAlarm(t, p)
}

var _ = childDoes("guard", enqueueGuarded)

// enqueueGuarded enqueues from 16 callers until it is killed, printing each id and when it
// was acknowledged.
func enqueueGuarded() {
	cfg := childConfig()
	cfg.Guard = time.Minute
	p, err := queue.New(cfg)
	if err != nil {
		crashtest.Fail(err)
	}
	var mu sync.Mutex
	for range 16 {
		go func() {
			for {
				info, err := p.Enqueue(asynq.NewTask("t", []byte("of the child")))
				at := time.Now()
				if err != nil {
					crashtest.Fail(err)
				}
				mu.Lock()
				fmt.Println(info.ID, at.UnixNano())
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	select {}
}

// printedIDs returns the ids that a guarded child printed.
func printedIDs(lines []string) (ids []string) {
	for _, l := range lines {
		id, _, _ := strings.Cut(l, " ")
		ids = append(ids, id)
	}
	return ids
}

// TestAProducerThatIsKilledIsNoLoss kills one process after the other at any moment, while
// Redis is well, and while it does not answer.
func TestAProducerThatIsKilledIsNoLoss(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	proxy := redistest.NewProxy(t, r.Addr())
	dir := t.TempDir()
	w := workOn(t, server(r.Addr()), "default")
	var ids []string
	for i := range 8 {
		before := marks(t, r)
		c := crashtest.Start(t, childDrains+"=guard", childDir+"="+dir, childRedis+"="+proxy.Addr(), childTarget+"=t")
		c.Await(200 + rand.N(1000))
		eventually(t, "it has set its marker", func() bool { return marks(t, r) > before })
		if i%2 == 1 {
			proxy.Freeze()
			time.Sleep(rand.N(300 * time.Millisecond))
		}
		ids = append(ids, printedIDs(c.Kill())...)
		proxy.Cut() // what is on its way does not arrive
		proxy.Thaw()
		p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: dir, Target: "t", Guard: time.Minute})
		enqueue(t, p, 1)
		drain(t, p)
		time.Sleep(300 * time.Millisecond) // the markers of the dead are looked at
		closeProducer(t, p)
		wantNoAlarm(t, p)
	}
	wantKept(t, client(t, r.Addr()), w, "default", ids)
}

// marks returns how many markers there are.
func marks(tb testing.TB, r *redistest.Server) int {
	tb.Helper()
	keys, err := client(tb, r.Addr()).Keys(tb.Context(), "asynq:{default}:spool:mark:*").Result()
	must(tb, err)
	return len(keys)
}

// TestAMarkerThatWasOnItsWay when the Producer was closed is no loss.
func TestAMarkerThatWasOnItsWay(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	cfg := queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), Target: "t", Guard: time.Minute}
	w := workOn(t, server(r.Addr()), "default")
	for range 5 {
		p := newProducer(t, cfg)
		enqueue(t, p, 20)
		time.Sleep(250 * time.Millisecond) // a marker covers them
		enqueue(t, p, 20)
		proxy.Freeze()
		time.Sleep(250 * time.Millisecond) // the next one is on its way
		closeProducer(t, p)
		proxy.Cut()
		proxy.Thaw()
	}
	eventually(t, "all ran", func() bool { return len(w.ran()) == 200 })
	p := newProducer(t, cfg)
	time.Sleep(500 * time.Millisecond)
	wantNoAlarm(t, p)
}
