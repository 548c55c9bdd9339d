package queue_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// shortBudget is the EnqueueTimeout of the tests below.
const shortBudget = 300 * time.Millisecond

// bounded fails if call takes more than a second longer than its budget. That says nothing
// of speed: it tells a wait that the budget bounds from one that go-redis's own timeouts
// do (5 s and more).
func bounded(tb testing.TB, what string, budget time.Duration, call func()) {
	tb.Helper()
	begin := time.Now()
	call()
	took := time.Since(begin)
	tb.Logf("%s took %v of %v", what, took.Round(time.Millisecond), budget)
	if took > budget+time.Second {
		tb.Errorf("%s took %v, its budget is %v", what, took, budget)
	}
}

// refusing returns an address of 127.0.0.1 that refuses connections until the test
// ends: the near end of a connection, so nobody else can listen there.
func refusing(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(tb, err)
	tb.Cleanup(func() { l.Close() })
	conn, err := net.Dial("tcp", l.Addr().String())
	must(tb, err)
	tb.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}

// dialsEnd waits until nobody connects any more: go-redis's pool goes on for up to 5 s
// after its Close, which would look like a leak.
func dialsEnd(tb testing.TB) {
	tb.Helper()
	stacks := make([]byte, 16<<20)
	eventually(tb, "no goroutine connects", func() bool {
		return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "net.(*netFD).connect(")
	})
}

func sentinels(addrs ...string) asynq.RedisFailoverClientOpt {
	return asynq.RedisFailoverClientOpt{MasterName: "mymaster", SentinelAddrs: addrs}
}

// fault is a way in which Redis is not there.
type fault struct {
	name string

	// redis returns what to connect to, and what breaks it; nil: it is broken.
	redis func(tb testing.TB) (opt asynq.RedisConnOpt, breaks func())

	state string // then; empty: StateOutage

	// cold and warm are where the first job is of a fresh Producer, and of one with warm
	// connections. Nowhere, or alsoWarm: in the spool, in doubt or not. go-redis does not
	// tell a caller whose time is up that it was still dialling for it.
	cold, warm queue.Where
	alsoWarm   bool
}

func broken(opt asynq.RedisConnOpt) (asynq.RedisConnOpt, func()) { return opt, nil }

func faults() []fault {
	return []fault{
		{
			name: "killed", cold: queue.InSpool, warm: queue.InSpool,
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				r := redistest.Run(tb, redistest.Options{})
				return server(r.Addr()), func() { must(tb, r.Kill()) }
			},
		},
		{
			name: "frozen", warm: queue.InDoubt,
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				r := redistest.Run(tb, redistest.Options{})
				return server(r.Addr()), func() { must(tb, r.Freeze()) }
			},
		},
		{
			name: "no replies", warm: queue.InDoubt,
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				proxy := redistest.NewProxy(tb, redistest.Run(tb, redistest.Options{}).Addr())
				return server(proxy.Addr()), proxy.Freeze
			},
		},
		{
			name: "one reply lost", cold: queue.InDoubt, warm: queue.InDoubt,
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				proxy := redistest.NewProxy(tb, redistest.Run(tb, redistest.Options{}).Addr())
				return server(proxy.Addr()), func() { proxy.CutAfterReplies(0, redistest.CutHang) }
			},
		},
		{
			name: "SYN black hole",
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				return broken(server(redistest.BlackHole(tb)))
			},
		},
		{
			name:  "no such host",
			redis: func(testing.TB) (asynq.RedisConnOpt, func()) { return broken(server("redis.invalid:6379")) },
		},
		{
			name: "TLS to plaintext",
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				r := redistest.Run(tb, redistest.Options{})
				return broken(asynq.RedisClientOpt{Addr: r.Addr(), TLSConfig: redistest.NewTLS(tb).ClientConfig()})
			},
		},
		{
			name: "plaintext to TLS",
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				return broken(server(redistest.Run(tb, redistest.Options{TLS: redistest.NewTLS(tb)}).Addr()))
			},
		},
		{
			name: "wrong authority", cold: queue.InSpool,
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				r := redistest.Run(tb, redistest.Options{TLS: redistest.NewTLS(tb)})
				return broken(asynq.RedisClientOpt{Addr: r.Addr(), TLSConfig: redistest.NewTLS(tb).ClientConfig()})
			},
		},
		{
			name: "maxclients",
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				r := redistest.Run(tb, redistest.Options{})
				must(tb, client(tb, r.Addr()).ConfigSet(tb.Context(), "maxclients", "1").Err()) // the client stays
				return broken(server(r.Addr()))
			},
		},
		{
			name: "sentinels refuse", cold: queue.InSpool,
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				return broken(sentinels(refusing(tb), refusing(tb), refusing(tb)))
			},
		},
		{
			name: "sentinels in a black hole",
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				return broken(sentinels(redistest.BlackHole(tb), redistest.BlackHole(tb), redistest.BlackHole(tb)))
			},
		},
		{
			name: "sentinels frozen, master dead", alsoWarm: true,
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				s := redistest.RunSentinel(tb, redistest.Options{})
				return asynq.RedisFailoverClientOpt{MasterName: s.MasterName(), SentinelAddrs: s.Addrs()}, func() {
					for _, p := range s.Processes() {
						must(tb, p.Freeze())
					}
					for _, r := range s.Servers() {
						must(tb, r.Kill())
					}
				}
			},
		},
		{
			name: "sentinels well, master dead", cold: queue.InSpool, warm: queue.InSpool,
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				s := redistest.RunSentinel(tb, redistest.Options{})
				return asynq.RedisFailoverClientOpt{MasterName: s.MasterName(), SentinelAddrs: s.Addrs()}, func() {
					for _, r := range s.Servers() {
						must(tb, r.Kill())
					}
				}
			},
		},
		{
			name: "sentinels well, master in a black hole, TLS",
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				tls := redistest.NewTLS(tb)
				return broken(asynq.RedisFailoverClientOpt{
					MasterName: "lost", SentinelAddrs: []string{sentinelOf(tb, tls, redistest.BlackHole(tb))}, TLSConfig: tls.ClientConfig(),
				})
			},
		},
		{
			name: "cluster refuses", state: queue.StatePartial, cold: queue.InSpool,
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				return broken(asynq.RedisClusterClientOpt{Addrs: []string{refusing(tb), refusing(tb), refusing(tb)}})
			},
		},
		{
			name: "cluster in a black hole", state: queue.StatePartial, cold: queue.InSpool,
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				return broken(asynq.RedisClusterClientOpt{Addrs: []string{
					redistest.BlackHole(tb), redistest.BlackHole(tb), redistest.BlackHole(tb),
				}})
			},
		},
		{
			name: "cluster frozen", state: queue.StatePartial, warm: queue.InDoubt,
			redis: func(tb testing.TB) (asynq.RedisConnOpt, func()) {
				tb.Helper()
				c := redistest.RunCluster(tb, redistest.ClusterOptions{})
				return asynq.RedisClusterClientOpt{Addrs: c.Addrs()}, func() { must(tb, c.Nodes()[0].Freeze()) }
			},
		},
	}
}

// TestEnqueueIsBounded: whatever is wrong with Redis, the first Enqueue takes its budget
// and a write to the spool, and begins an outage. The next ones make no attempt.
func TestEnqueueIsBounded(t *testing.T) {
	t.Parallel()
	t.Cleanup(func() { dialsEnd(t) })
	for _, f := range faults() {
		t.Run(f.name+"/cold", func(t *testing.T) {
			t.Parallel()
			opt, breaks := f.redis(t)
			if breaks != nil {
				breaks()
			}
			f.check(t, newProducer(t, shortConfig(t, opt)), f.cold)
		})
		if f.warm == queue.Nowhere && !f.alsoWarm {
			continue
		}
		t.Run(f.name+"/warm", func(t *testing.T) {
			t.Parallel()
			opt, breaks := f.redis(t)
			p := newProducer(t, shortConfig(t, opt))
			enqueue(t, p, 5)
			if st := p.Stats(); st.Sent != 5 {
				t.Fatalf("not warm: %+v", st)
			}
			breaks()
			rest()
			f.check(t, p, f.warm)
		})
	}
}

func shortConfig(tb testing.TB, opt asynq.RedisConnOpt) queue.Config {
	tb.Helper()
	return queue.Config{Redis: opt, SpoolDir: tb.TempDir(), EnqueueTimeout: shortBudget}
}

func (f fault) check(t *testing.T, p *queue.Producer, want queue.Where) {
	t.Helper()
	where := enqueueBounded(t, p, "the first", shortBudget)
	if where != want && want != queue.Nowhere || where != queue.InSpool && where != queue.InDoubt {
		t.Errorf("the first job: %v, want %v", where, want)
	}
	wantState := f.state
	if wantState == "" {
		wantState = queue.StateOutage
	}
	st := p.Stats()
	if st.State != wantState || st.Spooled != 1 || st.Outages != 1 {
		t.Errorf("state %q (want %q), spooled %d, outages %d: %+v", st.State, wantState, st.Spooled, st.Outages, st)
	}
	t.Logf("%v, %s%v", where, st.OutageCause, st.Queues)
	if f.name == "one reply lost" {
		return // and Redis is back
	}

	// With an attempt each, 20 would take 6 s where Redis does not answer.
	bounded(t, "20 more", shortBudget, func() {
		for range 20 {
			var where queue.Where
			if _, err := p.Enqueue(asynq.NewTask("test", nil), queue.ReportTo(&where)); err != nil || where != queue.InSpool {
				t.Fatalf("%v, %v", where, err)
			}
		}
	})
	if st := p.Stats(); st.Spooled != 21 || st.Pending != 21 || st.Outages != 1 || st.State != wantState {
		t.Errorf("%+v", st)
	}
}

// enqueueBounded enqueues one task within the budget and returns where it is.
func enqueueBounded(t *testing.T, p *queue.Producer, what string, budget time.Duration) (where queue.Where) {
	t.Helper()
	bounded(t, what, budget, func() {
		if _, err := p.Enqueue(asynq.NewTask("test", nil), queue.ReportTo(&where)); err != nil {
			t.Fatal(err)
		}
	})
	return where
}

// frozen returns a Producer with warm connections to a server that is frozen, and the ids
// that are in it.
func frozen(t *testing.T) (r *redistest.Server, p *queue.Producer, ids []string) {
	t.Helper()
	r = redistest.Run(t, redistest.Options{})
	p = newProducer(t, shortConfig(t, server(r.Addr())))
	ids = enqueue(t, p, 3)
	must(t, r.Freeze())
	return r, p, ids
}

// thawed thaws the server and checks that each job is there once.
func thawed(t *testing.T, r *redistest.Server, p *queue.Producer, ids []string) {
	t.Helper()
	must(t, r.Thaw())
	drain(t, p)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}

func TestContextThatIsDoneWritesNothing(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithTimeout(t.Context(), -time.Second)
	defer cancelLate()
	r, p, ids := frozen(t)
	check := func(ctx context.Context, want error) {
		t.Helper()
		if _, err := p.EnqueueContext(ctx, asynq.NewTask("test", nil)); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if infos, err := p.EnqueueBatch(ctx, []*asynq.Task{asynq.NewTask("test", nil)}); !errors.Is(err, want) || infos != nil {
			t.Errorf("batch: %v, %v, want %v", infos, err, want)
		}
	}
	for range 2 { // live, and in an outage
		check(cancelled, context.Canceled)
		check(late, context.DeadlineExceeded)
		if st := p.Stats(); st.Spooled != int64(len(ids)-3) || st.Accepted != int64(len(ids)) {
			t.Errorf("%+v", st)
		}
		if len(ids) == 3 {
			ids = append(ids, enqueue(t, p, 1)...)
		}
	}
	thawed(t, r, p, ids)
}

func TestContextThatEndsDuringTheAttemptSpoolsInDoubt(t *testing.T) {
	t.Parallel()
	const left = 200 * time.Millisecond
	for name, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, left) },
		"cancelled": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(left, cancel)
			return ctx, cancel
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, p, ids := frozen(t)
			ctx, cancel := end(t.Context())
			defer cancel()
			var where queue.Where
			bounded(t, "Enqueue", shortBudget, func() {
				info, err := p.EnqueueContext(ctx, asynq.NewTask("test", nil), queue.ReportTo(&where))
				must(t, err)
				ids = append(ids, info.ID)
			})
			if st := p.Stats(); where != queue.InDoubt || st.Spooled != 1 || st.InDoubt != 1 {
				t.Errorf("%v: %+v", where, st)
			}
			thawed(t, r, p, ids)
			if st := p.Stats(); st.AlreadyThere+st.Replayed != 1 || st.State != queue.StateUp {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestBatchOnAFrozenServer: one budget for all.
func TestBatchOnAFrozenServer(t *testing.T) {
	t.Parallel()
	r, p, ids := frozen(t)
	tasks := make([]*asynq.Task, 100)
	for i := range tasks {
		tasks[i] = asynq.NewTask("test", fmt.Appendf(nil, "%d", i))
	}
	var where queue.Where
	bounded(t, "the batch", shortBudget, func() {
		infos, err := p.EnqueueBatch(t.Context(), tasks, queue.ReportTo(&where))
		must(t, err)
		for _, info := range infos {
			ids = append(ids, info.ID)
		}
	})
	if st := p.Stats(); where != queue.InDoubt || st.Spooled != 100 || st.InDoubt != 100 || st.Outages != 1 || st.State != queue.StateOutage {
		t.Errorf("%v: %+v", where, st)
	}
	thawed(t, r, p, ids)
	if n := len(slices.Compact(slices.Sorted(slices.Values(ids)))); n != 103 {
		t.Errorf("%d different ids", n)
	}
}

// sentinelOf returns the address of what speaks TLS and says what a sentinel says that
// knows of a master at addr.
func sentinelOf(tb testing.TB, files *redistest.TLS, addr string) string {
	tb.Helper()
	cert, err := tls.LoadX509KeyPair(files.ServerCertFile, files.ServerKeyFile)
	must(tb, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	must(tb, err)
	host, port, err := net.SplitHostPort(addr)
	must(tb, err)
	master := fmt.Sprintf("*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(host), host, len(port), port)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { answerAsSentinel(conn, master) })
		}
	})
	tb.Cleanup(func() {
		l.Close()
		conns.Wait() // the Producer, closed before, has closed its connections
	})
	return l.Addr().String()
}

// answerAsSentinel knows one command, and keeps silent to a subscriber.
func answerAsSentinel(conn net.Conn, master string) {
	defer conn.Close()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		reply := ""
		switch strings.ToLower(lines.Text()) {
		case "get-master-addr-by-name":
			reply = master
		case "sentinels":
			reply = "*0\r\n"
		case "hello", "client":
			reply = "-ERR unknown command\r\n"
		}
		if _, err := conn.Write([]byte(reply)); err != nil {
			return
		}
	}
}
