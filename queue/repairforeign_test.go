package queue_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool"
)

// TestARepairTouchesNoOtherTask: the caller's own id was taken by others after half a task
// was left under it.
func TestARepairTouchesNoOtherTask(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	admin := client(t, r.Addr())
	plain := asynq.NewClientFromRedisClient(admin)
	cases := map[string]struct {
		task   *asynq.Task // that takes the id
		orphan bool        // and is in no list
		raw    string      // command that takes the id instead
		dead   string      // reason; empty: it is there
	}{
		"payload":     {task: asynq.NewTask("t", []byte("other")), dead: "its task id is taken by another task"},
		"type":        {task: asynq.NewTask("other", []byte("p")), dead: "its task id is taken by another task"},
		"half":        {task: asynq.NewTask("t", []byte("other")), orphan: true, dead: "its task id is taken by another task"},
		"string":      {raw: "SET", dead: "its task id is taken by something that asynq cannot read"},
		"other hash":  {raw: "HSET", dead: "its task id is taken by something that asynq cannot read"},
		"same":        {task: asynq.NewTask("t", []byte("p"))},
		"same, later": {task: asynq.NewTask("t", []byte("p"), asynq.ProcessIn(time.Hour))},
		"same, group": {task: asynq.NewTask("t", []byte("p"), asynq.Group("other"))},
	}
	dir := t.TempDir()
	rec := &outcomes{}
	p := newProducer(t, queue.Config{
		Redis: newUser(t, admin, r.Addr(), "app", repairRights+" -lpush"), SpoolDir: dir, EnqueueTimeout: patience, OnReplayed: rec.add, OnDead: rec.add,
	})
	before := map[string]string{}
	for name := range cases {
		_, err := p.Enqueue(asynq.NewTask("t", []byte("p")), asynq.Queue(name), asynq.TaskID("own"), asynq.Unique(time.Hour))
		must(t, err)
	}
	must(t, p.Close()) // so that no try comes in between
	for name, c := range cases {
		key := "asynq:{" + name + "}:t:own"
		must(t, admin.Del(t.Context(), key).Err())
		switch c.raw {
		case "SET":
			must(t, admin.Set(t.Context(), key, "x", 0).Err())
		case "HSET":
			must(t, admin.HSet(t.Context(), key, "k", "v").Err())
		default:
			_, err := plain.Enqueue(c.task, asynq.Queue(name), asynq.TaskID("own"))
			must(t, err)
		}
		if c.orphan {
			must(t, admin.Del(t.Context(), "asynq:{"+name+"}:pending").Err())
		}
		before[name] = contents(t, admin, name)
	}
	acl(t, admin, "app", "+lpush")
	p = newProducer(t, queue.Config{
		Redis: newUser(t, admin, r.Addr(), "app", repairRights), SpoolDir: dir, EnqueueTimeout: patience, OnReplayed: rec.add, OnDead: rec.add,
	})
	eventually(t, "all is judged", func() bool { return p.Stats().Pending == 0 && p.Stats().Adopted > 0 })
	closeProducer(t, p)
	for name, c := range cases {
		if after := contents(t, admin, name); after != before[name] {
			t.Errorf("%s: %q, before %q", name, after, before[name])
		}
		want := "already there"
		if c.dead != "" {
			want = "dead: " + c.dead
		}
		if got := rec.of(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		// Its own unique lock is not left behind.
		if locks := admin.Keys(t.Context(), "asynq:{"+name+"}:unique:*").Val(); c.dead != "" && len(locks) > 0 {
			t.Errorf("%s: %q", name, locks)
		}
	}
}

// contents returns all that Redis has of a queue but for unique locks and probes.
func contents(t *testing.T, rdb *redis.Client, name string) string {
	t.Helper()
	keys, err := rdb.Keys(t.Context(), "asynq:{"+name+"}:*").Result()
	must(t, err)
	dumps := map[string]string{}
	for _, key := range keys {
		if !strings.Contains(key, ":unique:") && !strings.Contains(key, ":spool:") {
			dumps[key] = rdb.Dump(t.Context(), key).Val()
		}
	}
	return fmt.Sprintf("%q", dumps) // in the order of the keys
}

// outcomes keeps what became of the last job of each queue. Safe for concurrent use.
type outcomes struct{ byQueue sync.Map }

func (o *outcomes) add(e queue.JobEvent) {
	text := e.Outcome
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	o.byQueue.Store(e.Queue, text)
}

func (o *outcomes) of(name string) string {
	text, _ := o.byQueue.Load(name)
	s, _ := text.(string)
	return s
}

// TestARepairIsSuperseded: another producer has taken the unique lock meanwhile. What was
// left of the job goes, since nobody else would ever remove it.
func TestARepairIsSuperseded(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	h := newInterrupted(t, r, "q", []asynq.Option{asynq.Unique(time.Hour)})
	lock := h.admin.HGet(t.Context(), "asynq:{q}:t:"+h.id, "unique_key").Val()
	must(t, h.admin.Del(t.Context(), lock).Err())
	other, err := asynq.NewClientFromRedisClient(h.admin).Enqueue(asynq.NewTask("t", []byte("p")), asynq.Queue("q"), asynq.Unique(time.Hour))
	must(t, err)
	h.resume(t)
	drain(t, h.p)
	if st := h.p.Stats(); st.Superseded != 1 {
		t.Errorf("%+v", st)
	}
	tasks, err := h.admin.Keys(t.Context(), "asynq:{q}:t:*").Result()
	if err != nil || len(tasks) != 1 || h.admin.Get(t.Context(), lock).Val() != other.ID {
		t.Errorf("%q, %v", tasks, err)
	}
	wantOnce(t, pendingOf(t, h.admin, "q"), []string{other.ID})
}

// TestARepairWithoutItsRights: the user may enqueue, and not look into lists. Its queue
// goes on, the job becomes a dead letter that says what is missing, and once that is
// given, it can be repaired.
func TestARepairWithoutItsRights(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	admin := client(t, r.Addr())
	proxy := redistest.NewProxy(t, r.Addr())
	dir := t.TempDir()
	cfg := queue.Config{Redis: newUser(t, admin, proxy.Addr(), "app", producerRights+" -lpush"), SpoolDir: dir, Target: "t", EnqueueTimeout: patience}
	p := newProducer(t, cfg)
	ids := enqueue(t, p, 1)
	acl(t, admin, "app", "+lpush")
	sent := scriptsSent(proxy)
	eventually(t, "it is tried again", func() bool { return scriptsSent(proxy) > sent+4 })
	if st := p.Stats(); st.Dead != 0 || st.Pending != 1 || st.State != queue.StatePartial {
		t.Errorf("alone: %+v", st)
	}
	ids = append(ids, enqueue(t, p, 3)...)
	eventually(t, "all is judged", func() bool { return p.Stats().Pending == 0 && p.Stats().State == queue.StateUp })
	if st := p.Stats(); st.Dead != 1 || st.Replayed != 3 || st.State != queue.StateUp {
		t.Errorf("%+v", st)
	}
	closeProducer(t, p)
	wantDead(t, dir, "Redis refuses it: ERR The user executing the script can't run this command")

	acl(t, admin, "app", "+lpos")
	retryDead(t, dir, "+lpos")
	drain(t, newProducer(t, cfg))
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}

// retryDead makes the one dead letter pending again. Its reason says what it says.
func retryDead(t *testing.T, dir, reason string) {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: dir, Target: "t", AdoptOnly: true})
	must(t, err)
	_, err = s.Adopt()
	must(t, err)
	letters, _, err := s.DeadLetters("", 10)
	if err != nil || len(letters) != 1 || !strings.Contains(letters[0].Reason, reason) {
		t.Fatalf("%+v, %v", letters, err)
	}
	_, err = s.RetryDead(letters[0].Position)
	must(t, err)
	must(t, s.Close())
}

// TestARepairOnCluster goes to the server that has the queue.
func TestARepairOnCluster(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{})
	admin := clusterClient(t, c)
	p := newProducer(t, queue.Config{Redis: asynq.RedisClusterClientOpt{Addrs: c.Addrs()}, SpoolDir: t.TempDir(), EnqueueTimeout: patience})
	for _, there := range []bool{true, false} {
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} { // on all servers
			key := "asynq:{" + name + "}:pending"
			if !there {
				must(t, admin.Del(t.Context(), key).Err())
				continue
			}
			must(t, admin.Set(t.Context(), key, "a string", 0).Err())
			_, err := p.Enqueue(asynq.NewTask("t", nil), asynq.Queue(name), asynq.Unique(time.Hour))
			must(t, err)
		}
	}
	drain(t, p)
	eventually(t, "the outages are over", func() bool { return p.Stats().State == queue.StateUp })
	if st := p.Stats(); st.Replayed != 6 {
		t.Errorf("%+v", st)
	}
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		if ids := pendingOf(t, admin, name); len(ids) != 1 {
			t.Errorf("%s: %q", name, ids)
		}
	}
}

// TestARetriedDeadLetterIsRepaired: all that the script left was left at replays.
func TestARetriedDeadLetterIsRepaired(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	admin := client(t, r.Addr())
	must(t, admin.Set(t.Context(), "asynq:{default}:g:g", "a string", 0).Err())
	dir := t.TempDir()
	cfg := queue.Config{Redis: server("127.0.0.1:1"), Target: "t", SpoolDir: dir}
	p := newProducer(t, cfg)
	info, err := p.Enqueue(asynq.NewTask("t", nil), asynq.Group("g"))
	must(t, err)
	closeProducer(t, p)
	cfg.Redis = server(r.Addr())
	p = newProducer(t, cfg)
	eventually(t, "it is given up", func() bool { return p.Stats().Dead == 1 })
	closeProducer(t, p)
	must(t, admin.Del(t.Context(), "asynq:{default}:g:g").Err())
	retryDead(t, dir, "WRONGTYPE")
	p = newProducer(t, cfg)
	drain(t, p)
	if st := p.Stats(); st.Replayed != 1 {
		t.Errorf("%+v", st)
	}
	wantOnce(t, admin.ZRange(t.Context(), "asynq:{default}:g:g", 0, -1).Val(), []string{info.ID})
}
