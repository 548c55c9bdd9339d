package queue_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// cutReplay is a replay whose connection is cut after some replies of its second batch.
type cutReplay struct {
	name  string // of the queue
	after int    // replies of cutBatch
	how   redistest.CutMode
	proxy *redistest.Proxy
	p     *queue.Producer
	ids   []string
}

// cutBatch is the size of a replay's second batch. Its first is one record.
const cutBatch = 16

// TestRepliesLostInAReplay cuts the connection after k of the n replies to a batch, for all
// k, with jobs of all kinds: each is in Redis once. Those that were answered are settled
// from their answer and not sent again, although go-redis puts the error on them, too.
func TestRepliesLostInAReplay(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	admin := client(t, r.Addr())
	learnScripts(t, admin)
	all := []*cutReplay{{name: "hang", after: 7, how: redistest.CutHang}}
	for k := range cutBatch + 1 {
		how := []redistest.CutMode{redistest.CutFIN, redistest.CutHalf, redistest.CutRST}[k%3]
		all = append(all, &cutReplay{name: fmt.Sprintf("after-%d", k), after: k, how: how})
	}
	for _, c := range all {
		c.begin(t, r)
	}
	for _, c := range all {
		eventually(t, c.name+" is replayed", func() bool { return c.p.Stats().Pending == 0 })
		c.check(t, admin)
	}
}

// learnScripts makes Redis know asynq's scripts: EVALSHA is all that is sent for each job.
func learnScripts(t *testing.T, admin *redis.Client) {
	t.Helper()
	plain := asynq.NewClientFromRedisClient(admin)
	for kind, opts := range sixKinds() {
		_, err := plain.Enqueue(asynq.NewTask("t", []byte(kind)), opts...)
		must(t, err)
	}
	must(t, admin.FlushAll(t.Context()).Err())
}

// begin spools the jobs and has a Producer replay them.
func (c *cutReplay) begin(t *testing.T, r *redistest.Server) {
	t.Helper()
	dir := t.TempDir()
	away := newProducer(t, queue.Config{Redis: server("127.0.0.1:1"), Target: "t", SpoolDir: dir})
	kinds := sixKinds()
	names := slices.Sorted(maps.Keys(kinds))
	var tasks []*asynq.Task
	for i := range cutBatch + 1 {
		opts := append(kinds[names[i%len(names)]], asynq.Queue(c.name))
		if i%2 == 1 {
			opts = append(opts, asynq.TaskID(fmt.Sprintf("own-%d", i)))
		}
		// Two headers or more are encoded in any order.
		tasks = append(tasks, asynq.NewTaskWithHeaders("t", fmt.Append(nil, i), map[string]string{"a": "1", "b": "2", "c": "3"}, opts...))
	}
	infos, err := away.EnqueueBatch(t.Context(), tasks)
	must(t, err)
	c.ids = idsOf(infos)
	closeProducer(t, away)
	c.proxy = redistest.NewProxy(t, r.Addr())
	c.proxy.CutAfterReplies(1+c.after, c.how)
	c.p = newProducer(t, queue.Config{Redis: server(c.proxy.Addr()), Target: "t", SpoolDir: dir})
}

func (c *cutReplay) check(t *testing.T, admin *redis.Client) {
	t.Helper()
	var there []string
	prefix := "asynq:{" + c.name + "}:"
	there = append(there, pendingOf(t, admin, c.name)...)
	for _, set := range []string{"scheduled", "g:g"} {
		there = append(there, admin.ZRange(t.Context(), prefix+set, 0, -1).Val()...)
	}
	wantOnce(t, there, c.ids)
	st := c.p.Stats()
	answered, unanswered := int64(1+c.after), int64(cutBatch-c.after)
	sent := int64(scriptsSent(c.proxy))
	// A reset may drop requests on their way: those are news to Redis the second time.
	exact := c.how != redistest.CutRST
	if st.Replayed < answered || exact && st.Replayed > answered || st.Replayed+st.AlreadyThere != cutBatch+1 || st.Outages != 0 {
		t.Errorf("%s: %+v", c.name, st)
	}
	if want := answered + 2*unanswered; sent > want || exact && sent < want {
		t.Errorf("%s: %d sent, want %d", c.name, sent, want)
	}
}

// TestAJobReplayedTwice loses the reply to a replayed job, so that it is replayed again: what
// Redis has made of the first copy by then decides.
func TestAJobReplayedTwice(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	admin := client(t, r.Addr())
	learnScripts(t, admin)
	plain := asynq.NewClientFromRedisClient(admin)
	own, unique, kept := asynq.TaskID("own"), asynq.Unique(time.Hour), asynq.Retention(time.Hour)
	headers := map[string]string{"a": "1", "b": "2", "c": "3"}
	cases := map[string]struct {
		opts   []asynq.Option
		work   bool           // a worker completes the first copy
		forget bool           // it is completed and forgotten
		other  *asynq.Task    // then enqueued by another producer,
		with   []asynq.Option // with these
		want   string
	}{
		"plain":             {want: "already there"},
		"unique":            {opts: []asynq.Option{unique}, want: "already there"},
		"own":               {opts: []asynq.Option{own}, want: "already there"},
		"own-unique":        {opts: []asynq.Option{own, unique}, want: "already there"},
		"completed":         {opts: []asynq.Option{kept}, work: true, want: "already there"},
		"completed-own":     {opts: []asynq.Option{own, kept}, work: true, want: "already there"},
		"completed-unique":  {opts: []asynq.Option{unique, kept}, work: true, want: "already there"},
		"taken":             {opts: []asynq.Option{own}, forget: true, other: asynq.NewTask("t", []byte("q")), with: []asynq.Option{own}, want: "dead: its task id is taken by another task"},
		"taken-by-the-same": {opts: []asynq.Option{own}, forget: true, other: asynq.NewTask("t", []byte("p")), with: []asynq.Option{own}, want: "already there"},
		"superseded":        {opts: []asynq.Option{unique}, forget: true, other: asynq.NewTask("t", []byte("p")), with: []asynq.Option{unique}, want: "superseded"},
		"again":             {forget: true, want: "delivered"}, // Redis cannot know
	}
	rec := &outcomes{}
	begun, before := map[string]*interrupted{}, map[string]string{}
	for name, c := range cases {
		task := asynq.NewTaskWithHeaders("t", []byte("p"), headers, append(c.opts, asynq.Queue(name))...)
		begun[name] = newUnanswered(t, r, name, task, rec)
	}
	for name, c := range cases {
		h := begun[name]
		if c.work {
			h.work(t, asynq.TaskStateCompleted, nil)
		}
		if c.forget {
			h.forget(t)
		}
		if c.other != nil {
			_, err := plain.Enqueue(c.other, append(c.with, asynq.Queue(name))...)
			must(t, err)
		}
		before[name] = contents(t, admin, name)
		h.proxy.Accept()
	}
	for name, c := range cases {
		h := begun[name]
		eventually(t, name+" is judged", func() bool { return h.p.Stats().Pending == 0 })
		closeProducer(t, h.p) // which waits for the callback
		if got := rec.of(name); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if after := contents(t, admin, name); c.want != "delivered" && after != before[name] {
			t.Errorf("%s: %q, before %q", name, after, before[name])
		}
	}
}

// newUnanswered returns a Producer that has replayed a job, got no answer, and does not
// reach Redis now.
func newUnanswered(t *testing.T, r *redistest.Server, name string, task *asynq.Task, rec *outcomes) *interrupted {
	t.Helper()
	h := &interrupted{r: r, admin: client(t, r.Addr()), proxy: redistest.NewProxy(t, r.Addr()), name: name}
	dir := t.TempDir()
	away := newProducer(t, queue.Config{Redis: server("127.0.0.1:1"), Target: "t", SpoolDir: dir})
	info, err := away.Enqueue(task)
	must(t, err)
	closeProducer(t, away)
	h.id = info.ID
	lost := h.proxy.CutAfterReplies(0, redistest.CutHang) // it would be tried again at once after any other
	h.p = newProducer(t, queue.Config{Redis: server(h.proxy.Addr()), Target: "t", SpoolDir: dir, OnReplayed: rec.add, OnDead: rec.add})
	await(t, lost)
	h.proxy.Refuse()
	h.proxy.Cut()
	must(t, h.admin.SAdd(t.Context(), "asynq:queues", name).Err()) // asynq's tools want it
	return h
}

// forget does to a task what a worker's success does, where there is no retention.
func (h *interrupted) forget(t *testing.T) {
	t.Helper()
	ctx, prefix := t.Context(), "asynq:{"+h.name+"}:"
	if lock := h.admin.HGet(ctx, prefix+"t:"+h.id, "unique_key").Val(); lock != "" {
		must(t, h.admin.Del(ctx, lock).Err())
	}
	must(t, h.admin.Del(ctx, prefix+"t:"+h.id, prefix+"pending").Err())
}
