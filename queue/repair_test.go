package queue_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// repairRights are what a repair takes beside the rights of a producer.
const repairRights = producerRights + " +lpos +zscore +zrange"

// sixKinds are the options of the six kinds of task, one for each of asynq's scripts.
func sixKinds() map[string][]asynq.Option {
	unique := asynq.Unique(10 * time.Minute)
	return map[string][]asynq.Option{
		"pending": nil, "pending unique": {unique},
		"scheduled": {asynq.ProcessIn(time.Hour)}, "scheduled unique": {asynq.ProcessIn(time.Hour), unique},
		"group": {asynq.Group("g")}, "group unique": {asynq.Group("g"), unique},
	}
}

// scriptFault makes asynq's scripts fail inside, those of some kinds: a command that is denied,
// or keys of the queue that are strings.
type scriptFault struct {
	deny  string
	wrong []string
	kinds func(kind string) bool // that it concerns
}

func scriptFaults() map[string]scriptFault {
	in := func(part string) func(string) bool {
		return func(kind string) bool { return strings.Contains(kind, part) }
	}
	all := in("")
	return map[string]scriptFault{
		"lpush": {deny: "lpush", kinds: in("pending")},
		"zadd":  {deny: "zadd", kinds: func(kind string) bool { return !strings.Contains(kind, "pending") }},
		"sadd":  {deny: "sadd", kinds: in("group")},
		"hset":  {deny: "hset", kinds: all}, "exists": {deny: "exists", kinds: all}, "set": {deny: "set", kinds: in("unique")},
		"no list":          {wrong: []string{"pending", "scheduled"}, kinds: func(kind string) bool { return !strings.Contains(kind, "group") }},
		"no set of groups": {wrong: []string{"groups"}, kinds: in("group")},
	}
}

// halfDone is a Producer with one job of each kind in a queue of its own, all of which met
// a fault.
type halfDone struct {
	scriptFault
	name  string
	admin *redis.Client
	p     *queue.Producer
	ids   map[string]string // by kind
	hit   int               // how many of them the fault concerns
}

func (h *halfDone) queue(kind string) string { return h.name + " " + kind }

// set makes the fault, or takes it away.
func (h *halfDone) set(t *testing.T, there bool) {
	t.Helper()
	if h.deny != "" {
		acl(t, h.admin, h.name, map[bool]string{true: "-", false: "+"}[there]+h.deny)
	}
	for kind := range sixKinds() {
		for _, key := range h.wrong {
			key = "asynq:{" + h.queue(kind) + "}:" + key
			if there {
				must(t, h.admin.Set(t.Context(), key, "a string", 0).Err())
			} else {
				must(t, h.admin.Del(t.Context(), key).Err())
			}
		}
	}
}

// acl gives a user rights, or takes them.
func acl(t *testing.T, admin redis.UniversalClient, user string, rules ...any) {
	t.Helper()
	must(t, admin.Do(t.Context(), append([]any{"ACL", "SETUSER", user}, rules...)...).Err())
}

// newUser makes a user of the rights given, and returns how a Producer becomes it.
func newUser(t *testing.T, admin redis.UniversalClient, addr, name, rights string) asynq.RedisClientOpt {
	t.Helper()
	rules := []any{"on", ">secret"}
	for _, rule := range strings.Fields(rights) {
		rules = append(rules, rule)
	}
	acl(t, admin, name, rules...)
	return asynq.RedisClientOpt{Addr: addr, Username: name, Password: "secret"}
}

// TestHalfATaskIsRepaired makes each of asynq's six scripts fail at each of its commands, at
// the first attempt or at a replay, and then takes the fault away: in Redis is what plain
// asynq would have written, each job once.
func TestHalfATaskIsRepaired(t *testing.T) {
	t.Parallel()
	ours, theirs := redistest.Run(t, redistest.Options{}), redistest.Run(t, redistest.Options{})
	admin, direct := client(t, ours.Addr()), client(t, theirs.Addr())
	plain := asynq.NewClientFromRedisClient(direct)
	var all []*halfDone
	for name, f := range scriptFaults() {
		for _, live := range []bool{true, false} {
			h := &halfDone{scriptFault: f, name: fmt.Sprintf("%s-%v", strings.ReplaceAll(name, " ", "-"), live), admin: admin, ids: map[string]string{}}
			h.meet(t, newUser(t, admin, ours.Addr(), h.name, repairRights), live)
			for kind, opts := range sixKinds() {
				_, err := plain.Enqueue(asynq.NewTask("t", []byte(kind)), append(opts, asynq.Queue(h.queue(kind)), asynq.TaskID(h.ids[kind]))...)
				must(t, err)
			}
			all = append(all, h)
		}
	}
	for _, h := range all {
		eventually(t, h.name+" is met", func() bool { return len(h.p.Stats().Queues) == h.hit })
	}
	for _, h := range all {
		h.set(t, false)
	}
	for _, h := range all {
		drain(t, h.p)
		eventually(t, h.name+" is over", func() bool { return h.p.Stats().State == queue.StateUp })
		if st := h.p.Stats(); st.Replayed != st.Spooled+st.Adopted {
			t.Errorf("%s: %+v", h.name, st)
		}
		for kind, id := range h.ids {
			wantSame(t, h.queue(kind), snap(t, admin, h.queue(kind), id), snap(t, direct, h.queue(kind), id))
			wantSameQueue(t, h.queue(kind), admin, direct)
		}
	}
}

// meet enqueues the jobs while the fault is there, or before that for a replay.
func (h *halfDone) meet(t *testing.T, redis asynq.RedisClientOpt, live bool) {
	t.Helper()
	cfg := queue.Config{Redis: redis, SpoolDir: t.TempDir(), Target: "t", EnqueueTimeout: patience}
	if live {
		h.set(t, true)
		h.p = newProducer(t, cfg)
	} else {
		away := cfg
		away.Redis = server("127.0.0.1:1")
		h.p = newProducer(t, away)
	}
	for kind, opts := range sixKinds() {
		var where queue.Where
		info, err := h.p.Enqueue(asynq.NewTask("t", []byte(kind)), append(opts, asynq.Queue(h.queue(kind)), queue.ReportTo(&where))...)
		must(t, err)
		h.ids[kind] = info.ID
		if h.kinds(kind) {
			h.hit++
		}
		if live && h.kinds(kind) != (where == queue.InDoubt) {
			t.Errorf("%s, %s: %v", h.name, kind, where)
		}
	}
	if !live {
		closeProducer(t, h.p)
		h.set(t, true)
		h.p = newProducer(t, cfg)
	}
}

// wantSameQueue compares the keys that two servers have of a queue, and what is in lists
// and sets but for their scores.
func wantSameQueue(t *testing.T, name string, a, b *redis.Client) {
	t.Helper()
	got, want := membersOf(t, a, name), membersOf(t, b, name)
	if !maps.Equal(got, want) {
		t.Errorf("%s: keys %q, want %q", name, got, want)
	}
}

// membersOf returns the members by key.
func membersOf(t *testing.T, rdb *redis.Client, name string) map[string]string {
	t.Helper()
	ctx := t.Context()
	keys, err := rdb.Keys(ctx, "asynq:{"+name+"}:*").Result()
	must(t, err)
	members := map[string]string{}
	for _, key := range keys {
		if strings.HasSuffix(key, ":spool:probe") {
			continue
		}
		var in []string
		switch kind := rdb.Type(ctx, key).Val(); kind {
		case "list":
			in = rdb.LRange(ctx, key, 0, -1).Val()
		case "zset":
			in = rdb.ZRange(ctx, key, 0, -1).Val()
		case "set":
			in = rdb.SMembers(ctx, key).Val()
		default:
			in = []string{kind}
		}
		slices.Sort(in)
		members[key] = strings.Join(in, " ")
	}
	return members
}

// TestManyRepairs has more to repair than a batch does, and first of all what cannot be
// repaired: the others do not wait for it.
func TestManyRepairs(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	admin := client(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: newUser(t, admin, r.Addr(), "app", repairRights+" -lpush"), SpoolDir: t.TempDir(), EnqueueTimeout: patience})
	must(t, admin.Set(t.Context(), "asynq:{default}:scheduled", "a string", 0).Err())
	const bad, good = 6, 100
	tasks := batchOf(bad + good)
	for i := range bad {
		tasks[i] = asynq.NewTask("t", nil, asynq.ProcessIn(time.Hour))
	}
	infos, err := p.EnqueueBatch(t.Context(), tasks)
	must(t, err)
	acl(t, admin, "app", "+lpush")
	ids := idsOf(infos)
	eventually(t, "the good ones are there", func() bool { return p.Stats().Replayed == good })
	wantOnce(t, pendingIDs(t, r.Addr()), ids[bad:])
	must(t, admin.Del(t.Context(), "asynq:{default}:scheduled").Err())
	eventually(t, "all is judged", func() bool { return p.Stats().Pending == 0 && p.Stats().State == queue.StateUp })
	// Redis took others at some of their tries, so some may have been given up.
	st := p.Stats()
	if n := admin.ZCard(t.Context(), "asynq:{default}:scheduled").Val(); n != st.Replayed-good || n+st.Dead != bad || st.State != queue.StateUp {
		t.Errorf("%d scheduled: %+v", n, st)
	}
}

func idsOf(infos []*asynq.TaskInfo) (ids []string) {
	for _, info := range infos {
		ids = append(ids, info.ID)
	}
	return ids
}

// TestTheReplyToARepairIsLost: the next replay finds the task whole.
func TestTheReplyToARepairIsLost(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	lost := map[*interrupted]<-chan struct{}{}
	for kind, opts := range sixKinds() {
		h := newInterrupted(t, r, strings.ReplaceAll(kind, " ", "-"), opts)
		lost[h] = h.proxy.CutAfterReplies(1, redistest.CutFIN) // that of asynq's script comes first
		h.resume(t)
	}
	for h, lost := range lost {
		drain(t, h.p)
		await(t, lost)
		if st := h.p.Stats(); st.AlreadyThere != 1 || st.Replayed != 0 {
			t.Errorf("%s: %+v", h.name, st)
		}
		if got := snap(t, h.admin, h.name, h.id); len(got.lists) != 1 {
			t.Errorf("%s: %+v", h.name, got)
		}
		if ids := pendingOf(t, h.admin, h.name); len(ids) > 1 {
			t.Errorf("%s: %d times in the list", h.name, len(ids))
		}
	}
}

// TestARepairEnqueuesNothingTwice: what is half done as far as the Producer knows is whole
// by the time it is replayed, and a worker may have taken it.
func TestARepairEnqueuesNothingTwice(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	for name, c := range map[string]struct {
		opts  []asynq.Option
		state asynq.TaskState // that the worker brings it to
		fail  error           // of the handler
	}{
		"pending":     {state: asynq.TaskStatePending},
		"scheduled":   {state: asynq.TaskStateScheduled, opts: []asynq.Option{asynq.ProcessIn(time.Hour)}},
		"aggregating": {state: asynq.TaskStateAggregating, opts: []asynq.Option{asynq.Group("g")}},
		"active":      {state: asynq.TaskStateActive},
		"completed":   {state: asynq.TaskStateCompleted, opts: []asynq.Option{asynq.Retention(time.Hour)}},
		"unique":      {state: asynq.TaskStateCompleted, opts: []asynq.Option{asynq.Retention(time.Hour), asynq.Unique(time.Hour)}},
		"retry":       {state: asynq.TaskStateRetry, fail: context.Canceled},
		"archived":    {state: asynq.TaskStateArchived, fail: asynq.SkipRetry},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newInterrupted(t, r, name, c.opts)
			h.complete(t)
			w := h.work(t, c.state, c.fail)
			h.resume(t)
			drain(t, h.p)
			if st := h.p.Stats(); st.AlreadyThere != 1 || st.Replayed != 0 {
				t.Errorf("%+v", st)
			}
			info, err := asynq.NewInspector(server(r.Addr())).GetTaskInfo(name, h.id)
			if err != nil || info.State != c.state {
				t.Errorf("%+v, %v", info, err)
			}
			w.release()
			if ids := pendingOf(t, h.admin, name); c.state != asynq.TaskStatePending && len(ids) > 0 {
				t.Errorf("%q is pending", ids)
			}
			if n := w.runs(); n > 1 {
				t.Errorf("it ran %d times", n)
			}
		})
	}
}

// TestARepairSeesWhatIsBeingAggregated: such a task is in no list of its state, but in a set
// that asynq makes for the one aggregation.
func TestARepairSeesWhatIsBeingAggregated(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	h := newInterrupted(t, r, "g", []asynq.Option{asynq.Group("g")})
	h.complete(t)
	began, done := make(chan struct{}), make(chan struct{})
	srv := asynq.NewServer(server(r.Addr()), asynq.Config{
		Queues: map[string]int{"g": 1}, LogLevel: asynq.FatalLevel, GroupGracePeriod: time.Second,
		GroupAggregator: asynq.GroupAggregatorFunc(func(string, []*asynq.Task) *asynq.Task {
			began <- struct{}{}
			<-done
			return asynq.NewTask("t", []byte("all"))
		}),
	})
	must(t, srv.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil })))
	t.Cleanup(srv.Shutdown)
	await(t, began)
	h.resume(t)
	drain(t, h.p)
	n := h.admin.ZCard(t.Context(), "asynq:{g}:g:g").Val() + h.admin.SCard(t.Context(), "asynq:{g}:groups").Val()
	close(done)
	if st := h.p.Stats(); n != 0 || st.AlreadyThere != 1 {
		t.Errorf("aggregated again: %+v", st)
	}
}
