package queue

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/queue/redistest"
)

// What can go wrong, done to real servers, and what class one attempt must give its error.

const (
	tryFor      = 500 * time.Millisecond
	trySlack    = 3 * time.Second // an attempt that hangs takes go-redis's 5 s
	realWait    = 20 * time.Second
	markPayload = "payload-nobody-may-see"
	markPass    = "password-nobody-may-see"
)

// presence is what is looked for in Redis afterwards.
type presence int

const (
	absent  presence = iota // no trace of the job, also when the fault is over
	present                 // as asynq would have it
	half                    // its task, but in no list
	unknown                 // it cannot be looked at, or both happen
)

// row is one fault.
type row struct {
	name   string
	args   []string     // of redis-server
	when   int          // the attempt is made on a new connection, an old one, or one after the other on each
	before func(r *rig) // before the client connects
	fault  func(r *rig)
	want   class
	there  presence

	orDoubt bool // the race between reply and end of connection may be lost
	unique  bool
	size    int // of the payload
}

const (
	either = iota // both, each with a server of its own
	cold
	warm
)

// rig is one server and one client that is to meet the fault.
type rig struct {
	testing.TB
	srv      *redistest.Server
	proxy    *redistest.Proxy
	admin    *redis.Client // one connection, made before the fault
	opt      asynq.RedisClientOpt
	other    asynq.RedisConnOpt // in place of opt
	client   redis.UniversalClient
	sender   *sender
	composer *compose.Composer
	tryCtx   func() (context.Context, context.CancelFunc)
	heal     func()
}

func TestClassifyRealFaults(t *testing.T) {
	t.Cleanup(func() { waitForDials(t) })
	for _, c := range realRows() {
		for _, when := range []int{cold, warm} {
			if c.when != either && c.when != when {
				continue
			}
			t.Run(c.name+map[int]string{cold: ", new connection", warm: ", old connection"}[when], func(t *testing.T) {
				t.Parallel()
				newRig(t, c.args).run(c, when)
			})
		}
	}
}

// waitForDials waits until go-redis has given up the dials that outlived their
// attempts, for goleak.
func waitForDials(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 4<<20)
	for end := time.Now().Add(realWait); ; time.Sleep(50 * time.Millisecond) {
		if !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("queuedNewConn.func")) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("go-redis still dials")
		}
	}
}

func newRig(t *testing.T, args []string) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{TB: t, srv: redistest.Run(t, redistest.Options{Dir: dir, Args: args}), heal: func() {}}
	r.admin = redis.NewClient(&redis.Options{
		Addr: r.srv.Addr(), PoolSize: 1, PipelinePoolSize: -1, MaxRetries: -1, DisableIdentity: true, ConnMaxIdleTime: -1, ReadTimeout: realWait,
	})
	t.Cleanup(func() { _ = r.admin.Close() })
	r.check(r.admin.Ping(r.Context()).Err())
	var err error
	r.composer, err = compose.New()
	r.check(err)
	t.Cleanup(func() { _ = r.composer.Close() })
	r.opt = asynq.RedisClientOpt{Addr: r.srv.Addr(), PoolSize: 4}
	r.tryCtx = func() (context.Context, context.CancelFunc) { return context.WithTimeout(r.Context(), tryFor) }
	return r
}

func (r *rig) run(c row, when int) {
	r.Helper()
	if c.before != nil {
		c.before(r)
	}
	if when == cold {
		c.fault(r)
	}
	r.connect()
	if when == warm {
		_, cmd, err := r.composer.Compose(r.Context(), asynq.NewTask("first", nil))
		r.check(err)
		r.check(r.sender.inline(r.Context(), cmd).err)
		c.fault(r)
	}
	payload := []byte(markPayload + strings.Repeat("x", c.size))
	var opts []asynq.Option
	if c.unique {
		opts = append(opts, asynq.Unique(time.Minute))
	}
	info, cmd, err := r.composer.Compose(r.Context(), asynq.NewTask("test", payload), opts...)
	r.check(err)

	ctx, cancel := r.tryCtx()
	defer cancel()
	began := time.Now()
	res := r.sender.inline(ctx, cmd)
	took := time.Since(began)
	r.judge(c, res.err, took)
	r.heal()
	r.look(c.there, info.ID)
}

// judge looks at the error. The time is a guard against an attempt that hangs,
// not a measurement.
func (r *rig) judge(c row, err error, took time.Duration) {
	r.Helper()
	if err == nil {
		r.Fatal("the attempt succeeded")
	}
	r.Logf("%s: class %d, %v: %T %v", r.Name(), classify(err), took.Round(time.Millisecond), rootOf(err), err)
	got := classify(err)
	if got != c.want && (!c.orDoubt || got != inDoubt) {
		r.Errorf("class %d, want %d: %v", got, c.want, err)
	}
	if s := err.Error(); strings.Contains(s, markPayload) || strings.Contains(s, markPass) {
		r.Errorf("the error shows what nobody may see: %v", err)
	}
	if took > tryFor+trySlack {
		r.Errorf("the attempt took %v", took)
	}
}

// look compares what is in Redis once all our connections have been read to their
// end: then nothing of ours can come any more.
func (r *rig) look(want presence, id string) {
	r.Helper()
	_ = r.client.Close()
	if want == unknown || r.srv.Pid() == 0 {
		return
	}
	defer func() {
		if r.Failed() {
			list, err := r.admin.ClientList(r.Context()).Result()
			r.Logf("connected: %v\n%s", err, list)
		}
	}()
	r.until("only the admin is connected", r.alone)
	n, err := r.admin.Exists(r.Context(), "asynq:{default}:t:"+id).Result()
	r.check(err)
	ids, err := r.admin.LRange(r.Context(), "asynq:{default}:pending", 0, -1).Result()
	if err != nil && !strings.HasPrefix(err.Error(), "WRONGTYPE") {
		r.Fatal(err)
	}
	got := absent
	switch listed := slices.Contains(ids, id); {
	case n == 1 && listed:
		got = present
	case n == 1 || listed:
		got = half
	}
	if got != want {
		r.Errorf("in Redis afterwards: %d, want %d", got, want)
	}
}

func (r *rig) connect() {
	r.Helper()
	opt := r.other
	if opt == nil {
		opt = r.opt
	}
	r.sender = newSender()
	client, _, err := connect(opt, r.sender.lifetime())
	r.check(err)
	r.client = client
	r.sender.use(client)
	r.Cleanup(func() { _ = client.Close() })
}

func (r *rig) check(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) until(what string, holds func() bool) {
	r.Helper()
	for end := time.Now().Add(realWait); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("not within %v: %s", realWait, what)
		}
	}
}

// do sends a command of the admin's.
func (r *rig) do(args ...any) {
	r.Helper()
	if err := r.admin.Do(r.Context(), args...).Err(); err != nil {
		r.Fatalf("%v: %v", args[0], err)
	}
}

// set returns a fault made by CONFIG SET and unmade by the next pair.
func set(name, value, healthy string) func(*rig) {
	return func(r *rig) {
		r.do("CONFIG", "SET", name, value)
		r.heal = func() { r.do("CONFIG", "SET", name, healthy) }
	}
}

// user returns a fault in which the client is a user with those ACL rules.
func user(rules ...any) func(*rig) {
	return func(r *rig) {
		r.do(append([]any{"ACL", "SETUSER", "u", "on", ">" + markPass}, rules...)...)
		r.opt.Username, r.opt.Password = "u", markPass
	}
}

// throughProxy makes the client go through a proxy.
func throughProxy(r *rig) {
	r.proxy = redistest.NewProxy(r, r.srv.Addr())
	r.opt.Addr = r.proxy.Addr()
}

// rootOf is what go-redis returned, under our own wrapping.
func rootOf(err error) error {
	if s, ok := err.(scrubbedError); ok { //nolint:errorlint // the outermost one is meant
		return s.err
	}
	return err
}

func realRows() []row {
	return slices.Concat(dialRows(), lostRows(), replyRows(), scriptRows(), tlsRows(), sentinelRows(), clusterRows())
}

func dialRows() []row {
	return []row{
		{name: "refused", fault: func(r *rig) { r.check(r.srv.Kill()) }, when: cold, want: notWritten},
		{name: "killed", fault: func(r *rig) { r.check(r.srv.Kill()) }, when: warm, want: notWritten, orDoubt: true},
		{name: "unknown name", fault: func(r *rig) { r.opt.Addr = "redis.invalid:6379" }, when: cold, want: notWritten, orDoubt: true},
		{name: "black hole", fault: func(r *rig) { r.opt.Addr = redistest.BlackHole(r) }, when: cold, want: notWritten, orDoubt: true},
		{name: "no socket", fault: func(r *rig) { r.opt.Network, r.opt.Addr = "unix", "/nonexistent/redis.sock" }, when: cold, want: notWritten},
		{name: "closed client", fault: func(r *rig) { r.check(r.client.Close()) }, when: warm, want: notWritten},
		{name: "pool exhausted", fault: exhaust, when: warm, want: notWritten},
		{name: "deadline before the attempt", fault: func(r *rig) {
			r.tryCtx = func() (context.Context, context.CancelFunc) { return context.WithTimeout(r.Context(), -1) }
		}, want: notWritten},
		{name: "cancelled in between", fault: func(r *rig) {
			freezeServer(r)
			r.tryCtx = func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithTimeout(r.Context(), tryFor)
				time.AfterFunc(tryFor/10, cancel)
				return ctx, cancel
			}
		}, when: warm, want: inDoubt, there: present},
		{name: "frozen", fault: freezeServer, when: warm, want: inDoubt, there: present},
		{name: "frozen", fault: freezeServer, when: cold, want: inDoubt, there: absent},
		{name: "paused", fault: func(r *rig) {
			r.do("CLIENT", "PAUSE", 60000, "WRITE")
			// Redis drops what a paused client sent when that is gone.
			r.heal = func() { _ = r.client.Close(); r.until("gone", r.alone); r.do("CLIENT", "UNPAUSE") }
		}, want: inDoubt, there: absent},
		{name: "no such database", fault: func(r *rig) { r.opt.DB = 99 }, when: cold, want: notWritten},
	}
}

// alone reports whether Redis has no client but the admin and a Sentinel.
func (r *rig) alone() bool {
	list, err := r.admin.ClientList(r.Context()).Result()
	return err == nil && strings.Count(list, "\n")-strings.Count(list, "name=sentinel") == 1
}

func freezeServer(r *rig) {
	r.check(r.srv.Freeze())
	r.heal = func() { r.check(r.srv.Thaw()) }
}

// exhaust keeps the connection of a pool of one busy.
func exhaust(r *rig) {
	_ = r.client.Close()
	r.opt.PoolSize = 1
	r.connect()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.client.BLPop(r.Context(), time.Minute, "nothing")
	}()
	r.until("BLPOP waits", func() bool {
		list, _ := r.admin.ClientList(r.Context()).Result()
		return strings.Contains(list, "cmd=blpop")
	})
	r.heal = func() { r.do("RPUSH", "nothing", "x"); <-done }
}

func lostRows() []row {
	var rows []row
	for name, how := range map[string]redistest.CutMode{
		"EOF": redistest.CutFIN, "reset": redistest.CutRST, "half a reply": redistest.CutHalf, "black-holed reply": redistest.CutHang,
	} {
		lose := func(r *rig) { r.proxy.CutAfterReplies(0, how) }
		rows = append(rows,
			row{name: name, before: throughProxy, fault: lose, want: inDoubt, there: present},
			row{name: name + ", Unique", before: throughProxy, fault: lose, unique: true, want: inDoubt, there: present})
	}
	return rows
}

func replyRows() []row {
	return []row{
		{name: "LOADING", fault: load, args: []string{"--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024", "--enable-debug-command", "yes"}, want: notWritten},
		{name: "READONLY", fault: func(r *rig) {
			r.do("REPLICAOF", "127.0.0.1", "1")
			r.heal = func() { r.do("REPLICAOF", "NO", "ONE") }
		}, want: notWritten},
		{name: "MASTERDOWN", args: []string{"--replica-serve-stale-data", "no"}, fault: func(r *rig) {
			r.do("REPLICAOF", "127.0.0.1", "1")
			r.heal = func() { r.do("REPLICAOF", "NO", "ONE") }
		}, want: notWritten},
		{name: "MISCONF", fault: misconfigure, want: notWritten},
		{name: "OOM", fault: set("maxmemory", "1", "0"), want: notWritten},
		{name: "OOM", fault: set("maxmemory", "1", "0"), want: notWritten, unique: true},
		{name: "NOREPLICAS", fault: set("min-replicas-to-write", "1", "0"), want: notWritten},
		{name: "NOAUTH", fault: set("requirepass", "other", ""), when: cold, want: notWritten},
		{name: "NOAUTH, large", fault: set("requirepass", "other", ""), when: cold, size: 100_000, want: notWritten, orDoubt: true},
		{name: "WRONGPASS", fault: func(r *rig) {
			set("requirepass", "other", "")(r)
			r.opt.Password = markPass
		}, when: cold, want: notWritten},
		{name: "WRONGPASS of a user", fault: func(r *rig) {
			user("allcommands", "allkeys")(r)
			r.opt.Password = markPass + "!"
		}, when: cold, want: notWritten},
		{name: "BUSY", args: []string{"--busy-reply-threshold", "10"}, fault: busy, want: notWritten},
		{name: "max clients", args: []string{"--maxclients", "1"}, fault: func(*rig) {}, when: cold, want: notWritten, orDoubt: true},
		{name: "too large", args: []string{"--proto-max-bulk-len", "1mb"}, fault: func(*rig) {}, size: 2 << 20, want: refused, orDoubt: true},
		{name: "a little too large", args: []string{"--proto-max-bulk-len", "1mb"}, fault: func(*rig) {}, size: 1 << 20, want: refused, orDoubt: true},
		{name: "far too large", args: []string{"--proto-max-bulk-len", "1mb"}, fault: func(*rig) {}, size: 30 << 20, want: refused, orDoubt: true},
		{name: "query buffer", args: []string{"--client-query-buffer-limit", "1mb"}, fault: func(*rig) {}, size: 2 << 20, want: inDoubt},
	}
}

// load makes the server read its data again, which takes it long.
func load(r *rig) {
	pipe := r.admin.Pipeline()
	for i := range 1000 {
		pipe.Set(r.Context(), fmt.Sprint("filler", i), strings.Repeat("x", 1000), 0)
	}
	_, err := pipe.Exec(r.Context())
	r.check(err)
	r.do("CONFIG", "SET", "rdbcompression", "no")
	r.inBackground(func(c *redis.Client) error { return c.Do(r.Context(), "DEBUG", "RELOAD").Err() })
	r.until("Redis is loading", func() bool { return redis.HasErrorPrefix(r.admin.Ping(r.Context()).Err(), "LOADING") })
}

// inBackground lets another client do what takes long; heal waits for it.
func (r *rig) inBackground(f func(*redis.Client) error) {
	c := redis.NewClient(&redis.Options{Addr: r.srv.Addr(), MaxRetries: -1, ReadTimeout: realWait, DisableIdentity: true})
	done := make(chan error, 1)
	go func() { done <- f(c) }()
	r.heal = func() {
		if err := <-done; err != nil {
			r.Logf("in the background: %v", err)
		}
		_ = c.Close()
	}
}

// misconfigure makes the last snapshot a failed one: its directory is gone.
func misconfigure(r *rig) {
	dir, err := r.admin.ConfigGet(r.Context(), "dir").Result()
	r.check(err)
	r.do("CONFIG", "SET", "save", "3600 1")
	r.check(os.RemoveAll(dir["dir"]))
	r.do("BGSAVE")
	r.until("the snapshot fails", func() bool {
		info, err := r.admin.Info(r.Context(), "persistence").Result()
		return err == nil && strings.Contains(info, "rdb_last_bgsave_status:err")
	})
	r.heal = func() { r.do("CONFIG", "SET", "save", "") }
}

// busy runs a script without end.
func busy(r *rig) {
	r.inBackground(func(c *redis.Client) error { return c.Eval(r.Context(), "while true do end", nil).Err() })
	r.until("Redis is busy", func() bool { return redis.HasErrorPrefix(r.admin.Ping(r.Context()).Err(), "BUSY") })
	ended := r.heal
	r.heal = func() { r.do("SCRIPT", "KILL"); ended() }
}

func scriptRows() []row {
	return []row{
		{name: "NOPERM evalsha", fault: user("allkeys", "allcommands", "-evalsha", "-eval"), when: cold, want: notWritten},
		{name: "NOPERM key", fault: user("allcommands", "~asynq:{other}:*", "~asynq:queues"), when: cold, want: denied},
		{name: "NOPERM key, no registration", fault: user("allcommands", "~asynq:{other}:*"), when: cold, want: denied},
		{name: "NOPERM key, Unique", fault: user("allcommands", "~asynq:{default}:t:*", "~asynq:{default}:pending"), when: cold, unique: true, want: denied},
		{name: "NOPERM to write the key", fault: user("allcommands", "%R~asynq:*"), when: cold, want: denied},
		{name: "NOPERM inside", fault: user("allkeys", "allcommands", "-lpush"), when: cold, want: odd, there: half},
		{name: "NOPERM inside, first", fault: user("allkeys", "allcommands", "-exists"), when: cold, want: odd},
		{name: "WRONGTYPE", fault: func(r *rig) {
			r.do("DEL", "asynq:{default}:pending")
			r.do("SET", "asynq:{default}:pending", "x")
		}, want: odd, there: half},
		{name: "no EVALSHA", args: []string{"--rename-command", "EVALSHA", ""}, fault: func(*rig) {}, when: cold, want: notWritten},
		{name: "no LPUSH", args: []string{"--rename-command", "LPUSH", ""}, fault: func(*rig) {}, when: cold, want: odd, there: half},
	}
}

func tlsRows() []row {
	return []row{
		{name: "TLS to plaintext", fault: func(r *rig) {
			r.opt.TLSConfig = &tls.Config{InsecureSkipVerify: true}
		}, when: cold, want: notWritten, orDoubt: true},
		{name: "plaintext to TLS", fault: func(r *rig) { r.opt.Addr = r.tlsAddr() }, when: cold, want: inDoubt},
		{name: "unknown authority", fault: func(r *rig) {
			r.opt.Addr, r.opt.TLSConfig = r.tlsAddr(), &tls.Config{ServerName: "localhost"}
		}, when: cold, want: notWritten},
		{name: "no client certificate", fault: func(r *rig) {
			r.opt.Addr, r.opt.TLSConfig = r.tlsAddr(), &tls.Config{InsecureSkipVerify: true}
			r.do("CONFIG", "SET", "tls-auth-clients", "yes")
		}, when: cold, want: inDoubt},
	}
}

// tlsAddr makes the server listen for TLS too.
func (r *rig) tlsAddr() string {
	dir := r.TB.(*testing.T).TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	WriteCertificate(r, cert, key)
	ln, err := new(net.ListenConfig).Listen(r.Context(), "tcp", "127.0.0.1:0")
	r.check(err)
	addr := ln.Addr().String()
	r.check(ln.Close())
	_, port, _ := net.SplitHostPort(addr)
	r.do("CONFIG", "SET", "tls-cert-file", cert, "tls-key-file", key, "tls-ca-cert-file", cert, "tls-auth-clients", "no", "tls-port", port)
	return addr
}

// WriteCertificate writes a self-signed certificate and its key.
func WriteCertificate(tb testing.TB, certFile, keyFile string) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
}

func sentinelRows() []row {
	return []row{
		{name: "sentinels refused", fault: func(r *rig) {
			r.other = asynq.RedisFailoverClientOpt{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1", "127.0.0.1:2"}}
		}, when: cold, want: notWritten},
		{name: "unknown master", fault: func(r *rig) { r.sentinel("other") }, when: cold, want: notWritten},
		{name: "no sentinel but Redis", fault: func(r *rig) {
			r.other = asynq.RedisFailoverClientOpt{MasterName: "m", SentinelAddrs: []string{r.srv.Addr()}, SentinelPassword: markPass}
		}, when: cold, want: notWritten},
		{name: "sentinel up, master down", fault: func(r *rig) {
			r.sentinel("m")
			r.check(r.srv.Kill())
		}, when: cold, want: notWritten},
	}
}

// sentinel starts a Sentinel that watches the server as m, and makes the client
// ask it for a master.
func (r *rig) sentinel(master string) {
	ln, err := new(net.ListenConfig).Listen(r.Context(), "tcp", "127.0.0.1:0")
	r.check(err)
	addr := ln.Addr().String()
	r.check(ln.Close())
	_, port, _ := net.SplitHostPort(addr)
	_, redisPort, _ := net.SplitHostPort(r.srv.Addr())
	dir := r.TB.(*testing.T).TempDir()
	conf := filepath.Join(dir, "sentinel.conf")
	r.check(os.WriteFile(conf, fmt.Appendf(nil, "bind 127.0.0.1\nport %s\ndir %s\nsentinel monitor m 127.0.0.1 %s 1\n", port, dir, redisPort), 0o600))
	var out bytes.Buffer
	cmd := exec.CommandContext(context.Background(), "redis-sentinel", conf)
	cmd.Stdout, cmd.Stderr = &out, &out
	r.check(cmd.Start())
	r.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r.until("the sentinel answers", func() bool {
		c := redis.NewSentinelClient(&redis.Options{Addr: addr, MaxRetries: -1, DisableIdentity: true})
		defer func() { _ = c.Close() }()
		return c.GetMasterAddrByName(r.Context(), "m").Err() == nil
	})
	r.other = asynq.RedisFailoverClientOpt{MasterName: master, SentinelAddrs: []string{addr}}
}

func clusterRows() []row {
	enabled := []string{"--cluster-enabled", "yes"}
	return []row{
		{name: "CLUSTERDOWN, plain client", args: enabled, fault: func(r *rig) { r.heal = r.takeSlots }, when: cold, want: notWritten},
		{name: "CLUSTERDOWN, cluster client", args: enabled, fault: func(r *rig) {
			r.other = asynq.RedisClusterClientOpt{Addrs: []string{r.srv.Addr()}}
			r.heal = r.takeSlots
		}, when: cold, want: notWritten},
		{name: "no cluster", fault: func(r *rig) {
			r.other = asynq.RedisClusterClientOpt{Addrs: []string{r.srv.Addr()}}
		}, when: cold, want: notWritten},
		{name: "seeds refused", fault: func(r *rig) {
			r.other = asynq.RedisClusterClientOpt{Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}}
		}, when: cold, want: notWritten},
		// A cluster's client tries again by itself: the last error is not the
		// first attempt's.
		{name: "cluster, lost reply, then refused", args: enabled, before: clusterBehindProxy, fault: func(r *rig) {
			lost := r.proxy.CutAfterReplies(0, redistest.CutFIN)
			go func() { <-lost; r.proxy.Refuse() }()
		}, want: inDoubt, there: present},
	}
}

// clusterBehindProxy makes the server a cluster of one that is reached through the
// proxy only.
func clusterBehindProxy(r *rig) {
	throughProxy(r)
	_, port, _ := net.SplitHostPort(r.proxy.Addr())
	r.do("CONFIG", "SET", "cluster-announce-port", port)
	r.do("CONFIG", "SET", "cluster-announce-ip", "127.0.0.1")
	r.takeSlots()
	r.other = asynq.RedisClusterClientOpt{Addrs: []string{r.proxy.Addr()}}
}

// takeSlots makes the server a cluster of one.
func (r *rig) takeSlots() {
	r.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
	r.until("the cluster is up", func() bool {
		info, err := r.admin.ClusterInfo(r.Context()).Result()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
}
