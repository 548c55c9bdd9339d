package queue_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// maxConnections is more than a Producer may have to one server.
const maxConnections = 64

// established counts the connections to a port of 127.0.0.1, as the near end sees them.
// It is there on Linux only; elsewhere it is 0.
func established(tb testing.TB, addr string) (n int) {
	tb.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	a, err := net.ResolveTCPAddr("tcp", addr)
	must(tb, err)
	f, err := os.Open("/proc/net/tcp")
	must(tb, err)
	defer f.Close()
	remote := fmt.Sprintf("0100007F:%04X", a.Port)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sl local_address rem_address st; 01 is ESTABLISHED
		if f := strings.Fields(lines.Text()); len(f) > 3 && f[2] == remote && f[3] == "01" {
			n++
		}
	}
	return n
}

// TestCrowdOnAFrozenServer: 5,000 callers at once meet a server that has stopped. They are
// all there is of goroutines, and a handful of connections serves them.
func TestCrowdOnAFrozenServer(t *testing.T) { // not parallel: it counts goroutines
	const callers, budget = 5000, 3 * time.Second
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: budget})
	all := newTally()
	var wg sync.WaitGroup
	for range 50 { // warm connections, more than one
		wg.Go(func() { all.enqueue(t, p, "default", nil) })
	}
	wg.Wait()
	must(t, r.Freeze())

	atRest := runtime.NumGoroutine()
	var inside atomic.Int64
	start := make(chan struct{})
	for range callers {
		wg.Go(func() {
			<-start
			inside.Add(1)
			all.enqueue(t, p, "default", []byte("crowd"))
			inside.Add(-1)
		})
	}
	returned := make(chan struct{})
	go func() { wg.Wait(); close(returned) }()
	begin := time.Now()
	close(start)
	waiting, goroutines, connections := 0, 0, 0
	for inTime := true; inTime; {
		w, g, c := int(inside.Load()), runtime.NumGoroutine(), established(t, r.Addr())
		// At the end of the budget each context's timer gets a goroutine for a moment.
		if inTime = time.Since(begin) < budget; inTime {
			waiting, goroutines = max(waiting, w), max(goroutines, g)
		}
		connections = max(connections, c)
		time.Sleep(10 * time.Millisecond)
	}
	<-returned
	t.Logf("at most %d callers at once, %d goroutines (%d before), %d connections", waiting, goroutines, atRest, connections)
	if waiting < callers/2 {
		t.Errorf("no crowd: %d of %d", waiting, callers)
	}
	if goroutines > callers+200 {
		t.Errorf("%d goroutines", goroutines)
	}
	if connections > maxConnections {
		t.Errorf("%d connections", connections)
	}
	st := p.Stats()
	if st.State != queue.StateOutage || st.Spooled != callers || st.InDoubt == 0 {
		t.Errorf("%+v", st)
	}
	eventually(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= atRest+20 })
	must(t, r.Thaw())
	drain(t, p)
	all.wantOnce(t, client(t, r.Addr()))
}

// TestCrowdWhoseConnectionsAreCut: 2,000 callers with payloads of all sizes, and a network
// that resets all connections three times in between.
func TestCrowdWhoseConnectionsAreCut(t *testing.T) {
	t.Parallel()
	const callers, cuts, jobsBetween = 2000, 3, 1000
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: 5 * time.Second})
	all := newTally()
	sizes := []int{0, 10, 100, 1 << 10, 4 << 10, 64 << 10}
	var stop atomic.Bool
	var wg sync.WaitGroup
	halt := func() { stop.Store(true); wg.Wait() }
	t.Cleanup(halt) // before the Producer is closed
	for i := range callers {
		wg.Go(func() {
			for n := i; !stop.Load(); n++ {
				size := sizes[n%len(sizes)]
				if size == 64<<10 && n%100 != 0 { // a few large ones are enough
					size = 0
				}
				all.enqueue(t, p, "default", make([]byte, size))
				select {
				case <-t.Context().Done():
				case <-time.After(time.Duration(n%1000) * time.Millisecond):
				}
			}
		})
	}
	for range cuts {
		before := all.count("default", queue.InRedis)
		eventually(t, "live load", func() bool { return all.count("default", queue.InRedis) > before+jobsBetween })
		cutInCalls(t, p, proxy)
	}
	halt()
	drain(t, p)
	st := p.Stats()
	t.Logf("%d sent, %d spooled, %d in doubt, of which %d were there already", st.Sent, st.Spooled, st.InDoubt, st.AlreadyThere)
	if st.InDoubt == 0 || st.Dead != 0 || st.Superseded != 0 {
		t.Errorf("%+v", st)
	}
	all.wantOnce(t, client(t, r.Addr()))
}

// cutInCalls cuts all connections while calls are under way, and waits until the outage that
// this makes is over. A connection on which nothing is under way is replaced unnoticed.
func cutInCalls(t *testing.T, p *queue.Producer, proxy *redistest.Proxy) {
	t.Helper()
	outages := p.Stats().Outages
	eventually(t, "a cut that meets a call", func() bool {
		proxy.Cut()
		return p.Stats().Outages > outages
	})
	eventually(t, "the outage ends", func() bool { return p.Stats().State == queue.StateUp })
}

// TestBatchesOfACrowdWhoseConnectionsAreCut does it to EnqueueBatch.
func TestBatchesOfACrowdWhoseConnectionsAreCut(t *testing.T) {
	t.Parallel()
	const callers, cuts, tasks = 10, 3, 50
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: 5 * time.Second})
	var mu sync.Mutex
	var ids []string
	var stop atomic.Bool
	var wg sync.WaitGroup
	halt := func() { stop.Store(true); wg.Wait() }
	t.Cleanup(halt) // before the Producer is closed
	for range callers {
		wg.Go(func() {
			batch := make([]*asynq.Task, tasks)
			for !stop.Load() {
				for i := range batch {
					batch[i] = asynq.NewTask("test", make([]byte, i))
				}
				infos, err := p.EnqueueBatch(t.Context(), batch)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, info := range infos {
					ids = append(ids, info.ID)
				}
				mu.Unlock()
				select {
				case <-t.Context().Done():
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
	}
	for range cuts {
		before := p.Stats().Sent
		eventually(t, "live load", func() bool { return p.Stats().Sent > before+5*tasks })
		cutInCalls(t, p, proxy)
	}
	halt()
	drain(t, p)
	t.Logf("%+v", p.Stats())
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}
