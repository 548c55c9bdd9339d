package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(childDir) != "" {
		runChild()
		return
	}
	redis.SetLogger(silent{}) // go-redis's own words about each failed dial
	goleak.VerifyTestMain(m,
		// go-redis's prober of an address that is down looks once a second whether
		// its pool was closed.
		goleak.IgnoreTopFunction("time.Sleep"))
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// logger returns a quiet logger and what was said on it.
func logger() (*slog.Logger, *lines) {
	l := &lines{}
	return slog.New(slog.NewTextHandler(l, nil)), l
}

type lines struct {
	mu   sync.Mutex
	text []string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, string(b))
	return len(b), nil
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.text)
}

func newProducer(tb testing.TB, cfg queue.Config) *queue.Producer {
	tb.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.EnqueueTimeout == 0 { // for a machine on which half a second is not enough to reach a server that is well
		cfg.EnqueueTimeout = 2 * time.Second
	}
	p, err := queue.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeProducer(tb, p) })
	return p
}

// closeProducer closes it and checks the books.
func closeProducer(tb testing.TB, p *queue.Producer) {
	tb.Helper()
	if err := p.Close(); err != nil {
		tb.Errorf("close: %v", err)
	}
	st := p.Stats()
	if accepted, spooled := st.Imbalance(); accepted != 0 || spooled != 0 {
		tb.Errorf("the books are off by %d and %d: %+v", accepted, spooled, st)
	}
	dead := int64(0)
	for _, n := range st.DeadBy {
		dead += n
	}
	if dead != st.Dead {
		tb.Errorf("%d dead letters, with reasons %v", st.Dead, st.DeadBy)
	}
}

func server(addr string) asynq.RedisClientOpt { return asynq.RedisClientOpt{Addr: addr} }

// scriptsSent counts the scripts that were passed on to Redis.
func scriptsSent(p *redistest.Proxy) int { return p.Requests("EVALSHA") + p.Requests("EVAL") }

// enqueue enqueues n tasks, each with a payload of its own, and returns their ids.
func enqueue(tb testing.TB, p *queue.Producer, n int) []string {
	tb.Helper()
	ids := make([]string, 0, n)
	for i := range n {
		info, err := p.Enqueue(asynq.NewTask("test", fmt.Appendf(nil, "payload %d", i)))
		if err != nil {
			tb.Fatalf("enqueue %d: %v", i, err)
		}
		ids = append(ids, info.ID)
	}
	return ids
}

func drain(tb testing.TB, p *queue.Producer) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.Drain(ctx); err != nil {
		tb.Fatal(err)
	}
}

// eventually waits until the condition holds.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	within(tb, patience, what, holds)
}

// within is eventually with a patience of its own.
func within(tb testing.TB, d time.Duration, what string, holds func() bool) {
	tb.Helper()
	for end := time.Now().Add(d); !holds(); {
		if time.Now().After(end) {
			tb.Fatalf("not within %v: %s", d, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// pendingIDs returns the ids in a queue's pending list.
func pendingIDs(tb testing.TB, addr string) []string {
	tb.Helper()
	ids, err := client(tb, addr).LRange(context.Background(), "asynq:{default}:pending", 0, -1).Result()
	if err != nil {
		tb.Fatal(err)
	}
	return ids
}

func client(tb testing.TB, addr string) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// wantOnce fails unless got holds each wanted id exactly once and nothing else.
func wantOnce(tb testing.TB, got, want []string) {
	tb.Helper()
	count := map[string]int{}
	for _, id := range got {
		count[id]++
	}
	lost := 0
	for _, id := range want {
		switch count[id] {
		case 0:
			lost++
		case 1:
		default:
			tb.Errorf("%s is there %d times", id, count[id])
		}
		delete(count, id)
	}
	if lost > 0 || len(count) > 0 {
		tb.Errorf("%d of %d lost, %d unknown", lost, len(want), len(count))
	}
}

// worker is a plain asynq server that counts how often each task ran.
type worker struct {
	mu   sync.Mutex
	runs []string
	rdb  *redis.Client
}

func startWorker(tb testing.TB, r *redistest.Server) *worker {
	tb.Helper()
	w := workOn(tb, server(r.Addr()), "default")
	w.rdb = client(tb, r.Addr())
	return w
}

// workOn starts a worker on a queue of any Redis.
func workOn(tb testing.TB, opt asynq.RedisConnOpt, name string) *worker {
	tb.Helper()
	w := &worker{}
	srv := asynq.NewServer(opt, asynq.Config{
		Concurrency: 10, LogLevel: asynq.FatalLevel, TaskCheckInterval: 100 * time.Millisecond, Queues: map[string]int{name: 1},
	})
	err := srv.Start(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.runs = append(w.runs, id)
		return nil
	}))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(srv.Shutdown)
	return w
}

// counts returns how often each task ran.
func (w *worker) counts() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := make(map[string]int, len(w.runs))
	for _, id := range w.runs {
		n[id]++
	}
	return n
}

func (w *worker) ran() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.runs)
}

// idle waits until n tasks ran and none is in the worker's hands: what it holds
// when Redis dies asynq gives back only minutes later, and runs again.
func (w *worker) idle(tb testing.TB, n int) {
	tb.Helper()
	var active int64
	var err error
	defer func() {
		if tb.Failed() {
			tb.Logf("%d have run, %d are in the worker's hands, %v", len(w.ran()), active, err)
		}
	}()
	eventually(tb, fmt.Sprintf("%d tasks done", n), func() bool {
		active, err = w.rdb.LLen(context.Background(), "asynq:{default}:active").Result()
		return err == nil && active == 0 && len(w.ran()) >= n
	})
}

// isOrNil is errors.Is for a want that may be nil.
func isOrNil(err, want error) bool {
	if want == nil {
		return err == nil
	}
	return errors.Is(err, want)
}

// rest lets the sockets be idle for long enough that it is looked into them before they
// are used: else a dead one may be found only with a job on it, which is then in doubt.
func rest() { time.Sleep(10 * time.Millisecond) }
