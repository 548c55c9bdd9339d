package queue_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool"
)

// poison is a job that will not do, and what becomes of it.
type poison struct {
	args   []string // of Redis
	task   *asynq.Task
	record *spool.Record // in place of a task
	set    string        // key that is made a string before the replay
	dead   string        // reason; empty: it is passed over
}

// TestPoisonInTheMiddle puts one bad job between a thousand good ones: the others do not
// wait, and it becomes a dead letter only if Redis or asynq refuses it.
func TestPoisonInTheMiddle(t *testing.T) {
	t.Parallel()
	large := asynq.NewTask("t", make([]byte, 2<<20))
	for name, bad := range map[string]poison{
		"too large, in words":   {args: []string{"--proto-max-bulk-len", "1mb"}, task: large, dead: "Redis refuses it: ERR Protocol error"},
		"too large, in silence": {args: []string{"--client-query-buffer-limit", "1mb"}, task: large},
		"its group is no group": {task: asynq.NewTask("t", nil, asynq.Group("g")), set: "asynq:{default}:g:g", dead: "Redis refuses it: WRONGTYPE"},
		"not a job":             {record: &spool.Record{ID: "x", Class: "default\x00t", At: time.Now(), Data: []byte("junk")}, dead: "cannot be decoded"},
		"not asynq's":           {record: &spool.Record{ID: "x", Class: "default\x00t", At: time.Now(), Data: []byte{10, 0, 18, 0}}, dead: "asynq refuses it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{AppendOnly: true, Args: bad.args})
			if bad.set != "" {
				must(t, client(t, r.Addr()).Set(t.Context(), bad.set, "x", 0).Err())
			}
			must(t, r.Kill())
			dir := t.TempDir()
			log, said := logger()
			cfg := queue.Config{Redis: server(r.Addr()), SpoolDir: dir, MaxTaskBytes: -1, Logger: log}
			ids := spoolAround(t, cfg, bad)
			p := newProducer(t, cfg)
			must(t, r.Restart())
			eventually(t, "the others are in Redis", func() bool {
				st := p.Stats()
				return st.Replayed+st.AlreadyThere == int64(len(ids)) && (st.Dead == 1 || bad.dead == "" && st.Deferred == 1)
			})
			wantOnce(t, pendingIDs(t, r.Addr()), ids)
			st := p.Stats()
			if (bad.dead != "") != (st.Dead == 1) || st.State != queue.StateUp {
				t.Errorf("%+v", st)
			}
			if text := strings.Join(said.all(), ""); bad.dead == "" && strings.Count(text, "passed over") != 1 {
				t.Error(text)
			}
			closeProducer(t, p)
			wantDead(t, dir, bad.dead)
		})
	}
}

// spoolAround spools a thousand good jobs with a bad one in the middle, and leaves them.
func spoolAround(t *testing.T, cfg queue.Config, bad poison) (ids []string) {
	t.Helper()
	add := func(tasks ...*asynq.Task) {
		t.Helper()
		p := newProducer(t, cfg)
		infos, err := p.EnqueueBatch(t.Context(), tasks)
		must(t, err)
		for i, info := range infos {
			if tasks[i] != bad.task {
				ids = append(ids, info.ID)
			}
		}
		closeProducer(t, p)
	}
	if bad.task != nil {
		add(slices.Concat(batchOf(500), []*asynq.Task{bad.task}, batchOf(500))...)
		return ids
	}
	add(batchOf(500)...)
	s, err := spool.Open(spool.Options{Dir: cfg.SpoolDir, Target: "redis://" + cfg.Redis.(asynq.RedisClientOpt).Addr + "/0"})
	must(t, err)
	must(t, s.Append(*bad.record))
	must(t, s.Close())
	add(batchOf(500)...)
	return ids
}

// wantDead looks for the one dead letter with a reason, or for none.
func wantDead(t *testing.T, dir, reason string) {
	t.Helper()
	owners, err := spool.Inspect(dir)
	must(t, err)
	n := 0
	for _, o := range owners {
		n += o.DeadLetters
	}
	if n != len(reason[:min(1, len(reason))]) {
		t.Errorf("%d dead letters", n)
	}
	if reason == "" {
		return
	}
	s, err := spool.Open(spool.Options{Dir: dir, Target: owners[0].Identity.Target, AdoptOnly: true})
	must(t, err)
	_, err = s.Adopt()
	must(t, err)
	letters, _, err := s.DeadLetters("", 10)
	if err != nil || len(letters) != 1 || !strings.HasPrefix(letters[0].Reason, reason) {
		t.Errorf("%+v, %v", letters, err)
	}
	must(t, s.Close())
}

// TestSilenceOfAllJobsIsAnOutage has a server that closes the connection upon every job and
// takes all other writes: that is an outage with few attempts, which no probe ends.
func TestSilenceOfAllJobsIsAnOutage(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{Args: []string{"--client-query-buffer-limit", "1mb"}})
	dir := t.TempDir()
	away := newProducer(t, queue.Config{Redis: server("127.0.0.1:1"), Target: "t", SpoolDir: dir, MaxTaskBytes: -1})
	for i := range 20 {
		_, err := away.Enqueue(asynq.NewTask("t", fmt.Appendf(nil, "%d%s", i, make([]byte, 2<<20))))
		must(t, err)
	}
	closeProducer(t, away)
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), Target: "t", SpoolDir: dir, MaxTaskBytes: -1})
	eventually(t, "an outage", func() bool { return p.Stats().State == queue.StateOutage })
	before := proxy.Requests("SET")
	time.Sleep(4 * time.Second)
	if tries := proxy.Requests("SET") - before; tries > 12 {
		t.Errorf("%d tries in 4 s", tries)
	}
	if st := p.Stats(); st.Pending != 20 || st.Dead != 0 {
		t.Errorf("%+v", st)
	}
}

// TestDeadlinePassedInTheSpool: such a job becomes a dead letter that says so, unless it is
// wanted all the same, or its deadline had passed when it was enqueued.
func TestDeadlinePassedInTheSpool(t *testing.T) {
	t.Parallel()
	for _, deliver := range []bool{false, true} {
		r := redistest.Run(t, redistest.Options{AppendOnly: true})
		must(t, r.Kill())
		dir := t.TempDir()
		p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Replay: queue.ReplayConfig{DeliverLate: deliver}})
		for _, d := range []time.Duration{-time.Hour, 2 * time.Second, time.Hour} {
			_, err := p.Enqueue(asynq.NewTask("t", nil), asynq.Deadline(time.Now().Add(d)))
			must(t, err)
		}
		time.Sleep(2100 * time.Millisecond)
		must(t, r.Restart())
		eventually(t, "all is judged", func() bool { return p.Stats().Pending == 0 })
		want := int64(2)
		if deliver {
			want = 3
		}
		if st := p.Stats(); st.Replayed != want || st.Dead != 3-want {
			t.Errorf("deliver %v: %+v", deliver, st)
		}
		closeProducer(t, p)
		if !deliver {
			wantDead(t, dir, "its deadline passed while it was spooled")
		}
	}
}
