package chaos_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
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
	midway  bool // producers must have been killed between Redis's reply and the commit

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
		{name: "LOADING: Redis is back, and reads its data", shape: shape{args: slowLoading(200)}, do: func(w *world) {
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
		{name: "READONLY: Redis becomes the replica of nobody", mixes: toRedis, do: func(w *world) {
			w.do(w.servers[0], "REPLICAOF", "127.0.0.1", "1")
			w.hold(length())
			w.do(w.servers[0], "REPLICAOF", "NO", "ONE")
		}},
		{name: "OOM: maxmemory reached", mixes: toRedis, do: config("maxmemory", "1", "0")},
		{name: "MISCONF: snapshots fail", mixes: toRedis, do: misconf},
		{name: "NOREPLICAS", mixes: toRedis, do: config("min-replicas-to-write", "1", "0")},
		{name: "CLIENT PAUSE WRITE", mixes: toRedis, do: func(w *world) {
			w.do(w.servers[0], "CLIENT", "PAUSE", "60000", "WRITE")
			w.hold(length())
			w.do(w.servers[0], "CLIENT", "UNPAUSE")
		}},
		{name: "BUSY: a script without end", mixes: toRedis, do: busyScript},
		{name: "NOPERM: rights taken from the user", mixes: toRedis, do: func(w *world) {
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

// slowLoading are arguments of a Redis that rests for so many microseconds at each command in its
// append-only file; negative: at one command in so many, for as short as can be.
func slowLoading(delay int) []string {
	return []string{"--key-load-delay", strconv.Itoa(delay), "--loading-process-events-interval-bytes", "1024"}
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
	w.do(w.servers[0], "BGSAVE", "SCHEDULE") // the append-only file may just be rewritten
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
