package queue_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// producerRights are all that a Producer's user needs in Redis. What a Cluster needs
// besides is "+cluster|slots".
const producerRights = "~asynq:* +evalsha +eval +exists +hset +lpush +zadd +sadd +set +get +del +hget +info"

// withUser are the arguments of a server with a user app that has these rights. Its
// password is secret.
func withUser(rights string) []string {
	return append([]string{"--user", "app", "on", ">secret"}, strings.Fields(rights)...)
}

// target is a Redis of some kind.
type target struct {
	opt     asynq.RedisConnOpt
	admin   redis.UniversalClient // of the same, with all rights
	servers []*redistest.Server
}

func (r target) each(tb testing.TB, do func(*redistest.Server) error) {
	tb.Helper()
	for _, s := range r.servers {
		must(tb, do(s))
	}
}

// socketPath returns a path that is short enough for a Unix socket.
func socketPath(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "sock") //nolint:usetesting // its path is too long
	must(tb, err)
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "redis")
}

// keep makes a client that is closed when the test ends.
func keep(tb testing.TB, o *redis.Options) *redis.Client {
	tb.Helper()
	c := redis.NewClient(o)
	tb.Cleanup(func() { c.Close() })
	return c
}

func durable(args ...string) redistest.Options {
	return redistest.Options{AppendOnly: true, Args: args}
}

// targets are the kinds of Redis that a Producer can be given.
func targets() map[string]func(tb testing.TB) target {
	return map[string]func(tb testing.TB) target{
		"TLS with client certificate": func(tb testing.TB) target {
			tb.Helper()
			files := redistest.NewTLS(tb)
			r := redistest.Run(tb, redistest.Options{AppendOnly: true, TLS: files})
			return target{
				opt:     asynq.RedisClientOpt{Addr: r.Addr(), TLSConfig: files.ClientConfig()},
				admin:   keep(tb, &redis.Options{Addr: r.Addr(), TLSConfig: files.ClientConfig()}),
				servers: []*redistest.Server{r},
			}
		},
		"Unix socket": func(tb testing.TB) target {
			tb.Helper()
			path := socketPath(tb)
			r := redistest.Run(tb, redistest.Options{AppendOnly: true, UnixSocket: path})
			return target{
				opt:     asynq.RedisClientOpt{Network: "unix", Addr: path},
				admin:   client(tb, r.Addr()),
				servers: []*redistest.Server{r},
			}
		},
		"user and database": func(tb testing.TB) target {
			tb.Helper()
			// SELECT is a right of its own.
			r := redistest.Run(tb, durable(withUser(producerRights+" +select")...))
			return target{
				opt:     &asynq.RedisClientOpt{Addr: r.Addr(), Username: "app", Password: "secret", DB: 3},
				admin:   keep(tb, &redis.Options{Addr: r.Addr(), DB: 3}),
				servers: []*redistest.Server{r},
			}
		},
		"client with TLS and user": func(tb testing.TB) target {
			tb.Helper()
			files := redistest.NewTLS(tb)
			r := redistest.Run(tb, redistest.Options{AppendOnly: true, TLS: files, Args: withUser(producerRights)})
			theirs := keep(tb, &redis.Options{Addr: r.Addr(), Username: "app", Password: "secret", TLSConfig: files.ClientConfig()})
			return target{
				opt:     queue.FromClient(theirs),
				admin:   keep(tb, &redis.Options{Addr: r.Addr(), TLSConfig: files.ClientConfig()}),
				servers: []*redistest.Server{r},
			}
		},
		"client whose credentials come from a function": func(tb testing.TB) target {
			tb.Helper()
			r := redistest.Run(tb, durable(withUser(producerRights)...))
			theirs := keep(tb, &redis.Options{Addr: r.Addr(), CredentialsProvider: func() (string, string) { return "app", "secret" }})
			return target{opt: queue.FromClient(theirs), admin: client(tb, r.Addr()), servers: []*redistest.Server{r}}
		},
		"cluster, user": func(tb testing.TB) target {
			tb.Helper()
			c := redistest.RunCluster(tb, redistest.ClusterOptions{Node: durable(withUser(producerRights + " +cluster|slots")...)})
			return target{
				opt:     &asynq.RedisClusterClientOpt{Addrs: c.Addrs(), Username: "app", Password: "secret"},
				admin:   clusterClient(tb, c),
				servers: c.Nodes(),
			}
		},
		"cluster client": func(tb testing.TB) target {
			tb.Helper()
			c := redistest.RunCluster(tb, redistest.ClusterOptions{Node: durable()})
			theirs := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
			tb.Cleanup(func() { theirs.Close() })
			return target{opt: queue.FromClient(theirs), admin: clusterClient(tb, c), servers: c.Nodes()}
		},
		"sentinel, user": func(tb testing.TB) target {
			tb.Helper()
			s := redistest.RunSentinel(tb, durable(withUser(producerRights)...))
			return target{
				opt: &asynq.RedisFailoverClientOpt{
					MasterName: s.MasterName(), SentinelAddrs: s.Addrs(), Username: "app", Password: "secret",
				},
				admin:   client(tb, s.Servers()[0].Addr()),
				servers: s.Servers(),
			}
		},
	}
}

// TestEveryKindOfTarget is live, dies, comes back, and has all jobs once.
func TestEveryKindOfTarget(t *testing.T) {
	t.Parallel()
	for name, run := range targets() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t)
			p := newProducer(t, queue.Config{Redis: r.opt, SpoolDir: t.TempDir()})
			all := newTally()
			for range 10 {
				if where := all.enqueue(t, p, "default", nil); where != queue.InRedis {
					t.Fatalf("live: %v: %+v", where, p.Stats())
				}
			}
			must(t, p.Ping())
			if _, ok := r.opt.(*asynq.RedisFailoverClientOpt); ok {
				replicated(t, r.servers[0]) // either may be the master afterwards
			}
			r.each(t, (*redistest.Server).Kill)
			for range 10 {
				if where := all.enqueue(t, p, "default", nil); where == queue.InRedis {
					t.Fatalf("dead: %v", where)
				}
			}
			if p.Ping() == nil {
				t.Error("ping of the dead")
			}
			r.each(t, (*redistest.Server).Restart)
			drain(t, p)
			if where := all.enqueue(t, p, "default", nil); where != queue.InRedis {
				t.Errorf("back: %v: %+v", where, p.Stats())
			}
			eventually(t, "the set of queues", func() bool {
				there, err := r.admin.SIsMember(context.Background(), "asynq:queues", "default").Result()
				return err == nil && there
			})
			all.wantOnce(t, r.admin)
			if strings.Contains(p.Stats().Target, "secret") {
				t.Errorf("target %s", p.Stats().Target)
			}
		})
	}
}

// TestWrongCredentials are an outage, which ends when Redis learns them.
func TestWrongCredentials(t *testing.T) {
	t.Parallel()
	files := redistest.NewTLS(t)
	r := redistest.Run(t, redistest.Options{TLS: files, Args: withUser(producerRights)})
	without := files.ClientConfig()
	without.Certificates = nil
	for name, opt := range map[string]asynq.RedisClientOpt{
		"no certificate": {TLSConfig: without},
		"no such user":   {TLSConfig: files.ClientConfig(), Username: "nobody", Password: "secret"},
		"wrong password": {TLSConfig: files.ClientConfig(), Username: "app", Password: "wrong"},
		"wrong name":     {TLSConfig: &tls.Config{RootCAs: files.ClientConfig().RootCAs, ServerName: "elsewhere"}},
	} {
		opt.Addr = r.Addr()
		p := newProducer(t, queue.Config{Redis: opt, SpoolDir: t.TempDir()})
		all := newTally()
		if where := all.enqueue(t, p, "default", nil); where == queue.InRedis || p.Stats().State != queue.StateOutage {
			t.Errorf("%s: %v: %+v", name, where, p.Stats())
		}
		t.Logf("%s: %s", name, p.Stats().OutageCause)
		if name == "wrong password" {
			admin := keep(t, &redis.Options{Addr: r.Addr(), TLSConfig: files.ClientConfig()})
			must(t, admin.Do(t.Context(), "ACL", "SETUSER", "app", ">wrong").Err())
			drain(t, p)
			all.wantOnce(t, admin)
		}
	}
}

// denials returns what Redis has denied.
func denials(tb testing.TB, rdb *redis.Client) (of []string) {
	tb.Helper()
	log, err := rdb.ACLLog(context.Background(), 100).Result()
	must(tb, err)
	for _, e := range log {
		of = append(of, fmt.Sprintf("%s %s", e.Reason, e.Object))
	}
	return of
}

// TestProducerRights: with them Redis denies a Producer nothing, and none of them can be
// left out.
func TestProducerRights(t *testing.T) {
	t.Parallel()
	rights := strings.Fields(producerRights)
	for _, without := range append([]string{""}, rights...) {
		t.Run("without "+without, func(t *testing.T) {
			t.Parallel()
			left := slices.DeleteFunc(slices.Clone(rights), func(right string) bool { return right == without })
			r := redistest.Run(t, redistest.Options{Args: withUser(strings.Join(left, " "))})
			admin := client(t, r.Addr())
			proxy := redistest.NewProxy(t, r.Addr())
			p := newProducer(t, queue.Config{
				Redis: asynq.RedisClientOpt{Addr: proxy.Addr(), Username: "app", Password: "secret"}, SpoolDir: t.TempDir(),
			})
			everyKind(t, p)
			if without != "" && len(denials(t, admin)) > 0 {
				return
			}
			replayConflicts(t, p, proxy, asynq.NewClientFromRedisClient(admin))
			drainErr := func() error {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				return p.Drain(ctx)
			}()
			denied := denials(t, admin)
			t.Logf("%q, %v, %+v", denied, drainErr, p.Stats())
			if want := without != ""; want != (len(denied) > 0) {
				t.Errorf("denied: %q", denied)
			}
			if without == "" && (drainErr != nil || p.Stats().Outages != 1) {
				t.Errorf("%v: %+v", drainErr, p.Stats())
			}
		})
	}
}

// everyKind enqueues by each of asynq's scripts, and meets each of their answers.
func everyKind(t *testing.T, p *queue.Producer) {
	t.Helper()
	kinds := [][]asynq.Option{
		{},
		{asynq.Unique(time.Hour)},
		{asynq.ProcessIn(time.Hour)},
		{asynq.ProcessIn(time.Hour), asynq.Unique(time.Hour)},
		{asynq.Group("g")},
		{asynq.Group("g"), asynq.Unique(time.Hour)},
	}
	for i, opts := range kinds {
		for range 2 { // the second has a twin if it is unique
			_, _ = p.Enqueue(asynq.NewTask("test", fmt.Append(nil, i)), opts...)
		}
	}
	for i := range 2 { // the second gets a lock that it must give back
		_, _ = p.Enqueue(asynq.NewTask("test", fmt.Append(nil, "own", i)), asynq.TaskID("own"), asynq.Unique(time.Hour))
	}
	_ = p.Ping()
}

// replayConflicts spools jobs whose ids and locks are taken until they are replayed.
func replayConflicts(t *testing.T, p *queue.Producer, proxy *redistest.Proxy, theirs *asynq.Client) {
	t.Helper()
	proxy.Refuse()
	proxy.Cut()
	same := asynq.NewTask("test", []byte("same"))
	for _, opts := range [][]asynq.Option{
		{asynq.TaskID("taken")}, {asynq.TaskID("later"), asynq.ProcessIn(time.Hour)}, {asynq.Unique(time.Hour)},
	} {
		_, err := p.Enqueue(same, opts...)
		must(t, err)
		_, err = theirs.Enqueue(same, opts...)
		must(t, err)
	}
	proxy.Accept()
}

// TestOwnIDWithoutSADD replays a job in doubt whose id the caller chose, and ten behind it,
// for a user who may not register queues.
func TestOwnIDWithoutSADD(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{Args: withUser(strings.ReplaceAll(producerRights, " +sadd", ""))})
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{
		Redis: asynq.RedisClientOpt{Addr: proxy.Addr(), Username: "app", Password: "secret"}, SpoolDir: t.TempDir(),
	})
	ids := append(enqueue(t, p, 1), "mine")
	lost := proxy.CutAfterReplies(0, redistest.CutFIN)
	_, err := p.Enqueue(asynq.NewTask("test", nil), asynq.TaskID("mine"))
	must(t, err)
	<-lost
	ids = append(ids, enqueue(t, p, 10)...)
	drain(t, p)
	if st := p.Stats(); st.AlreadyThere != 1 || st.Dead != 0 {
		t.Errorf("%+v", st)
	}
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}
