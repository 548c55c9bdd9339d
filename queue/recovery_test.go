package queue_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

var (
	recoveryHold = flag.Duration("recovery.hold", 2*time.Second, "how long each outage of TestRecovery lasts")
	recoveryRuns = flag.Int("recovery.runs", 1, "how often each outage of TestRecovery is made")
)

// scene is a Redis that goes away and comes back.
type scene struct {
	*testing.T
	r       *redistest.Server // that takes the jobs in the end
	proxy   *redistest.Proxy  // nil: none
	rdb     *redis.Client     // of r, with all rights
	opt     asynq.RedisConnOpt
	cluster *redis.ClusterClient // in place of rdb
	dir     string               // of r, if it is known
	heal    func()
}

// recovery is a kind of outage.
type recovery struct {
	opts  redistest.Options
	make  func(s *scene, o redistest.Options) // nil: one server
	fault func(s *scene)                      // it sets heal
	cause string                              // of the outage, in part
	heals bool                                // by itself, after a while
	most  time.Duration                       // how long it can last; 0: for ever
}

func (s *scene) do(args ...any) {
	s.Helper()
	must(s, s.rdb.Do(context.Background(), args...).Err())
}

// config is a fault by CONFIG SET.
func config(name, bad, good string) func(*scene) {
	return func(s *scene) {
		s.do("CONFIG", "SET", name, bad)
		s.heal = func() { s.do("CONFIG", "SET", name, good) }
	}
}

func recoveries() map[string]recovery {
	durable := redistest.Options{AppendOnly: true}
	return map[string]recovery{
		"killed": {opts: durable, fault: func(s *scene) {
			must(s, s.r.Kill())
			s.heal = func() { must(s, s.r.Restart()) }
		}},
		"refused": {make: behindProxy, fault: func(s *scene) {
			s.proxy.Refuse()
			s.proxy.Cut()
			s.heal = s.proxy.Accept
		}},
		"frozen": {fault: func(s *scene) {
			must(s, s.r.Freeze())
			s.heal = func() { must(s, s.r.Thaw()) }
		}, cause: "timeout"},
		"frozen network": {make: behindProxy, fault: func(s *scene) {
			s.proxy.Freeze()
			s.heal = s.proxy.Thaw
		}, cause: "timeout"},
		"LOADING":  {opts: redistest.Options{Args: []string{"--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024"}}, fault: loading, most: 2 * time.Second},
		"READONLY": {fault: replica},
		"MASTERDOWN": {opts: redistest.Options{Args: []string{"--replica-serve-stale-data", "no"}}, fault: func(s *scene) {
			s.do("REPLICAOF", "127.0.0.1", "1")
			s.heal = func() { s.do("REPLICAOF", "NO", "ONE") }
		}, cause: "MASTERDOWN"},
		"OOM":        {fault: config("maxmemory", "1", "0"), cause: "OOM"},
		"NOREPLICAS": {fault: config("min-replicas-to-write", "1", "0"), cause: "NOREPLICAS"},
		"MISCONF":    {make: inDirectory, fault: misconfigured, cause: "MISCONF"},
		"WRONGPASS": {opts: redistest.Options{Args: withUser(producerRights)}, make: asUser, fault: func(s *scene) {
			s.do("ACL", "SETUSER", "app", "off")
			s.do("CLIENT", "KILL", "USER", "app")
			s.heal = func() { s.do("ACL", "SETUSER", "app", "on") }
		}},
		"BUSY": {opts: redistest.Options{Args: []string{"--busy-reply-threshold", "10"}}, fault: busy, cause: "BUSY"},
		"paused": {fault: func(s *scene) {
			s.do("CLIENT", "PAUSE", 600_000, "WRITE")
			s.heal = func() { s.do("CLIENT", "UNPAUSE") }
		}, cause: "timeout"},
		"failover":    {make: behindSentinel, fault: func(s *scene) { s.heal() }, heals: true},
		"CLUSTERDOWN": {make: inCluster, fault: clusterDown, cause: "CLUSTERDOWN"},
	}
}

// TestRecovery has outages of many kinds last for a while, and measures how long after Redis
// takes writes the first job comes.
func TestRecovery(t *testing.T) {
	t.Parallel()
	for name, kind := range recoveries() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range *recoveryRuns {
				recoverFrom(t, kind)
			}
		})
	}
}

func recoverFrom(t *testing.T, kind recovery) {
	t.Helper()
	s := &scene{T: t}
	if kind.make == nil {
		kind.make = oneServer
	}
	kind.make(s, kind.opts)
	p := newProducer(t, queue.Config{Redis: s.opt, SpoolDir: t.TempDir(), EnqueueTimeout: 200 * time.Millisecond})
	must(t, second(p.Enqueue(asynq.NewTask("t", nil), asynq.Queue("early"))))
	all := newTally()
	kind.fault(s)
	for all.enqueue(t, p, "default", nil) == queue.InRedis { // the fault may take a moment
		time.Sleep(10 * time.Millisecond)
	}
	infos, err := p.EnqueueBatch(t.Context(), batchOf(2000))
	must(t, err)
	for _, info := range infos {
		all.ids["default"] = append(all.ids["default"], info.ID)
	}
	sizes := p.Answered()
	if !kind.heals {
		s.hold(p, kind)
		s.heal()
	}
	first := s.first(p)
	t.Logf("%s: first job %v after Redis takes writes", t.Name(), first.Round(time.Millisecond))
	if first > 5*time.Second {
		t.Errorf("first job %v after Redis takes writes", first)
	}
	drain(t, p)
	if st := p.Stats(); len(sizes()) == 0 || st.Replayed+st.AlreadyThere < 2000 || st.Dead > 0 {
		t.Errorf("%v: %+v", sizes(), st)
	}
	all.wantOnce(t, s.admin())
	closeProducer(t, p)
}

// hold lets the outage last for a while, and counts attempts meanwhile.
func (s *scene) hold(p *queue.Producer, kind recovery) {
	s.Helper()
	d := *recoveryHold
	if kind.most > 0 {
		d = min(d, kind.most)
	}
	if st := p.Stats(); st.State == queue.StateUp || !strings.Contains(fmt.Sprint(st.OutageCause, st.Queues), kind.cause) {
		s.Fatalf("%+v", st)
	}
	tries, dials := p.Tries(), p.Dials()
	began := time.Now()
	time.Sleep(d)
	s.Logf("%s: %d tries, %d new connections in %v", s.Name(), tries(), dials(), d)
	seconds := 1 + time.Since(began).Seconds()
	if n, m := tries(), dials(); float64(n) > 3*seconds || float64(m) > 3*seconds {
		s.Errorf("%d tries and %d new connections in %v", n, m, d)
	}
	// One that gets no answer takes two seconds, and may have begun before.
	eventually(s, "it is tried again and again", func() bool { return float64(tries()) >= max(d.Seconds()/3-1, 1) })
}

// first waits until Redis takes writes, and returns how long after that the first job is
// there.
func (s *scene) first(p *queue.Producer) time.Duration {
	s.Helper()
	st := p.Stats()
	before := st.Replayed + st.AlreadyThere
	eventually(s, "Redis takes writes", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return s.admin().Set(ctx, "{default}x", 1, 0).Err() == nil
	})
	began := time.Now()
	for end := began.Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if st := p.Stats(); st.Replayed+st.AlreadyThere > before {
			return time.Since(began)
		}
	}
	return patience
}

// TestStrandedConnections: what leads to Redis no more, and does not say so, is not used after
// an outage has begun, neither for tries nor for jobs.
func TestStrandedConnections(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*scene, redistest.Options){
		"plain": behindProxy, "TLS": behindProxyWithTLS, "cluster": inClusterBehindProxy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scene{T: t}
			make(s, redistest.Options{})
			p := newProducer(t, queue.Config{Redis: s.opt, SpoolDir: t.TempDir(), EnqueueTimeout: 500 * time.Millisecond})
			must(t, p.Ping())
			all, dials := newTally(), p.Dials()
			s.proxy.Latency(20 * time.Millisecond) // so that callers need connections of their own
			var crowd sync.WaitGroup
			for range 8 {
				crowd.Go(func() { all.enqueue(t, p, "default", nil) })
			}
			crowd.Wait()
			s.proxy.Latency(0)
			if n := dials(); n < 5 {
				t.Fatalf("%d connections: the test shows nothing", n)
			}
			s.proxy.Strand()
			if where := all.enqueue(t, p, "default", nil); where != queue.InDoubt {
				t.Fatal(where)
			}
			began := time.Now()
			eventually(t, "the outage ends", func() bool { return p.Stats().State == queue.StateUp })
			t.Logf("%s: the outage ended after %v", t.Name(), time.Since(began).Round(time.Millisecond))
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("the outage ended after %v", d)
			}
			for range 50 {
				if where := all.enqueue(t, p, "default", nil); where != queue.InRedis {
					t.Fatal(where)
				}
			}
			drain(t, p)
			all.wantOnce(t, s.admin())
			if st := p.Stats(); st.Outages != 1 || st.InDoubt != 1 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// admin is a client with all rights, of what the jobs are for.
func (s *scene) admin() redis.UniversalClient {
	if s.cluster != nil {
		return s.cluster
	}
	return s.rdb
}

func behindProxyWithTLS(s *scene, o redistest.Options) {
	o.TLS = redistest.NewTLS(s)
	s.r = redistest.Run(s, o)
	s.proxy = redistest.NewProxy(s, s.r.Addr())
	s.rdb = keep(s, &redis.Options{Addr: s.r.Addr(), TLSConfig: o.TLS.ClientConfig()})
	s.opt = asynq.RedisClientOpt{Addr: s.proxy.Addr(), TLSConfig: o.TLS.ClientConfig()}
}

func inClusterBehindProxy(s *scene, o redistest.Options) {
	c := redistest.RunCluster(s, redistest.ClusterOptions{Proxied: true, Node: o})
	s.proxy, s.opt = c.Proxies()[0], clusterOf(c)
	s.rdb = client(s, c.Nodes()[0].Addr()) // past the proxy: the cluster has one server only
}

func oneServer(s *scene, o redistest.Options) {
	s.r = redistest.Run(s, o)
	s.rdb, s.opt = client(s, s.r.Addr()), server(s.r.Addr())
}

func behindProxy(s *scene, o redistest.Options) {
	oneServer(s, o)
	s.proxy = redistest.NewProxy(s, s.r.Addr())
	s.opt = server(s.proxy.Addr())
}

func asUser(s *scene, o redistest.Options) {
	oneServer(s, o)
	s.opt = asynq.RedisClientOpt{Addr: s.r.Addr(), Username: "app", Password: "secret"}
}

func behindSentinel(s *scene, o redistest.Options) {
	set := redistest.RunSentinel(s, o)
	s.r = set.Replica()
	s.rdb = client(s, s.r.Addr())
	s.opt = asynq.RedisFailoverClientOpt{MasterName: set.MasterName(), SentinelAddrs: set.Addrs()}
	old := set.Master()
	s.heal = func() { must(s, old.Kill()) } // the sentinels see to the rest
}

func inDirectory(s *scene, o redistest.Options) {
	s.dir = filepath.Join(s.TempDir(), "redis")
	o.Dir = s.dir
	oneServer(s, o)
}

func inCluster(s *scene, o redistest.Options) {
	o.AppendOnly = true
	c := redistest.RunCluster(s, redistest.ClusterOptions{Masters: 3, FullCoverage: true, Node: o})
	s.cluster, s.opt = clusterClient(s, c), clusterOf(c)
	for _, n := range c.Nodes() {
		if n != c.MasterOf("{default}") {
			s.r = n // whose death stops the others
		}
	}
}

func clusterDown(s *scene) {
	must(s, s.r.Kill())
	s.heal = func() { must(s, s.r.Restart()) }
}

// loading restarts a server that has much to load.
func loading(s *scene) {
	pipe := s.rdb.Pipeline()
	for i := range 4_000 { // two seconds and more: a sleep of the server's for each
		pipe.Set(context.Background(), fmt.Sprint("filler", i), strings.Repeat("x", 1000), 0)
	}
	must(s, second(pipe.Exec(context.Background())))
	s.do("CONFIG", "SET", "rdbcompression", "no")
	s.do("SAVE")
	must(s, s.r.Kill())
	done := make(chan error, 1)
	s.heal = func() { must(s, <-done) }
	go func() { done <- s.r.Restart() }()
	eventually(s, "Redis is loading", func() bool {
		return redis.HasErrorPrefix(s.rdb.Ping(context.Background()).Err(), "LOADING")
	})
}

// replica makes the server a replica, until it is promoted.
func replica(s *scene) {
	master := redistest.Run(s, redistest.Options{Args: []string{"--repl-diskless-sync-delay", "0"}})
	host, port, _ := strings.Cut(master.Addr(), ":")
	s.do("REPLICAOF", host, port)
	eventually(s, "it is in step", func() bool {
		return s.rdb.Exists(context.Background(), "asynq:{early}:pending").Val() == 0
	})
	s.heal = func() { s.do("REPLICAOF", "NO", "ONE") }
}

// misconfigured makes the last snapshot a failed one: its directory is gone.
func misconfigured(s *scene) {
	s.do("CONFIG", "SET", "save", "3600 1")
	must(s, os.RemoveAll(s.dir))
	s.do("BGSAVE")
	eventually(s, "the snapshot fails", func() bool {
		return strings.Contains(s.rdb.Info(context.Background(), "persistence").Val(), "rdb_last_bgsave_status:err")
	})
	s.heal = func() { s.do("CONFIG", "SET", "save", "") }
}

// busy runs a script without end.
func busy(s *scene) {
	other := redis.NewClient(&redis.Options{Addr: s.r.Addr(), MaxRetries: -1, ReadTimeout: 2 * patience})
	done := make(chan error, 1)
	go func() { done <- other.Eval(context.Background(), "while true do end", nil).Err() }()
	eventually(s, "Redis is busy", func() bool { return redis.HasErrorPrefix(s.rdb.Ping(context.Background()).Err(), "BUSY") })
	s.heal = func() {
		s.do("SCRIPT", "KILL")
		if err := errors.Join(<-done, other.Close()); err == nil {
			s.Error("the script has ended by itself")
		}
	}
}
