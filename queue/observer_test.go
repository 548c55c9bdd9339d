package queue_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// witness is an Observer that remembers, and adds headers.
type witness struct {
	enqueue, replay map[string]string // headers to add

	mu    sync.Mutex
	seen  []*sighting
	wrong []string
}

// sighting is one operation.
type sighting struct {
	queue.Operation // as it was at its end

	before *sighting // of the context that Begin got
	err    error
	ended  bool
}

type sightingKey struct{}

func (w *witness) Begin(ctx context.Context, op *queue.Operation) context.Context {
	s := &sighting{Operation: *op}
	s.before, _ = ctx.Value(sightingKey{}).(*sighting)
	headers := map[queue.OperationKind]map[string]string{queue.OpEnqueue: w.enqueue, queue.OpReplay: w.replay, queue.OpSpool: {"never": "seen"}}
	err := op.SetHeaders(headers[op.Kind])
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen = append(w.seen, s); err != nil {
		w.wrong = append(w.wrong, err.Error())
	}
	return context.WithValue(ctx, sightingKey{}, s)
}

func (w *witness) End(ctx context.Context, op *queue.Operation, err error) {
	s, _ := ctx.Value(sightingKey{}).(*sighting)
	w.mu.Lock()
	defer w.mu.Unlock()
	if s == nil || s.ended || s.Kind != op.Kind {
		w.wrong = append(w.wrong, fmt.Sprintf("an end without a beginning: %+v", op))
		return
	}
	s.Operation, s.err, s.ended = *op, err, true
}

// of returns the operations of a kind in the order of their beginnings.
func (w *witness) of(kind queue.OperationKind) (found []*sighting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seen {
		if s.Kind == kind {
			found = append(found, s)
		}
	}
	return found
}

// only returns the one operation of a kind.
func (w *witness) only(tb testing.TB, kind queue.OperationKind) *sighting {
	tb.Helper()
	all := w.of(kind)
	if len(all) != 1 {
		tb.Fatalf("%d operations of kind %v", len(all), kind)
	}
	return all[0]
}

// observed returns a Producer with a witness, all of whose operations must have ended, once,
// when it is closed.
func observed(tb testing.TB, cfg queue.Config) (*queue.Producer, *witness) {
	tb.Helper()
	w := &witness{enqueue: map[string]string{"trace": "1", "state": "2"}, replay: map[string]string{"late": "yes", "mine": "replaced"}}
	cfg.Observer = w
	if cfg.SpoolDir == "" {
		cfg.SpoolDir = tb.TempDir()
	}
	tb.Cleanup(func() { // after the Close
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, s := range w.seen {
			if !s.ended {
				tb.Errorf("never ended: %+v", s.Operation)
			}
		}
		if len(w.wrong) > 0 {
			tb.Errorf("%q", w.wrong)
		}
	})
	return newProducer(tb, cfg), w
}

func headersOf(tb testing.TB, addr, id string) map[string]string {
	tb.Helper()
	i := asynq.NewInspector(server(addr))
	defer i.Close()
	info, err := i.GetTaskInfo("default", id)
	must(tb, err)
	return info.Headers
}

func wantHeaders(tb testing.TB, what string, got map[string]string, want ...string) {
	tb.Helper()
	m := map[string]string{}
	for i := 0; i < len(want); i += 2 {
		m[want[i]] = want[i+1]
	}
	if !maps.Equal(got, m) {
		tb.Errorf("%s: headers %v, want %v", what, got, m)
	}
}

func TestObserverOfALiveJob(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p, w := observed(t, queue.Config{Redis: server(r.Addr())})
	before := time.Now()
	task := asynq.NewTaskWithHeaders("t", []byte("p"), map[string]string{"mine": "m"})
	info, err := p.Enqueue(task)
	must(t, err)
	wantHeaders(t, "in Redis", headersOf(t, r.Addr(), info.ID), "mine", "m", "trace", "1", "state", "2")
	wantHeaders(t, "in the TaskInfo", info.Headers, "mine", "m", "trace", "1", "state", "2")
	wantHeaders(t, "in the caller's task", task.Headers(), "mine", "m")
	s := w.only(t, queue.OpEnqueue)
	if s.err != nil || s.TaskID != info.ID || s.Queue != "default" || s.Type != "t" || s.Tasks != 1 || s.Where != queue.InRedis ||
		s.InDoubt || s.Start.Before(before) || !s.At.Equal(s.Start) || len(w.seen) != 1 {
		t.Errorf("%+v, %v", s.Operation, s.err)
	}
}

// TestObserverLeavesTheCallersHeaders: one name that is there already, and none is added.
func TestObserverLeavesTheCallersHeaders(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p, _ := observed(t, queue.Config{Redis: server(r.Addr())})
	info, err := p.Enqueue(asynq.NewTaskWithHeaders("t", nil, map[string]string{"trace": "caller's"}))
	must(t, err)
	wantHeaders(t, "in Redis", headersOf(t, r.Addr(), info.ID), "trace", "caller's")
}

// TestObserverOfAnOutage follows a job with a unique lock through the spool.
func TestObserverOfAnOutage(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	p, w := observed(t, queue.Config{Redis: server(r.Addr())})
	task := asynq.NewTaskWithHeaders("t", []byte("p"), map[string]string{"mine": "m"})
	info, err := p.Enqueue(task, asynq.Unique(time.Hour))
	must(t, err)
	if _, err := p.Enqueue(task, asynq.Unique(time.Hour)); !errors.Is(err, asynq.ErrDuplicateTask) {
		t.Errorf("a twin: %v", err)
	}
	must(t, r.Restart())
	drain(t, p)
	wantHeaders(t, "in Redis", headersOf(t, r.Addr(), info.ID), "mine", "replaced", "trace", "1", "state", "2", "late", "yes")
	both := w.of(queue.OpEnqueue)
	e, s := both[0], w.only(t, queue.OpSpool)
	if e.Where != queue.InSpool || e.err != nil || s.Where != queue.InSpool || s.before != e || s.TaskID != info.ID || s.Tasks != 1 {
		t.Errorf("%+v, %+v", e, s)
	}
	if twin := both[1]; !errors.Is(twin.err, asynq.ErrDuplicateTask) || twin.Where != queue.Nowhere {
		t.Errorf("%+v", twin)
	}
	all := w.of(queue.OpReplay)
	last := all[len(all)-1]
	if last.err != nil || last.Outcome != "delivered" || last.TaskID != info.ID || last.Spooled <= 0 || !last.At.Equal(e.At) ||
		last.Headers["trace"] != "1" || last.before != nil {
		t.Errorf("%+v", last)
	}
	for _, s := range all[:len(all)-1] { // tries
		if s.err == nil || s.Outcome != "" {
			t.Errorf("%+v", s)
		}
	}
}

func TestObserverOfABatch(t *testing.T) {
	t.Parallel()
	for _, down := range []bool{false, true} {
		t.Run(fmt.Sprintf("down %v", down), func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{})
			if down {
				must(t, r.Kill())
			}
			p, w := observed(t, queue.Config{Redis: server(r.Addr())})
			tasks := []*asynq.Task{
				asynq.NewTask("a", nil), asynq.NewTaskWithHeaders("b", nil, map[string]string{"state": "s"}), nil,
				asynq.NewTaskWithHeaders("c", nil, map[string]string{"mine": "m"}),
			}
			infos, err := p.EnqueueBatch(t.Context(), tasks)
			e, failed := w.only(t, queue.OpEnqueue), (*queue.BatchError)(nil)
			if !errors.As(err, &failed) || !errors.Is(e.err, failed) || e.Tasks != 4 || e.Queue != "default" || e.Type != "" || e.TaskID != "" {
				t.Fatalf("%v, %+v", err, e)
			}
			want := queue.InRedis
			if down {
				want = queue.InSpool
				if s := w.only(t, queue.OpSpool); s.before != e || s.Tasks != 3 || s.Where != want || s.Queue != "default" || s.err != nil {
					t.Errorf("%+v", s)
				}
				must(t, r.Restart())
				drain(t, p)
			}
			if e.Where != want {
				t.Errorf("%v, want %v", e.Where, want)
			}
			for i, want := range [][]string{{"trace", "1", "state", "2"}, {"state", "s"}, nil, {"mine", "m", "trace", "1", "state", "2"}} {
				if infos[i] == nil {
					continue
				}
				wantHeaders(t, "in the TaskInfo", infos[i].Headers, want...)
				got := headersOf(t, r.Addr(), infos[i].ID)
				if down {
					if got["late"] != "yes" || got["mine"] != "replaced" {
						t.Errorf("task %d: %v", i, got)
					}
					want = append(want, "late", "yes", "mine", "replaced")
				}
				wantHeaders(t, fmt.Sprintf("task %d", i), got, want...)
			}
			wantHeaders(t, "in the caller's task", tasks[1].Headers(), "state", "s")
		})
	}
}

// TestObserverOfWhatIsRefused: every call has its operation, whatever becomes of it.
func TestObserverOfWhatIsRefused(t *testing.T) {
	t.Parallel()
	p, w := observed(t, queue.Config{Redis: server(away), MaxTaskBytes: 10})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls := []func() error{
		func() error { _, err := p.Enqueue(nil); return err },
		func() error { _, err := p.Enqueue(asynq.NewTask("big", make([]byte, 10))); return err },
		func() error { _, err := p.EnqueueContext(ctx, asynq.NewTask("done", nil)); return err },
		func() error { _, err := p.EnqueueBatch(ctx, batchOf(2)); return err },
		func() error { _, err := p.Enqueue(asynq.NewTask("nospool", nil), queue.NoSpool()); return err },
		func() error {
			must(t, p.Close())
			_, err := p.Enqueue(asynq.NewTask("closed", nil))
			return err
		},
	}
	for i, call := range calls {
		err := call()
		all := w.of(queue.OpEnqueue)
		if len(all) != i+1 || err == nil || all[i].err == nil || all[i].err.Error() != err.Error() || all[i].Where != queue.Nowhere {
			t.Fatalf("call %d: %v, %d operations, last %+v", i, err, len(all), all[len(all)-1])
		}
	}
	types := []string{}
	for _, s := range w.of(queue.OpEnqueue) {
		types = append(types, s.Type)
	}
	if want := []string{"", "big", "done", "", "nospool", "closed"}; !slices.Equal(types, want) {
		t.Errorf("%q", types)
	}
}

// TestObserverOfDeadLetters has one that is never sent, and one that Redis refuses.
func TestObserverOfDeadLetters(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, client(t, r.Addr()).HSet(t.Context(), "asynq:{default}:t:taken", "msg", "junk").Err())
	p, w := observed(t, queue.Config{Redis: server(r.Addr())})
	must(t, r.Freeze())
	_, err := p.Enqueue(asynq.NewTask("old", nil), queue.MaxSpoolAge(time.Millisecond))
	must(t, err)
	_, err = p.Enqueue(asynq.NewTask("taken", nil, asynq.TaskID("taken")))
	must(t, err)
	must(t, r.Thaw())
	eventually(t, "both are dead letters", func() bool { return p.Stats().Dead == 2 })
	must(t, p.Close())
	reasons := map[string]string{}
	for _, s := range w.of(queue.OpReplay) {
		if s.Outcome != "" {
			reasons[s.Type] = s.Outcome + ": " + s.Reason
		}
		if s.Headers["trace"] != "1" {
			t.Errorf("%+v", s)
		}
	}
	if len(reasons) != 2 || !strings.Contains(reasons["old"], "dead: waited longer") || !strings.Contains(reasons["taken"], "dead: its task id is taken") {
		t.Errorf("%q", reasons)
	}
}

// TestObserverOfALostReply: a job in doubt was there already.
func TestObserverOfALostReply(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p, w := observed(t, queue.Config{Redis: server(proxy.Addr())})
	enqueue(t, p, 1)
	lost := proxy.CutAfterReplies(0, redistest.CutFIN)
	enqueue(t, p, 1)
	<-lost
	drain(t, p)
	must(t, p.Close())
	all := w.of(queue.OpReplay)
	e, s := w.of(queue.OpEnqueue)[1], w.only(t, queue.OpSpool)
	last := all[len(all)-1]
	if e.Where != queue.InDoubt || !e.InDoubt || s.Where != queue.InDoubt || !s.InDoubt || last.Outcome != "already there" || !last.InDoubt {
		t.Errorf("%+v, %+v, %+v", e, s, last)
	}
}

// TestObserverOfAProducerThatIsClosed: what is under way has an end, too.
func TestObserverOfAProducerThatIsClosed(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	p, w := observed(t, queue.Config{Redis: server(r.Addr())})
	enqueue(t, p, 600)
	must(t, r.Restart())
	must(t, r.Freeze())
	eventually(t, "a try", func() bool { return len(w.of(queue.OpReplay)) > 0 })
	must(t, p.Close())
	must(t, r.Thaw())
}

// TestObserverWithAScheduler sees its ticks.
func TestObserverWithAScheduler(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p, w := observed(t, queue.Config{Redis: server(r.Addr())})
	tick := startTicker(t, p.SchedulerClient(), asynq.NewTask("tick", nil))
	eventually(t, "a tick", func() bool { return tick.ticks.Load() > 0 })
	tick.stop()
	s := w.of(queue.OpEnqueue)[0]
	wantHeaders(t, "in Redis", headersOf(t, r.Addr(), s.TaskID), "trace", "1", "state", "2")
	if s.Type != "tick" || s.Where != queue.InRedis {
		t.Errorf("%+v", s)
	}
}

// TestObserversHeadersOutliveALoss: they are in the journal.
func TestObserversHeadersOutliveALoss(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p, w := observed(t, queue.Config{Redis: server(r.Addr()), Guard: time.Minute})
	id := enqueue(t, p, 1)[0]
	eventually(t, "a marker", p.Covered)
	more := enqueue(t, p, 1)[0]
	eventually(t, "a marker of both", p.Covered)
	must(t, client(t, r.Addr()).FlushAll(t.Context()).Err())
	eventually(t, "sent again", func() bool { return p.Stats().Replayed == 2 })
	for _, id := range []string{id, more} {
		wantHeaders(t, "in Redis", headersOf(t, r.Addr(), id), "trace", "1", "state", "2", "late", "yes", "mine", "replaced")
	}
	if s := w.of(queue.OpSpool); len(s) == 0 || s[0].before != nil || s[0].Where != queue.InDoubt {
		t.Errorf("%+v", s)
	}
}

// TestOneTaskFromManyGoroutinesWithAnObserver has one that an Observer adds headers to: under the race detector.
func TestOneTaskFromManyGoroutinesWithAnObserver(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p, w := observed(t, queue.Config{Redis: server(r.Addr())})
	task := asynq.NewTaskWithHeaders("t", nil, map[string]string{"mine": "m"}, asynq.MaxRetry(1))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				if _, err := p.Enqueue(task, asynq.Timeout(time.Minute)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	ids := []string{}
	for _, s := range w.of(queue.OpEnqueue) {
		ids = append(ids, s.TaskID)
	}
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	wantHeaders(t, "in the caller's task", task.Headers(), "mine", "m")
}

// troublemaker is an Observer that panics.
type troublemaker struct{ begin, end bool }

func (o troublemaker) Begin(_ context.Context, op *queue.Operation) context.Context {
	_ = op.SetHeaders(map[string]string{"from": "a panic"})
	if o.begin {
		panic("in Begin")
	}
	return nil
}

func (o troublemaker) End(ctx context.Context, _ *queue.Operation, _ error) {
	if ctx == nil {
		panic("no context")
	}
	if o.end {
		panic("in End")
	}
}

func TestAnObserverThatPanics(t *testing.T) {
	t.Parallel()
	for _, o := range []troublemaker{{begin: true, end: true}, {end: true}} {
		r := redistest.Run(t, redistest.Options{})
		log, lines := logger()
		p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), Observer: o, Logger: log})
		enqueue(t, p, 1)
		must(t, r.Kill())
		_, err := p.EnqueueBatch(t.Context(), batchOf(3))
		must(t, err)
		enqueue(t, p, 1)
		if _, err := p.Enqueue(nil); err == nil {
			t.Error("nil was enqueued")
		}
		must(t, r.Restart())
		drain(t, p)
		must(t, p.Close())
		if st := p.Stats(); st.Accepted != 5 || st.Replayed != 4 {
			t.Errorf("%+v", st)
		}
		text, want := strings.Join(lines.all(), ""), "in End"
		if o.begin {
			want = "in Begin"
		}
		// 4 calls, 2 commits, 4 replays at least
		if n := strings.Count(text, "Config.Observer panicked\" err=\""+want); n < 10 || strings.Count(text, "Observer panicked") != n {
			t.Errorf("%d of %q: %s", n, want, text)
		}
	}
}

func TestSetHeadersRefuses(t *testing.T) {
	var op queue.Operation
	for _, h := range []map[string]string{
		{"k": "\xff"}, {"\xff": "v"}, {"k": strings.Repeat("v", queue.MaxObserverBytes)},
	} {
		if op.SetHeaders(h) == nil {
			t.Errorf("took %.20q", h)
		}
	}
	if err := op.SetHeaders(map[string]string{"k": strings.Repeat("v", queue.MaxObserverBytes-1)}); err != nil {
		t.Error(err)
	}
}

// TestObserversHeadersOnALargeTask: they do not count for the size of the task, and the spool
// takes both at their most.
func TestObserversHeadersOnALargeTask(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	p, w := observed(t, queue.Config{Redis: server(r.Addr())})
	w.enqueue = map[string]string{"k": strings.Repeat("v", queue.MaxObserverBytes-1)}
	info, err := p.Enqueue(asynq.NewTask("t", make([]byte, queue.DefaultMaxTaskBytes-1)))
	must(t, err)
	must(t, r.Restart())
	drain(t, p)
	if n := len(headersOf(t, r.Addr(), info.ID)["k"]); n != queue.MaxObserverBytes-1 {
		t.Errorf("%d bytes", n)
	}
}
