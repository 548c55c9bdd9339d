package queue_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestTroubleOfOneQueue denies the user the keys of one queue: its jobs go to the spool,
// those of others to Redis, until the rights are given.
func TestTroubleOfOneQueue(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	admin := client(t, r.Addr())
	acl := func(rule ...any) {
		t.Helper()
		if err := admin.Do(t.Context(), append([]any{"ACL", "SETUSER", "producer"}, rule...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	acl("on", ">secret", "+@all", "~asynq:queues", "~asynq:{good}:*")
	log, said := logger()
	opt := asynq.RedisClientOpt{Addr: r.Addr(), Username: "producer", Password: "secret"}
	var mu sync.Mutex
	var changes []queue.StateChange
	p := newProducer(t, queue.Config{Redis: opt, SpoolDir: t.TempDir(), Logger: log, OnStateChange: func(c queue.StateChange) {
		mu.Lock()
		defer mu.Unlock()
		changes = append(changes, c)
	}})
	var bad, good []string
	add := func(ids *[]string, name string, want queue.Where) {
		t.Helper()
		var where queue.Where
		info, err := p.Enqueue(asynq.NewTask("t", nil), asynq.Queue(name), queue.ReportTo(&where))
		if err != nil || where != want {
			t.Fatalf("%s: %v, %v", name, err, where)
		}
		*ids = append(*ids, info.ID)
	}
	for range 5 {
		add(&bad, "bad", queue.InSpool)
		add(&good, "good", queue.InRedis)
	}
	st := p.Stats()
	if st.State != queue.StatePartial || len(st.Queues) != 1 || st.Queues[0].Queue != "bad" || !strings.Contains(st.Queues[0].Cause, "NOPERM") {
		t.Errorf("%+v", st)
	}
	time.Sleep(2 * time.Second) // the replayer tries, and must not touch the jobs
	if st := p.Stats(); st.Pending != 5 || st.Dead != 0 || st.State != queue.StatePartial {
		t.Errorf("%+v", st)
	}
	acl("~asynq:{bad}:*")
	drain(t, p)
	add(&bad, "bad", queue.InRedis)
	for name, want := range map[string][]string{"bad": bad, "good": good} {
		ids, err := admin.LRange(t.Context(), "asynq:{"+name+"}:pending", 0, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		wantOnce(t, ids, want)
	}
	text := strings.Join(said.all(), "")
	if strings.Count(text, "outage begins") != 1 || strings.Count(text, "outage ends") != 1 || strings.Count(text, "queue=bad") != 2 {
		t.Errorf("the log: %s", text)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(changes) != 2 || !changes[0].Outage || changes[1].Outage || changes[1].Queue != "bad" || changes[1].Spooled != 5 || changes[1].Lasted < 2*time.Second {
		t.Errorf("%+v", changes)
	}
}

// TestNoRightToRunScripts denies the user what jobs need but not what a probe needs: the
// outage lasts until the right is given, and begins once.
func TestNoRightToRunScripts(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{Args: withUser(producerRights + " -evalsha")})
	p := newProducer(t, queue.Config{
		Redis: asynq.RedisClientOpt{Addr: r.Addr(), Username: "app", Password: "secret"}, SpoolDir: t.TempDir(),
	})
	ids := enqueue(t, p, 3)
	time.Sleep(2500 * time.Millisecond) // for at least two tries
	if st := p.Stats(); st.State != queue.StateOutage || st.Outages != 1 || st.Pending != 3 {
		t.Errorf("%+v", st)
	}
	if err := client(t, r.Addr()).Do(t.Context(), "ACL", "SETUSER", "app", "+evalsha").Err(); err != nil {
		t.Fatal(err)
	}
	drain(t, p)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}

// TestAnImpatientBatchIsOneFailure cuts a batch short by its caller's own deadline.
func TestAnImpatientBatchIsOneFailure(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: patience})
	enqueue(t, p, 1)
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	tasks := make([]*asynq.Task, 100)
	for i := range tasks {
		tasks[i] = asynq.NewTask("t", nil)
	}
	if _, err := p.EnqueueBatch(ctx, tasks); err != nil {
		t.Fatal(err)
	}
	if st := p.Stats(); st.Outages != 0 || st.InDoubt != 100 {
		t.Errorf("%+v", st)
	}
}

// TestAWrongTypeStopsOneQueue breaks the list of one queue for a while.
func TestAWrongTypeStopsOneQueue(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	rdb := client(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	if err := rdb.Set(t.Context(), "asynq:{bad}:pending", "no list", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := p.Enqueue(asynq.NewTask("t", nil), asynq.Queue("bad")); err != nil {
			t.Fatal(err)
		}
	}
	ids := enqueue(t, p, 10)
	if st := p.Stats(); st.State != queue.StatePartial || st.Spooled != 3 || st.Sent != 10 {
		t.Errorf("%+v", st)
	}
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	if err := rdb.Del(t.Context(), "asynq:{bad}:pending").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the queue works again", func() bool { return p.Stats().State == queue.StateUp })
	eventually(t, "nothing waits", func() bool { return p.Stats().Pending == 0 })
	n, err := rdb.LLen(t.Context(), "asynq:{bad}:pending").Result()
	// The first was half done by its script.
	if st := p.Stats(); err != nil || n != 3 || st.Replayed != 3 {
		t.Errorf("%d in Redis: %+v, %v", n, st, err)
	}
}

// TestCallbacks counts what happens in an outage, calls back into the Producer, and
// panics.
func TestCallbacks(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	var p *queue.Producer
	var mu sync.Mutex
	counts := map[string]int{}
	count := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		counts[what]++
	}
	log, said := logger()
	p = newProducer(t, queue.Config{
		Redis: server(r.Addr()), SpoolDir: t.TempDir(), Logger: log,
		OnStateChange: func(c queue.StateChange) {
			if c.Outage {
				count("begin")
				if _, err := p.Enqueue(asynq.NewTask("from a callback", nil)); err != nil {
					t.Error(err)
				}
				return
			}
			count("end")
		},
		OnSpooled: func(e queue.JobEvent) {
			count("spooled " + e.Type)
			_ = p.Stats()
			panic("of the callback's own")
		},
		OnReplayed: func(e queue.JobEvent) {
			count("replayed " + e.Outcome)
			if e.TaskID == "" || e.Queue != "default" || e.At.IsZero() {
				t.Errorf("%+v", e)
			}
		},
	})
	enqueue(t, p, 3)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	enqueue(t, p, 10)
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	drain(t, p)
	eventually(t, "the end is told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return counts["end"] == 1 && counts["replayed delivered"] == 11
	})
	mu.Lock()
	defer mu.Unlock()
	if counts["begin"] != 1 || counts["spooled test"] != 10 || counts["spooled from a callback"] != 1 {
		t.Errorf("%v", counts)
	}
	if text := strings.Join(said.all(), ""); strings.Count(text, "panicked") != 11 {
		t.Errorf("the log: %s", text)
	}
}

// TestSecrets makes errors of all kinds with a marked password and payload.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const password, payload = "pa55w0rd-marker", "pay10ad-marker"
	log, said := logger()
	var texts []string
	try := func(addr string, args ...string) {
		r := redistest.Run(t, redistest.Options{Args: args})
		if addr == "" {
			addr = r.Addr()
		}
		opt := asynq.RedisClientOpt{Addr: addr, Username: "user", Password: password}
		p := newProducer(t, queue.Config{Redis: opt, SpoolDir: t.TempDir(), Logger: log})
		for _, opts := range [][]asynq.Option{nil, {queue.NoSpool()}} {
			_, err := p.Enqueue(asynq.NewTask("t", []byte(payload)), opts...)
			if err != nil {
				texts = append(texts, err.Error())
			}
		}
		if err := p.Ping(); err != nil {
			texts = append(texts, err.Error())
		}
		st := p.Stats()
		if st.State == queue.StateUp {
			t.Errorf("%v is no trouble", args)
		}
		texts = append(texts, st.OutageCause, st.Target)
		for _, q := range st.Queues {
			texts = append(texts, q.Cause)
		}
	}
	try("127.0.0.1:1")
	try("") // wrong password
	try("", "--user", "user", "on", ">"+password, "~*", "+@all", "-evalsha")
	try("", "--user", "user", "on", ">"+password, "~*", "+@all", "--rename-command", "EVALSHA", "")
	try("", "--user", "user", "on", ">"+password, "~*", "+@all", "-lpush")
	texts = append(texts, said.all()...)
	for _, text := range texts {
		if strings.Contains(text, password) || strings.Contains(text, payload) {
			t.Errorf("tells a secret: %s", text)
		}
	}
	if len(texts) < 20 {
		t.Errorf("only %d texts", len(texts))
	}
	_, err := queue.New(queue.Config{Redis: opaque{}, SpoolDir: t.TempDir()})
	if err == nil || errors.Is(err, queue.ErrClosed) {
		t.Error(err)
	}
}

type opaque struct{}

func (opaque) MakeRedisClient() any { return nil }

// judged waits until nothing is pending but what is passed over.
func judged(t *testing.T, p *queue.Producer) {
	t.Helper()
	eventually(t, "all is judged", func() bool {
		st := p.Stats()
		return st.Pending == st.Deferred && st.State == queue.StateUp
	})
}

// TestOneTooLargeForRedis puts a task that Redis does not take between others: they are
// not blamed for it, live in one pipeline, nor at the replay. Refused in words it becomes a
// dead letter. Where Redis just closes the connection, it is passed over: nobody waits for
// it, and nothing says that Redis will never take it.
func TestOneTooLargeForRedis(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]string{"with a word": "--proto-max-bulk-len", "without a word": "--client-query-buffer-limit"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{AppendOnly: true, Args: []string{limit, "1mb"}})
			p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), MaxTaskBytes: -1})
			tasks := make([]*asynq.Task, 9)
			for i := range tasks {
				tasks[i] = asynq.NewTask("t", nil)
			}
			large := asynq.NewTask("t", make([]byte, 2<<20)) // in one pipeline with the others
			var want []string
			refused := int64(0)
			for _, state := range []string{"up", "up, and it comes first", "outage"} {
				tasks[0], tasks[4] = asynq.NewTask("t", nil), large
				if state == "up, and it comes first" {
					tasks[0], tasks[4] = tasks[4], tasks[0]
				}
				judged(t, p)
				if state == "outage" {
					if err := r.Kill(); err != nil {
						t.Fatal(err)
					}
				}
				infos, err := p.EnqueueBatch(t.Context(), tasks)
				for i, info := range infos {
					switch {
					case tasks[i] != large && info != nil:
						want = append(want, info.ID)
					case tasks[i] != large:
						t.Fatalf("%s: %v", state, err)
					case info == nil && errors.Is(err, queue.ErrTooLarge): // told at once
						refused++
					}
				}
			}
			if err := r.Restart(); err != nil {
				t.Fatal(err)
			}
			judged(t, p)
			wantOnce(t, pendingIDs(t, r.Addr()), want)
			if st := p.Stats(); st.Dead+refused+int64(st.Deferred) != 3 || st.Dead > 0 && name == "without a word" {
				t.Errorf("%d refused: %+v", refused, st)
			}
		})
	}
}
