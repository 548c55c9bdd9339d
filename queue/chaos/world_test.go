package chaos_test

import (
	"context"
	"flag"
	"hash/fnv"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/redistest"
)

var (
	seedFlag = flag.Uint64("chaos.seed", 0, "seed of all choices; 0: by chance")
	logFlag  = flag.Bool("chaos.log", false, "show what producers log when a test fails")
)

// seed is that of all choices of this run.
var seed = sync.OnceValue(func() uint64 {
	if *seedFlag != 0 {
		return *seedFlag
	}
	return rand.Uint64()
})

// seedOf is the seed of one test's.
func seedOf(name string) uint64 { return seed() ^ hashOf(name) }

func hashOf(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64()
}

// kind is what Redis is in a world.
type kind int

const (
	standalone kind = iota
	sentinel
	cluster
)

// shape is how a world is to be.
type shape struct {
	redis      kind
	args       []string // of redis-server
	forgetful  bool     // no appendonly: a kill loses all
	replica    bool     // of a standalone Redis
	guard      time.Duration
	window     time.Duration // DedupeWindow; 0: an hour
	confirm    int
	producers  int           // processes; 0: 2
	callers    int           // of each; 0: 4
	pace       time.Duration // of each caller; 0: 20 ms
	disk       *disk         // that SpoolDir is on; nil: the one of all tests
	spoolBytes int64         // 0: the default
	steppable  bool          // the producers' clocks
	midway     bool          // producers can kill themselves in the middle of a replay
}

// world is a site, and whose choices are made in it. Each goroutine that makes some has a world
// of its own, see stream, so that they do not depend on which is faster.
type world struct {
	*site
	rng *rand.Rand
}

// site is one Redis, with producers and workers, each a process of its own, and an oracle.
type site struct {
	testing.TB
	shape shape
	seed  uint64
	*oracle

	servers  []*redistest.Server // the first one is the master
	sentinel *redistest.Sentinel
	cluster  *redistest.Cluster
	net      *network // between producers and a standalone Redis

	dir    string
	queues []string
	redis  redisSetup // as producers see it
	direct redisSetup // as workers see it

	staffing  sync.Mutex // guards what follows
	producers []*child   // that run
	workers   []*child
	started   int // producers
}

func newWorld(tb testing.TB, s shape) *world {
	tb.Helper()
	w := (&world{site: &site{
		TB: tb, shape: s, seed: seedOf(tb.Name()), oracle: newOracle(), queues: []string{"default", "low"},
	}}).stream("test")
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("again: -chaos.seed %d", seed())
		}
	})
	w.dir = filepath.Join(tb.TempDir(), "spool")
	if s.disk != nil {
		w.dir = filepath.Join(s.disk.mount(tb), "spool")
	}
	w.startRedis()
	for range orDefault(s.producers, 2) {
		w.startProducer()
	}
	w.startWorker()
	return w
}

func orDefault[T comparable](v, usual T) T {
	var zero T
	if v == zero {
		return usual
	}
	return v
}

func (w *world) startRedis() {
	w.Helper()
	opts := redistest.Options{AppendOnly: !w.shape.forgetful, Args: append([]string{
		"--repl-diskless-sync-delay", "0",
		// What Redis has acknowledged is in the system's hands: it survives SIGKILL.
		"--appendfsync", "no",
	}, w.shape.args...)}
	switch w.shape.redis {
	case standalone:
		w.servers = []*redistest.Server{redistest.Run(w, opts)}
		if w.shape.replica {
			w.servers = append(w.servers, redistest.Run(w, opts))
			w.follow(w.servers[1], w.servers[0])
		}
		w.net = newNetwork(w, w.servers[0].Addr())
		w.redis, w.direct = redisSetup{Addr: w.net.addr()}, redisSetup{Addr: w.servers[0].Addr()}
	case sentinel:
		w.sentinel = redistest.RunSentinel(w, opts)
		w.servers = w.sentinel.Servers()
		w.redis = redisSetup{Sentinels: w.sentinel.Addrs(), Master: w.sentinel.MasterName()}
		w.direct = w.redis
	case cluster:
		w.cluster = redistest.RunCluster(w, redistest.ClusterOptions{Masters: 3, Replicas: 3, Node: opts})
		w.servers = w.cluster.Nodes()
		w.redis = redisSetup{Cluster: w.cluster.Addrs()}
		w.direct = w.redis
		w.queues = []string{w.cluster.QueueOn(0), w.cluster.QueueOn(1), w.cluster.QueueOn(2)}
	}
}

// follow makes one server the replica of another, and waits until it is in step.
func (w *world) follow(replica, master *redistest.Server) {
	w.Helper()
	host, port, _ := strings.Cut(master.Addr(), ":")
	w.do(replica, "REPLICAOF", host, port)
	w.until("the replica is in step", func() bool {
		info, err := w.ask(replica, "INFO", "replication").Text()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
}

// finish lets the producers drain and end, and the workers run what there is. It judges.
func (w *world) finish() verdict {
	w.Helper()
	w.tell(orderFinish)
	for _, p := range w.retireProducers(0) {
		select {
		case <-p.ended:
			checkFinished(w, w.oracle, p)
		case <-time.After(2 * patience):
			w.Fatal("a producer does not end")
		}
	}
	// One that ended first may have left something to one that ended later, never the
	// other way round: it adopted it. Whatever is left is found now.
	last := w.newProducer(0)
	last.tell(orderFinish)
	<-last.ended
	checkFinished(w, w.oracle, last)
	checkSpool(w, w.dir)
	return w.judgeAll()
}

// judgeAll waits until the workers have nothing more to do, or get nowhere.
func (w *world) judgeAll() (v verdict) {
	w.Helper()
	before, still := -1, 0
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		accepted, processed := w.counts()
		if processed >= accepted {
			break
		}
		if still++; processed != before {
			before, still, end = processed, 0, time.Now().Add(patience)
		}
		if still <= 4 {
			continue
		}
		if held, err := inRedis(w.direct.opt(), w.queues); err == nil && !busy(held) {
			break // what is left is in the hands of a dead worker
		}
	}
	for _, c := range w.everyone() { // a job that moves while the lists are read would be in none
		c.signal(syscall.SIGSTOP)
	}
	time.Sleep(200 * time.Millisecond) // what they have said and sent arrives
	held, err := inRedis(w.direct.opt(), w.queues)
	if err != nil {
		w.Errorf("Redis does not tell what it has: %v", err)
	}
	return w.judge(held)
}

// until waits for a condition.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// hold waits for a random time from about the half to one and a half of d.
func (w *world) hold(d time.Duration) { time.Sleep(d/2 + time.Duration(w.number(int(d)))) }

// number returns a random number below n.
func (w *world) number(n int) int { return w.rng.IntN(n) }

// stream returns the same world with choices of its own, by the seed and a name.
func (w *world) stream(name string) *world {
	return &world{w.site, rand.New(rand.NewPCG(w.seed, hashOf(name)))}
}

func (w *world) ask(s *redistest.Server, args ...any) *redis.Cmd {
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1})
	defer func() { _ = c.Close() }()
	return c.Do(context.Background(), args...)
}

func (w *world) do(s *redistest.Server, args ...any) {
	w.Helper()
	if err := w.ask(s, args...).Err(); err != nil {
		w.Fatalf("%v: %v", args, err)
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}
