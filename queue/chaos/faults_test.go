package chaos_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/redistest"
)

// fault is a row of the matrix.
type fault struct {
	name  string
	shape shape
	most  allowed // wait: 0 means usualWait

	// quiet says that the callers do not notice it. Else jobs must have been spooled, or the
	// fault has not been one.
	quiet bool

	refuses bool // jobs must have been refused

	// do does it, for as long as it takes, and undoes it. Producers and workers are running.
	do func(*world)

	// mixes says that it can go on beside others, in a world with a standalone Redis.
	mixes string // what it is done to
}

// usualWait is how long an Enqueue may take: its budget of 500 ms, the commit, and what a
// busy machine adds.
const usualWait = 3 * time.Second

// What faults are done to.
const (
	toRedis    = "redis"
	toNetwork  = "network"
	toProducer = "producer"
	toWorker   = "worker"
)

func faults() []fault {
	all := append(redisFaults(), networkFaults()...)
	all = append(all, processFaults()...)
	all = append(all, fleetFaults()...)
	all = append(all, clockFaults()...)
	return append(all, diskFaults()...)
}

func redisFaults() []fault {
	config := func(key, bad, good string) func(*world) {
		return func(w *world) {
			w.do(w.servers[0], "CONFIG", "SET", key, bad)
			w.hold(length())
			w.do(w.servers[0], "CONFIG", "SET", key, good)
		}
	}
	return []fault{
		{name: "Redis killed (SIGKILL), back with its append-only file", mixes: toRedis, do: func(w *world) {
			w.must(w.servers[0].Kill())
			w.hold(length())
			w.must(w.servers[0].Restart())
		}},
		{name: "Redis frozen (SIGSTOP)", mixes: toRedis, do: func(w *world) {
			w.must(w.servers[0].Freeze())
			w.hold(length())
			w.must(w.servers[0].Thaw())
		}},
		{name: "Redis killed and back five times", do: func(w *world) {
			for range 5 {
				w.must(w.servers[0].Kill())
				w.hold(length() / 5)
				w.must(w.servers[0].Restart())
				w.hold(length() / 5)
			}
		}},
		{name: "LOADING: Redis is back, and reads its data", shape: shape{args: []string{
			"--key-load-delay", "200", "--loading-process-events-interval-bytes", "1024",
		}}, do: func(w *world) {
			w.hold(length())
			w.must(w.servers[0].Kill())
			w.must(w.servers[0].Restart())
		}},
		{name: "READONLY: Redis becomes a replica", shape: shape{replica: true}, do: func(w *world) {
			// The other one is in step, so nothing is forgotten.
			w.swap(0, 1)
			w.hold(length())
			w.swap(1, 0)
		}},
		{name: "OOM: maxmemory reached", mixes: toRedis, do: config("maxmemory", "1", "0")},
		{name: "MISCONF: snapshots fail", do: misconf},
		{name: "NOREPLICAS", mixes: toRedis, do: config("min-replicas-to-write", "1", "0")},
		{name: "CLIENT PAUSE WRITE", mixes: toRedis, do: func(w *world) {
			w.do(w.servers[0], "CLIENT", "PAUSE", "60000", "WRITE")
			w.hold(length())
			w.do(w.servers[0], "CLIENT", "UNPAUSE")
		}},
		{name: "BUSY: a script without end", do: busyScript},
		{name: "NOPERM: rights taken from the user", do: func(w *world) {
			w.do(w.servers[0], "ACL", "SETUSER", "default", "resetkeys", "~nothing:*")
			w.hold(length())
			w.do(w.servers[0], "ACL", "SETUSER", "default", "allkeys")
		}},
		{name: "connections closed by CLIENT KILL, again and again", quiet: true, mixes: toRedis, do: func(w *world) {
			for range 20 {
				w.do(w.servers[0], "CLIENT", "KILL", "TYPE", "normal")
				w.hold(length() / 20)
			}
		}},
		{
			name: "Redis forgets (SIGKILL, nothing on disk), Guard on", quiet: true, most: allowed{twice: anyNumber},
			shape: shape{forgetful: true, guard: time.Minute}, do: func(w *world) {
				w.must(w.servers[0].Kill())
				w.must(w.servers[0].Restart())
				w.hold(length())
			},
		},
		{name: "FLUSHALL, Guard on", quiet: true, most: allowed{twice: anyNumber}, shape: shape{guard: time.Minute}, do: func(w *world) {
			w.do(w.servers[0], "FLUSHALL")
			w.hold(length())
		}},
	}
}

// anyNumber of runs too many are allowed: Redis has forgotten that they were done.
const anyNumber = 1 << 30

// swap makes a master the replica of its replica, while nobody writes.
func (w *world) swap(master, replica int) {
	w.Helper()
	w.signal(syscall.SIGSTOP)
	defer w.signal(syscall.SIGCONT)
	w.until("the replica has everything", func() bool {
		a, _ := w.ask(w.servers[master], "INFO", "replication").Text()
		b, _ := w.ask(w.servers[replica], "INFO", "replication").Text()
		return field(a, "master_repl_offset") == field(b, "master_repl_offset")
	})
	w.do(w.servers[replica], "REPLICAOF", "NO", "ONE")
	w.follow(w.servers[master], w.servers[replica])
}

// field returns a field of an answer to INFO.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// misconf makes the last snapshot a failed one.
func misconf(w *world) {
	target := filepath.Join(w.config("dir"), w.config("dbfilename"))
	w.do(w.servers[0], "CONFIG", "SET", "save", "3600 1")
	_ = os.Remove(target)
	w.must(os.Mkdir(target, 0o700)) // it cannot be replaced by a file
	w.must(os.WriteFile(target+"/x", nil, 0o600))
	w.do(w.servers[0], "BGSAVE")
	w.until("the snapshot fails", func() bool {
		info, err := w.ask(w.servers[0], "INFO", "persistence").Text()
		return err == nil && field(info, "rdb_last_bgsave_status") == "err"
	})
	w.hold(length())
	w.do(w.servers[0], "CONFIG", "SET", "save", "")
	w.must(os.RemoveAll(target))
}

// config returns a setting of Redis.
func (w *world) config(name string) string {
	w.Helper()
	c := redis.NewClient(&redis.Options{Addr: w.servers[0].Addr()})
	defer func() { _ = c.Close() }()
	values, err := c.ConfigGet(context.Background(), name).Result()
	w.must(err)
	return values[name]
}

// busyScript lets a script run without end, and ends it.
func busyScript(w *world) {
	w.do(w.servers[0], "CONFIG", "SET", "busy-reply-threshold", "100")
	c := redis.NewClient(&redis.Options{Addr: w.servers[0].Addr(), MaxRetries: -1, ReadTimeout: patience})
	done := make(chan error, 1)
	go func() { done <- c.Eval(context.Background(), "while true do end", nil).Err() }()
	w.until("Redis is busy", func() bool { return redis.HasErrorPrefix(w.ask(w.servers[0], "PING").Err(), "BUSY") })
	w.hold(length())
	w.do(w.servers[0], "SCRIPT", "KILL")
	if err := <-done; err == nil {
		w.Error("the script ended by itself")
	}
	w.must(c.Close())
}

func networkFaults() []fault {
	toxic := func(kind, direction string, attributes map[string]int) func(*world) {
		return func(w *world) {
			w.net.poison(kind, direction, attributes)
			w.hold(length())
			w.net.heal()
		}
	}
	return []fault{
		{name: "connection refused", mixes: toNetwork, do: func(w *world) {
			w.net.down()
			w.hold(length())
			w.net.up()
		}},
		{name: "connections reset, again and again", mixes: toNetwork, do: func(w *world) {
			for range 10 {
				w.net.poison("reset_peer", replies, map[string]int{"timeout": 20})
				w.hold(length() / 10)
				w.net.heal()
			}
		}},
		{name: "half-open: requests vanish", mixes: toNetwork, do: toxic("timeout", requests, map[string]int{"timeout": 0})},
		{name: "half-open: replies vanish", mixes: toNetwork, do: toxic("timeout", replies, map[string]int{"timeout": 0})},
		{name: "replies cut off in the middle", mixes: toNetwork, do: func(w *world) {
			for range 15 {
				w.net.poison("limit_data", replies, map[string]int{"bytes": 200 + w.number(3000)})
				w.hold(length() / 15)
				w.net.heal()
			}
		}},
		{name: "latency of 300 ms, jitter of 300 ms", mixes: toNetwork, do: toxic("latency", requests, map[string]int{"latency": 300, "jitter": 300})},
		{name: "replies in pieces of some bytes", quiet: true, mixes: toNetwork, do: toxic("slicer", replies, map[string]int{"average_size": 8, "size_variation": 4, "delay": 500})},
		{name: "a line of 5 kB/s", mixes: toNetwork, do: toxic("bandwidth", requests, map[string]int{"rate": 5})},
	}
}

func processFaults() []fault {
	outage := func(w *world, during func()) {
		w.net.down()
		w.hold(length())
		during()
		w.net.up()
	}
	return []fault{
		{name: "producers killed, one after the other", quiet: true, mixes: toProducer, do: func(w *world) {
			for range 4 {
				w.hold(length() / 4)
				w.killProducer()
			}
		}},
		{name: "producers killed in an outage", do: func(w *world) {
			outage(w, func() {
				for range 3 {
					w.killProducer()
					w.hold(length() / 4)
				}
			})
		}},
		{name: "producers killed while they replay: between Redis's reply and the commit, too", shape: shape{pace: 4 * time.Millisecond}, do: func(w *world) {
			outage(w, func() {})
			for range 6 {
				time.Sleep(time.Duration(w.number(400)) * time.Millisecond)
				w.killProducer()
			}
		}},
		{name: "producers and workers frozen (SIGSTOP) in the middle", quiet: true, mixes: toProducer, do: func(w *world) {
			w.signal(syscall.SIGSTOP)
			w.hold(length())
			w.signal(syscall.SIGCONT)
		}, most: allowed{wait: usualWait + 2*length()}},
		{name: "workers killed", quiet: true, mixes: toWorker, do: func(w *world) {
			for range 2 {
				w.hold(length() / 2)
				w.killWorkers()
			}
		}},
		{name: "rolling deploy: old and new processes overlap, in an outage", do: func(w *world) {
			w.net.down()
			old := w.retireProducers()
			for range old {
				w.startProducer()
			}
			w.hold(length() / 2)
			for _, p := range old {
				p.signal(syscall.SIGKILL) // at the end of its grace, with a full spool
				<-p.ended
			}
			w.net.up()
			w.hold(length() / 2)
		}},
		{name: "rolling deploy without an outage", quiet: true, do: func(w *world) {
			old := w.retireProducers()
			for _, p := range old {
				w.startProducer()
				w.hold(length() / 4)
				p.tell(orderFinish)
				<-p.ended
				checkFinished(w, w.oracle, p)
			}
		}},
		{name: "a second outage right after a drain", do: func(w *world) {
			for range 2 {
				outage(w, func() {})
				w.tell(orderDrain)
				w.hold(length() / 10)
			}
		}},
		{name: "an outage while the one before is replayed", shape: shape{pace: 4 * time.Millisecond}, do: func(w *world) {
			for range 4 {
				outage(w, func() {})
				w.hold(length() / 10)
			}
		}},
	}
}

func fleetFaults() []fault {
	return []fault{
		{name: "Sentinel: a failover by hand", shape: shape{redis: sentinel, confirm: 1}, most: allowed{twice: anyNumber}, do: func(w *world) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			w.must(w.sentinel.Failover(ctx))
			w.hold(length())
		}},
		{name: "Sentinel: the master is killed, Guard on", shape: shape{redis: sentinel, guard: time.Minute}, most: allowed{twice: anyNumber}, do: func(w *world) {
			old := w.sentinel.Master()
			w.must(old.Kill())
			w.until("another one is the master", func() bool {
				m := w.sentinel.Master()
				return m != nil && m != old
			})
			w.hold(length())
			w.must(old.Restart())
		}},
		{name: "FAILOVER TO a replica", shape: shape{replica: true}, do: func(w *world) {
			host, port, _ := strings.Cut(w.servers[1].Addr(), ":")
			w.do(w.servers[0], "FAILOVER", "TO", host, port)
			w.until("the failover is over", func() bool {
				info, err := w.ask(w.servers[0], "INFO", "replication").Text()
				return err == nil && field(info, "role") == "slave" && field(info, "master_link_status") == "up"
			})
			w.hold(length())
			host, port, _ = strings.Cut(w.servers[0].Addr(), ":")
			w.do(w.servers[1], "FAILOVER", "TO", host, port)
			w.until("the old master is one again", func() bool {
				info, err := w.ask(w.servers[0], "INFO", "replication").Text()
				return err == nil && field(info, "role") == "master"
			})
		}},
		{name: "Cluster: a master is killed, its replica takes over, Guard on", shape: shape{redis: cluster, guard: time.Minute}, most: allowed{twice: anyNumber}, do: func(w *world) {
			key := "asynq:{" + w.queues[w.number(len(w.queues))] + "}"
			old := w.cluster.MasterOf(key)
			w.must(old.Kill())
			w.until("another one is the master", func() bool { m := w.cluster.MasterOf(key); return m != nil && m != old })
			w.hold(length())
			w.must(old.Restart())
		}},
		{name: "Cluster: CLUSTER FAILOVER by hand", quiet: true, shape: shape{redis: cluster}, do: func(w *world) {
			key := "asynq:{" + w.queues[0] + "}"
			old := w.cluster.MasterOf(key)
			w.must(promoteReplica(w, old))
			w.until("another one is the master", func() bool { m := w.cluster.MasterOf(key); return m != nil && m != old })
			w.hold(length())
		}},
	}
}

// promoteReplica asks the replica of a Cluster's master to take over.
func promoteReplica(w *world, master *redistest.Server) error {
	_, port, _ := strings.Cut(master.Addr(), ":")
	for _, s := range w.servers {
		role, err := w.ask(s, "ROLE").Slice()
		if err == nil && role[0] == "slave" && fmt.Sprint(role[2]) == port {
			return w.ask(s, "CLUSTER", "FAILOVER").Err()
		}
	}
	return fmt.Errorf("%s has no replica", master.Addr())
}

func diskFaults() []fault {
	small := func() *disk { return &disk{bytes: 64 * mebi} }
	refusing := allowed{refused: true, wait: 8 * time.Second} // a disk that does not answer: 5 s
	during := func(hits bool, begin, end func(*world)) func(*world) {
		return func(w *world) {
			w.net.down()
			w.hold(length() / 2)
			begin(w)
			if hits {
				w.until("a job is refused", func() bool { return w.refusals() > 0 })
			}
			w.hold(length())
			end(w)
			w.net.up()
		}
	}
	restart := func(w *world) {
		old := w.retireProducers()
		for _, p := range old {
			p.kill()
		}
		if w.shape.disk != nil {
			w.shape.disk.remount()
		}
		for range old {
			w.startProducer()
		}
	}
	return []fault{
		{name: "disk full in an outage (ENOSPC)", shape: shape{disk: small(), pace: 2 * time.Millisecond}, most: refusing, refuses: true, do: during(true,
			func(w *world) { w.shape.disk.full() }, func(w *world) { w.shape.disk.free() })},
		{name: "the spool's own bound in an outage", shape: shape{spoolBytes: mebi, pace: 4 * time.Millisecond}, most: refusing, refuses: true, do: func(w *world) {
			w.net.down()
			w.hold(2 * length())
			w.net.up()
		}},
		{name: "fdatasync fails (EIO) in an outage, then a restart", shape: shape{pace: 4 * time.Millisecond}, most: refusing, refuses: true, do: during(true,
			func(w *world) { w.tell(orderBreak) }, restart)},
		{name: "a disk that hangs in an outage", shape: shape{disk: small(), pace: 2 * time.Millisecond}, most: refusing, do: during(false,
			func(w *world) { w.shape.disk.freeze() }, func(w *world) { w.shape.disk.thaw() })},
		{name: "SpoolDir becomes read-only in an outage, then a restart", shape: shape{disk: small()}, most: refusing, refuses: true, do: during(true,
			func(w *world) { w.shape.disk.abort() }, restart)},
		{name: "disk full while Redis is there", quiet: true, shape: shape{disk: small()}, do: func(w *world) {
			w.shape.disk.full()
			w.hold(length())
			w.shape.disk.free()
		}},
	}
}
