package queue_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestALostReplyIsNoConflict loses the reply to a job that Redis has taken, in each way
// in which a connection can break, for each kind of job.
func TestALostReplyIsNoConflict(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	kinds := map[string][]asynq.Option{
		"plain":             nil,
		"unique":            {asynq.Unique(time.Hour)},
		"own id":            {asynq.TaskID("own")},
		"own id and unique": {asynq.TaskID("both"), asynq.Unique(time.Hour)},
		"scheduled unique":  {asynq.ProcessIn(time.Hour), asynq.Unique(time.Hour)},
		"group":             {asynq.Group("g")},
	}
	cuts := map[string]redistest.CutMode{
		"FIN": redistest.CutFIN, "RST": redistest.CutRST, "half a reply": redistest.CutHalf, "hang": redistest.CutHang,
	}
	plain := asynq.NewClient(server(r.Addr()))
	for _, opts := range kinds { // Redis learns the scripts
		if _, err := plain.Enqueue(asynq.NewTask("t", nil), opts...); err != nil {
			t.Fatal(err)
		}
		if err := client(t, r.Addr()).FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := plain.Close(); err != nil {
		t.Fatal(err)
	}
	for kind, opts := range kinds {
		for how, cut := range cuts {
			t.Run(kind+"/"+how, func(t *testing.T) {
				if err := client(t, r.Addr()).FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				proxy := redistest.NewProxy(t, r.Addr())
				p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: time.Second})
				enqueue(t, p, 1) // the script is known, the connection warm
				sent := scriptsSent(proxy)
				lost := proxy.CutAfterReplies(0, cut)
				var where queue.Where
				info, err := p.Enqueue(asynq.NewTask("t", []byte("p")), append(slices.Clone(opts), queue.ReportTo(&where))...)
				if err != nil || where != queue.InDoubt {
					t.Fatalf("%v, %v", err, where)
				}
				<-lost
				if n := scriptsSent(proxy) - sent; n != 1 {
					t.Errorf("the script was sent %d times", n)
				}
				drain(t, p)
				if st := p.Stats(); st.AlreadyThere != 1 || st.Replayed != 0 || st.InDoubt != 1 || st.State != queue.StateUp {
					t.Errorf("%+v", st)
				}
				if _, err := asynq.NewInspector(server(r.Addr())).GetTaskInfo("default", info.ID); err != nil {
					t.Error(err)
				}
				keys, err := client(t, r.Addr()).Keys(t.Context(), "asynq:{default}:t:*").Result()
				if err != nil || len(keys) != 2 {
					t.Errorf("%d tasks in Redis, want 2: %v", len(keys), err)
				}
			})
		}
	}
}

// TestRepliesLostInAPipeline cuts the connection after k of n replies, for
// all k, under enough callers that their commands are coalesced.
func TestRepliesLostInAPipeline(t *testing.T) {
	t.Parallel()
	const callers = 64
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir()})
	var mu sync.Mutex
	var ids []string
	crowd := func() {
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				info, err := p.Enqueue(asynq.NewTask("t", nil))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ids = append(ids, info.ID)
			})
		}
		wg.Wait()
	}
	crowd()
	for k := range 2 * callers {
		proxy.CutAfterReplies(k, []redistest.CutMode{redistest.CutFIN, redistest.CutRST, redistest.CutHalf}[k%3])
		crowd()
		if k%8 == 7 {
			eventually(t, "Redis is tried again", func() bool { return p.Stats().State == queue.StateUp })
		}
	}
	drain(t, p)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	if st := p.Stats(); st.AlreadyThere == 0 || st.Sent == 0 {
		t.Errorf("nothing was lost on the way: %+v", st)
	}
}

// TestDedupeWindow lets a worker finish a job whose reply was lost before it is replayed.
// Without the window Redis has forgotten it by then, and it runs twice.
func TestDedupeWindow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		window time.Duration
		opts   []asynq.Option
		runs   int
	}{
		{0, nil, 2},
		{0, []asynq.Option{asynq.Retention(time.Hour)}, 1},
		{time.Minute, nil, 1},
		{time.Minute, []asynq.Option{asynq.Unique(time.Hour)}, 1},
		{time.Minute, []asynq.Option{asynq.Retention(time.Second)}, 1}, // a floor
		{time.Minute, []asynq.Option{asynq.TaskID("mine")}, 2},         // minted ids only
	} {
		t.Run(fmt.Sprint(c.window, c.opts), func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{})
			proxy := redistest.NewProxy(t, r.Addr())
			p := newProducer(t, queue.Config{
				Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), DedupeWindow: c.window, EnqueueTimeout: time.Second,
			})
			if err := p.Ping(); err != nil {
				t.Fatal(err)
			}
			lost := proxy.CutAfterReplies(0, redistest.CutFIN)
			info, err := p.Enqueue(asynq.NewTask("t", []byte("p")), c.opts...)
			if err != nil {
				t.Fatal(err)
			}
			<-lost
			proxy.Refuse() // the replay waits for the worker
			w := startWorker(t, r)
			w.idle(t, 1)
			proxy.Accept()
			drain(t, p)
			w.idle(t, c.runs)
			time.Sleep(300 * time.Millisecond) // a second run would begin by now
			if got := w.ran(); len(got) != c.runs || got[0] != info.ID {
				t.Errorf("%d runs, want %d", len(got), c.runs)
			}
			if len(c.opts) == 1 && c.opts[0].Type() == asynq.UniqueOpt {
				// The lock that the replay took again is not left behind.
				if _, err := p.Enqueue(asynq.NewTask("t", []byte("p")), c.opts...); err != nil {
					t.Errorf("the next unique job: %v", err)
				}
			}
		})
	}
}

// TestALockIsNotLeftBehind enqueues a unique task under an id that another task has.
// asynq's script takes the lock before it sees that.
func TestALockIsNotLeftBehind(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	mine, other := asynq.NewTask("t", []byte("mine")), asynq.NewTask("t", []byte("other"))
	unique := asynq.Unique(time.Hour)
	steps := []struct {
		task *asynq.Task
		opts []asynq.Option
		want error
	}{
		{other, []asynq.Option{asynq.TaskID("x")}, nil},
		{mine, []asynq.Option{asynq.TaskID("x"), unique}, asynq.ErrTaskIDConflict},
		{mine, []asynq.Option{unique}, nil},                    // legitimate
		{mine, []asynq.Option{unique}, asynq.ErrDuplicateTask}, // and its own lock holds
	}
	for i, s := range steps {
		if _, err := p.Enqueue(s.task, s.opts...); !isOrNil(err, s.want) {
			t.Errorf("step %d: %v, want %v", i, err, s.want)
		}
	}
	infos, err := p.EnqueueBatch(context.Background(), []*asynq.Task{asynq.NewTask("t", []byte("third"))}, asynq.TaskID("x"), unique)
	if infos[0] != nil || !isOrNil(err, asynq.ErrTaskIDConflict) {
		t.Errorf("in a batch: %v", err)
	}
	if _, err := p.Enqueue(asynq.NewTask("t", []byte("third")), unique); err != nil {
		t.Error(err)
	}
}
