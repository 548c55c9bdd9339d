package queue_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// interrupted is a Producer that has left half a task in Redis and does not reach it now.
type interrupted struct {
	r     *redistest.Server
	admin *redis.Client
	proxy *redistest.Proxy
	p     *queue.Producer
	name  string // of the user and the queue
	id    string
}

func newInterrupted(t *testing.T, r *redistest.Server, name string, opts []asynq.Option) *interrupted {
	t.Helper()
	h := &interrupted{r: r, admin: client(t, r.Addr()), proxy: redistest.NewProxy(t, r.Addr()), name: name}
	h.p = newProducer(t, queue.Config{
		Redis: newUser(t, h.admin, h.proxy.Addr(), name, repairRights+" -lpush -zadd"), SpoolDir: t.TempDir(), EnqueueTimeout: patience,
	})
	var where queue.Where
	info, err := h.p.Enqueue(asynq.NewTask("t", []byte("p")), append(opts, asynq.Queue(name), queue.ReportTo(&where))...)
	if err != nil || where != queue.InDoubt {
		t.Fatalf("%v, %v", where, err)
	}
	h.proxy.Refuse()
	h.proxy.Cut()
	h.id = info.ID
	return h
}

// complete does the rest of asynq's script, as a repair would whose reply is lost.
func (h *interrupted) complete(t *testing.T) {
	t.Helper()
	ctx, prefix := t.Context(), "asynq:{"+h.name+"}:"
	now := float64(time.Now().Unix())
	switch state := h.admin.HGet(ctx, prefix+"t:"+h.id, "state").Val(); state {
	case "pending":
		must(t, h.admin.LPush(ctx, prefix+"pending", h.id).Err())
	case "scheduled":
		must(t, h.admin.ZAdd(ctx, prefix+"scheduled", redis.Z{Score: now + 3600, Member: h.id}).Err())
	case "aggregating":
		must(t, h.admin.ZAdd(ctx, prefix+"g:g", redis.Z{Score: now, Member: h.id}).Err())
		must(t, h.admin.SAdd(ctx, prefix+"groups", "g").Err())
	default:
		t.Fatalf("state %q", state)
	}
	must(t, h.admin.SAdd(ctx, "asynq:queues", h.name).Err())
}

// resume lets the Producer work again.
func (h *interrupted) resume(t *testing.T) {
	t.Helper()
	acl(t, h.admin, h.name, "+lpush", "+zadd")
	h.proxy.Accept()
}

// queueWorker is a plain asynq server of one queue.
type queueWorker struct {
	mu   sync.Mutex
	n    int
	free chan struct{}
	once sync.Once
}

func (w *queueWorker) release() { w.once.Do(func() { close(w.free) }) }

func (w *queueWorker) runs() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

// work has a worker bring the task to a state, if it takes one for that.
func (h *interrupted) work(t *testing.T, state asynq.TaskState, fail error) *queueWorker {
	t.Helper()
	w := &queueWorker{free: make(chan struct{})}
	switch state { //nolint:exhaustive // in the others no worker has it
	case asynq.TaskStatePending, asynq.TaskStateScheduled, asynq.TaskStateAggregating:
		return w
	}
	srv := asynq.NewServer(server(h.r.Addr()), asynq.Config{
		Queues: map[string]int{h.name: 1}, LogLevel: asynq.FatalLevel, TaskCheckInterval: 50 * time.Millisecond,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	})
	must(t, srv.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		w.mu.Lock()
		w.n++
		w.mu.Unlock()
		if state == asynq.TaskStateActive {
			<-w.free
		}
		return fail
	})))
	t.Cleanup(srv.Shutdown)
	t.Cleanup(w.release)
	inspector := asynq.NewInspector(server(h.r.Addr()))
	eventually(t, "the worker has it", func() bool {
		info, err := inspector.GetTaskInfo(h.name, h.id)
		return err == nil && info.State == state
	})
	return w
}

// await waits for something that is told by a channel.
func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("it does not happen")
	}
}
