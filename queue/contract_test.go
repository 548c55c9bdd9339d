package queue_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestTwins makes the same calls with Redis there and away, in one process and with a
// restart in between: the caller hears the same.
func TestTwins(t *testing.T) {
	t.Parallel()
	calls := []struct {
		name string
		opts []asynq.Option
		want error
	}{
		{"first with id", []asynq.Option{asynq.TaskID("a")}, nil},
		{"second with id", []asynq.Option{asynq.TaskID("a")}, asynq.ErrTaskIDConflict},
		{"same id, other queue", []asynq.Option{asynq.TaskID("a"), asynq.Queue("other")}, nil},
		{"first unique", []asynq.Option{asynq.Unique(time.Hour)}, nil},
		{"second unique", []asynq.Option{asynq.Unique(time.Hour)}, asynq.ErrDuplicateTask},
		{"second unique, scheduled", []asynq.Option{asynq.Unique(time.Hour), asynq.ProcessIn(time.Hour)}, asynq.ErrDuplicateTask},
		{"unique, other queue", []asynq.Option{asynq.Unique(time.Hour), asynq.Queue("other")}, nil},
		{"id and unique", []asynq.Option{asynq.TaskID("a"), asynq.Unique(time.Hour)}, asynq.ErrDuplicateTask},
		{"not unique", nil, nil},
		{"no queue", []asynq.Option{asynq.Queue(" ")}, errors.ErrUnsupported}, // any error
	}
	for _, state := range []string{"up", "outage", "restarted"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{})
			proxy := redistest.NewProxy(t, r.Addr())
			cfg := queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir()}
			p := newProducer(t, cfg)
			if state != "up" {
				proxy.Refuse()
				proxy.Cut()
			}
			accepted := 0
			for i, c := range calls {
				if i == 6 && state == "restarted" {
					closeProducer(t, p)
					p = newProducer(t, cfg)
				}
				_, err := p.Enqueue(asynq.NewTask("t", []byte("p")), c.opts...)
				switch {
				case errors.Is(c.want, errors.ErrUnsupported):
					if err == nil {
						t.Errorf("%s: no error", c.name)
					}
				case !isOrNil(err, c.want):
					t.Errorf("%s: %v, want %v", c.name, err, c.want)
				case err == nil:
					accepted++
				}
			}
			proxy.Accept()
			drain(t, p)
			st := p.Stats()
			if st.Superseded != 0 || st.Dead != 0 || st.Pending != 0 {
				t.Errorf("%+v", st)
			}
			keys, err := client(t, r.Addr()).Keys(t.Context(), "asynq:{*}:t:*").Result()
			if err != nil || len(keys) != accepted {
				t.Errorf("%d tasks in Redis, %d accepted: %v", len(keys), accepted, err)
			}
		})
	}
}

// TestTwinsOfWhatIsBeingReplayed asks for twins of the last job in the spool while those
// before it are on their way: new jobs go to Redis again, which does not know it yet.
func TestTwinsOfWhatIsBeingReplayed(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: patience})
	proxy.Refuse()
	enqueue(t, p, 1000)
	opts := []asynq.Option{asynq.TaskID("a"), asynq.Unique(time.Hour)}
	if _, err := p.Enqueue(asynq.NewTask("twin", nil), opts...); err != nil {
		t.Fatal(err)
	}
	proxy.Latency(300 * time.Millisecond)
	proxy.Accept()
	eventually(t, "Redis is back", func() bool { return p.Stats().State == queue.StateUp })
	_, uniqueErr := p.Enqueue(asynq.NewTask("twin", nil), opts[1])
	_, idErr := p.Enqueue(asynq.NewTask("another", nil), opts[0])
	if st := p.Stats(); st.Pending == 0 {
		t.Fatal("the replay was faster, with 300 ms for each of its batches")
	}
	if !errors.Is(uniqueErr, asynq.ErrDuplicateTask) || !errors.Is(idErr, asynq.ErrTaskIDConflict) {
		t.Errorf("%v, %v", uniqueErr, idErr)
	}
	drain(t, p)
	if st := p.Stats(); st.Superseded != 0 || st.Dead != 0 {
		t.Errorf("%+v", st)
	}
}

// TestOneOfManyTwins lets many callers enqueue the same unique task in an outage.
func TestOneOfManyTwins(t *testing.T) {
	t.Parallel()
	p := newProducer(t, queue.Config{Redis: server("127.0.0.1:1"), SpoolDir: t.TempDir()})
	var mu sync.Mutex
	var ok, refused int
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			_, err := p.Enqueue(asynq.NewTask("t", nil), asynq.Unique(time.Hour))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				ok++
			case errors.Is(err, asynq.ErrDuplicateTask):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if ok != 1 || refused != 99 {
		t.Errorf("%d accepted, %d refused", ok, refused)
	}
}

func TestReportTo(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: time.Second})
	report := func(opts ...asynq.Option) (queue.Where, error) {
		where := queue.Where(-1)
		_, err := p.Enqueue(asynq.NewTask("t", nil), append(opts, queue.ReportTo(&where))...)
		return where, err
	}
	if where, err := report(); where != queue.InRedis || err != nil {
		t.Errorf("up: %v, %v", where, err)
	}
	if where, err := report(asynq.Queue("")); where != queue.Nowhere || err == nil {
		t.Errorf("refused: %v, %v", where, err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	gone := queue.Where(-1)
	if _, err := p.EnqueueContext(done, asynq.NewTask("t", nil), queue.ReportTo(&gone)); gone != queue.Nowhere || !errors.Is(err, context.Canceled) {
		t.Errorf("ctx done: %v, %v", gone, err)
	}
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	if where, err := report(); where != queue.InDoubt || err != nil {
		t.Errorf("frozen: %v, %v", where, err)
	}
	if where, err := report(); where != queue.InSpool || err != nil {
		t.Errorf("in the outage: %v, %v", where, err)
	}
	var where queue.Where
	infos, err := p.EnqueueBatch(t.Context(), []*asynq.Task{asynq.NewTask("t", nil), asynq.NewTask("t", nil)}, queue.ReportTo(&where))
	if err != nil || len(infos) != 2 || where != queue.InSpool {
		t.Errorf("batch: %v, %v", where, err)
	}
}

func TestNoSpool(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: time.Second})
	if _, err := p.Enqueue(asynq.NewTask("t", nil), queue.NoSpool()); err != nil {
		t.Fatal(err)
	}
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	_, err := p.Enqueue(asynq.NewTask("t", nil), queue.NoSpool())
	if !errors.Is(err, queue.ErrUnavailable) || !errors.Is(err, queue.ErrMaybeEnqueued) {
		t.Errorf("frozen: %v", err)
	}
	_, err = p.Enqueue(asynq.NewTask("t", nil), queue.NoSpool())
	if !errors.Is(err, queue.ErrUnavailable) || errors.Is(err, queue.ErrMaybeEnqueued) || !strings.Contains(err.Error(), "outage since") {
		t.Errorf("in the outage: %v", err)
	}
	infos, err := p.EnqueueBatch(t.Context(), []*asynq.Task{asynq.NewTask("t", nil)}, queue.NoSpool())
	if !errors.Is(err, queue.ErrUnavailable) || len(infos) != 1 || infos[0] != nil {
		t.Errorf("batch: %v", err)
	}
	if st := p.Stats(); st.Spooled != 0 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}

func TestMaxSpoolAge(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var dead []queue.JobEvent
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), OnDead: func(e queue.JobEvent) {
		mu.Lock()
		defer mu.Unlock()
		dead = append(dead, e)
	}})
	late, err := p.Enqueue(asynq.NewTask("t", nil), queue.MaxSpoolAge(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := p.Enqueue(asynq.NewTask("t", nil), queue.MaxSpoolAge(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "replayed", func() bool { return p.Stats().Pending == 0 })
	wantOnce(t, pendingIDs(t, r.Addr()), []string{fresh.ID})
	mu.Lock()
	defer mu.Unlock()
	if len(dead) != 1 || dead[0].TaskID != late.ID || !strings.Contains(dead[0].Reason, "MaxSpoolAge") || dead[0].Outcome != "dead" {
		t.Errorf("dead letters: %+v", dead)
	}
	if _, err := p.Enqueue(asynq.NewTask("t", nil), queue.MaxSpoolAge(0)); err == nil {
		t.Error("MaxSpoolAge(0) is accepted")
	}
}

func TestOwnOptionsBelongToTheCall(t *testing.T) {
	t.Parallel()
	p := newProducer(t, queue.Config{Redis: server("127.0.0.1:1"), SpoolDir: t.TempDir()})
	var where queue.Where
	for _, opt := range []asynq.Option{queue.NoSpool(), queue.SpoolFirst(), queue.MaxSpoolAge(time.Hour), queue.ReportTo(&where)} {
		_, err := p.Enqueue(asynq.NewTask("t", nil, asynq.MaxRetry(3), opt))
		if err == nil || !strings.Contains(err.Error(), "NewTask") {
			t.Errorf("%s in NewTask: %v", opt, err)
		}
	}
	if st := p.Stats(); st.Spooled != 0 {
		t.Errorf("%+v", st)
	}
}

// TestTooLarge wants the same answer whether Redis is there or not.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{Args: []string{"--proto-max-bulk-len", "1mb"}})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	wide := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), MaxTaskBytes: -1})
	big := asynq.NewTask("t", make([]byte, queue.DefaultMaxTaskBytes))
	fits := asynq.NewTask("t", make([]byte, queue.DefaultMaxTaskBytes/2))
	check := func(state string) {
		for name, err := range map[string]error{
			"payload": second(p.Enqueue(big)),
			"headers": second(p.Enqueue(asynq.NewTaskWithHeaders("t", nil, map[string]string{"h": string(big.Payload())}))),
			"batch":   second(p.EnqueueBatch(context.Background(), []*asynq.Task{fits, big})),
		} {
			if !errors.Is(err, queue.ErrTooLarge) {
				t.Errorf("%s, %s: %v", state, name, err)
			}
		}
		if _, err := p.Enqueue(fits); err != nil {
			t.Errorf("%s: %v", state, err)
		}
	}
	check("up")
	// What passes our cap and not Redis's is the caller's, too, and no outage.
	if _, err := wide.Enqueue(asynq.NewTask("t", bytes.Repeat([]byte("x"), 2<<20))); !errors.Is(err, queue.ErrTooLarge) {
		t.Errorf("larger than Redis takes: %v", err)
	}
	if st := wide.Stats(); st.State != queue.StateUp || st.Spooled != 0 {
		t.Errorf("%+v", st)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	check("outage")
	if _, err := wide.Enqueue(asynq.NewTask("t", make([]byte, 20<<20))); err != nil {
		t.Errorf("MaxTaskBytes -1, 20 MiB in the outage: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestEnqueueBatch(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{EnqueueTimeout: 10 * time.Second, Redis: server(proxy.Addr()), SpoolDir: t.TempDir()})
	var ids []string
	for _, state := range []string{"up", "outage"} {
		tasks := []*asynq.Task{
			asynq.NewTask("t", nil),
			asynq.NewTask("t", nil, asynq.TaskID(state)),
			asynq.NewTask("t", nil, asynq.TaskID(state)), // a twin within the batch
			asynq.NewTask("", nil),                       // asynq refuses it
			nil,
			asynq.NewTask("u", []byte(state), asynq.Unique(time.Hour)),
			asynq.NewTask("u", []byte(state), asynq.Unique(time.Hour)),
			asynq.NewTask("t", nil, asynq.Queue("other")),
		}
		want := map[int]error{2: asynq.ErrTaskIDConflict, 3: nil, 4: nil, 6: asynq.ErrDuplicateTask}
		if state == "outage" {
			proxy.Refuse()
			proxy.Cut()
		}
		infos, err := p.EnqueueBatch(t.Context(), tasks, asynq.MaxRetry(7))
		var failed *queue.BatchError
		if !errors.As(err, &failed) || len(failed.Errs) != len(tasks) || len(infos) != len(tasks) {
			t.Fatalf("%s: %v", state, err)
		}
		if !strings.Contains(err.Error(), "4 of 8") {
			t.Errorf("%s: %v", state, err)
		}
		for i, e := range failed.Errs {
			kind, bad := want[i]
			if bad != (e != nil) || bad != (infos[i] == nil) || (kind != nil && !errors.Is(e, kind)) {
				t.Errorf("%s, task %d: %v, %v", state, i, infos[i], e)
			}
			if infos[i] != nil && infos[i].MaxRetry != 7 {
				t.Errorf("%s, task %d: the call's options are lost", state, i)
			}
			if infos[i] != nil && infos[i].Queue == "default" {
				ids = append(ids, infos[i].ID)
			}
		}
	}
	if st := p.Stats(); st.Sent != 4 || st.Spooled != 4 {
		t.Errorf("%+v", st)
	}
	proxy.Accept()
	drain(t, p)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	if infos, err := p.EnqueueBatch(t.Context(), nil); len(infos) != 0 || err != nil {
		t.Errorf("no tasks: %v, %v", infos, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if infos, err := p.EnqueueBatch(ctx, make([]*asynq.Task, 3)); infos != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("done ctx: %v, %v", infos, err)
	}
}

// TestLargeBatch is one pipeline when Redis is there, and when the connection breaks in the
// middle of the replies, what was answered is sent and the rest in doubt.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: 5 * time.Second})
	tasks := make([]*asynq.Task, 6000)
	for i := range tasks {
		tasks[i] = asynq.NewTask("t", nil)
	}
	first, err := p.EnqueueBatch(t.Context(), tasks)
	if err != nil {
		t.Fatal(err)
	}
	proxy.CutAfterReplies(500, redistest.CutFIN)
	more, err := p.EnqueueBatch(t.Context(), tasks)
	if err != nil {
		t.Fatal(err)
	}
	st := p.Stats()
	if st.Sent < 6000 || st.InDoubt == 0 || st.Sent+st.Spooled != 12000 {
		t.Errorf("%+v", st)
	}
	drain(t, p)
	var ids []string
	for _, info := range slices.Concat(first, more) {
		ids = append(ids, info.ID)
	}
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}
