package queuetest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/queuetest"
	"github.com/jobspool/jobspool/queue/redistest"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// producer is what a Producer and its fake have in common.
type producer interface {
	queue.Enqueuer
	EnqueueBatch(ctx context.Context, tasks []*asynq.Task, opts ...asynq.Option) ([]*asynq.TaskInfo, error)
	Ping() error
	Close() error
}

var (
	_ producer = (*queue.Producer)(nil)
	_ producer = (*queuetest.Fake)(nil)
)

// subject is a producer in one state, and how to change that.
type subject struct {
	producer
	outage func(on bool)
}

// answer is what a caller sees of a call.
type answer struct {
	infos []*asynq.TaskInfo
	where queue.Where
	err   error
}

func (s subject) enqueue(ctx context.Context, task *asynq.Task, opts ...asynq.Option) (a answer) {
	a.where = queue.InDoubt // to be overwritten
	info, err := s.EnqueueContext(ctx, task, append(opts, queue.ReportTo(&a.where))...)
	a.infos, a.err = []*asynq.TaskInfo{info}, err
	return a
}

func (s subject) batch(ctx context.Context, tasks []*asynq.Task, opts ...asynq.Option) (a answer) {
	a.where = queue.InDoubt
	a.infos, a.err = s.EnqueueBatch(ctx, tasks, append(opts, queue.ReportTo(&a.where))...)
	return a
}

// TestTheFakeAnswersAsAProducerDoes has both answer the same calls.
func TestTheFakeAnswersAsAProducerDoes(t *testing.T) {
	redis.SetLogger(silent{})
	for name, real := range map[string]func(*testing.T) subject{"up": up, "down": down} {
		t.Run(name, func(t *testing.T) {
			fake := newFake(t)
			fake.outage(name == "down")
			compare(t, calls(t.Context(), real(t)), calls(t.Context(), fake))
		})
	}
	t.Run("in an outage and after it", func(t *testing.T) {
		compare(t, changes(t.Context(), up(t)), changes(t.Context(), newFake(t)))
	})
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func newFake(t *testing.T) subject {
	t.Helper()
	f := queuetest.New(t)
	return subject{f, f.SetOutage}
}

func newProducer(t *testing.T, addr string) *queue.Producer {
	t.Helper()
	p, err := queue.New(queue.Config{
		Redis: asynq.RedisClientOpt{Addr: addr}, SpoolDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// down returns a Producer without a Redis.
func down(t *testing.T) subject {
	t.Helper()
	return subject{newProducer(t, "127.0.0.1:1"), nil}
}

// up returns a Producer with a Redis that can be frozen.
func up(t *testing.T) subject {
	t.Helper()
	server := redistest.Run(t, redistest.Options{})
	p := newProducer(t, server.Addr())
	return subject{p, func(on bool) {
		if on {
			if err := server.Freeze(); err != nil {
				t.Fatal(err)
			}
			trip(t, p)
			return
		}
		if err := server.Thaw(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := p.Drain(ctx); err != nil {
			t.Fatal(err)
		}
	}}
}

// trip enqueues until the Producer has noticed the outage.
func trip(t *testing.T, p *queue.Producer) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		var where queue.Where
		if _, err := p.Enqueue(asynq.NewTask("trip", nil), asynq.Queue("trip"), queue.ReportTo(&where)); err != nil {
			t.Fatal(err)
		}
		if where == queue.InSpool {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no outage within %v", patience)
		}
	}
}

// calls are what can be asked in any state.
func calls(ctx context.Context, s subject) (all []answer) {
	call := func(task *asynq.Task, opts ...asynq.Option) {
		all = append(all, s.enqueue(ctx, task, opts...))
	}
	task := func(opts ...asynq.Option) *asynq.Task { return asynq.NewTask("t", []byte("p"), opts...) }
	hour, day := asynq.ProcessIn(time.Hour), time.Now().Add(24*time.Hour)

	call(task())
	call(asynq.NewTask("t", nil))
	call(asynq.NewTaskWithHeaders("t", []byte{}, map[string]string{"a": "1", "b": ""}), asynq.Queue("other"))
	call(task(asynq.MaxRetry(-1), asynq.Timeout(1500*time.Millisecond), asynq.Retention(time.Hour)))
	call(task(asynq.Deadline(day)), asynq.MaxRetry(0), asynq.Queue("Mixed Case"))
	call(task(), asynq.ProcessAt(day))
	call(task(), asynq.ProcessAt(time.Unix(1, 0)))
	call(task(), asynq.Group("g"))
	call(task(), asynq.Group("g"), hour)

	// Complaints.
	call(nil)
	call(asynq.NewTask(" ", nil))
	call(task(), asynq.Queue(""))
	call(task(), asynq.TaskID(" "))
	call(task(), asynq.Group(" "))
	call(task(), asynq.Unique(time.Millisecond))
	call(task(queue.NoSpool()))
	call(task(), queue.MaxSpoolAge(time.Microsecond))
	call(asynq.NewTask("t", make([]byte, queue.DefaultMaxTaskBytes)))

	// The largest there is.
	call(asynq.NewTask("t", make([]byte, queue.DefaultMaxTaskBytes-1)))

	// Twins.
	id, unique := asynq.TaskID("id"), asynq.Unique(time.Hour)
	call(task(), id)
	call(task(), id)
	call(asynq.NewTask("another", nil), id)
	call(task(), id, asynq.Queue("other"))
	call(task(), unique)
	call(task(), unique)
	call(task(), unique, asynq.Queue("other"))
	call(task(), unique, hour)
	call(task(), unique, hour, asynq.Group("g"))
	call(asynq.NewTask("nothing", nil), unique)
	call(asynq.NewTask("nothing", []byte{}), unique)
	call(asynq.NewTask("t", []byte("p2")), unique, id)
	call(asynq.NewTask("t", []byte("p2")), unique)
	call(task(), unique, id)

	// Options of ours.
	call(task(), queue.NoSpool())
	call(task(), queue.NoSpool(), id)
	call(task(), queue.MaxSpoolAge(time.Hour))

	// Batches.
	tasks := []*asynq.Task{task(), task(asynq.TaskID("b")), nil, task(id), task(asynq.TaskID("b")), task(unique), task(queue.NoSpool())}
	all = append(all, s.batch(ctx, tasks), s.batch(ctx, tasks, queue.NoSpool()), s.batch(ctx, tasks[:1]), s.batch(ctx, nil),
		s.batch(ctx, tasks, queue.MaxSpoolAge(0)), answer{err: s.Ping()})

	done, cancel := context.WithCancel(ctx)
	cancel()
	all = append(all, s.enqueue(done, task()), s.batch(done, tasks))
	all = append(all, answer{err: s.Close()}, answer{err: s.Close()}, answer{err: s.Ping()})
	return append(all, s.enqueue(ctx, nil), s.enqueue(done, task()), s.batch(ctx, tasks))
}

// changes are what twins are told while Redis goes and comes.
func changes(ctx context.Context, s subject) (all []answer) {
	task := asynq.NewTask("t", []byte("p"))
	call := func(opts ...asynq.Option) {
		all = append(all, s.enqueue(ctx, task, opts...))
	}
	same := func(name string) {
		call(asynq.TaskID(name))
		call(asynq.Queue(name), asynq.Unique(time.Hour))
	}
	same("before")
	s.outage(true)
	same("before")
	same("before")
	same("during")
	same("during")
	call(asynq.TaskID("own"), asynq.Queue("before"), asynq.Unique(time.Hour)) // its lock is in Redis and in the spool
	call(queue.NoSpool())
	call(asynq.TaskID("during"), queue.NoSpool())
	s.outage(false)
	same("before")
	same("during")
	same("after")
	call(asynq.TaskID("own"), asynq.Queue("before"))
	s.outage(true)
	same("during")
	same("after")
	return all
}

// compare reports where the fake answers otherwise than the real one.
func compare(t *testing.T, real, fake []answer) {
	t.Helper()
	if len(real) != len(fake) {
		t.Fatalf("%d answers, %d of the fake", len(real), len(fake))
	}
	for i, want := range real {
		got := fake[i]
		if got.where != want.where || !sameErrors(got.err, want.err) || !sameInfos(got.infos, want.infos) {
			t.Errorf("answer %d of the Producer: %v\n\tof the fake: %v", i, want, got)
		}
	}
}

func (a answer) String() string {
	s := fmt.Sprintf("%v, err %v", a.where, a.err)
	for _, info := range a.infos {
		if info != nil && len(info.Payload) < 100 {
			s += fmt.Sprintf("\n\t\t%+v", *info)
		}
	}
	return s
}

// sentinels are what a caller tells errors apart by.
var sentinels = []error{
	asynq.ErrDuplicateTask, asynq.ErrTaskIDConflict, queue.ErrClosed, queue.ErrTooLarge, queue.ErrUnavailable, queue.ErrFull,
	queue.ErrMaybeEnqueued, queue.ErrMaybeStored, queue.ErrIncompatible, queue.ErrDrainOnly, context.Canceled,
}

// outside are errors whose text tells what is wrong with Redis.
func outside(err error) bool {
	return errors.Is(err, queue.ErrUnavailable) || bytes.HasPrefix([]byte(err.Error()), []byte("queue: ping: "))
}

func sameErrors(a, b error) bool {
	if (a == nil) != (b == nil) || a == nil {
		return a == nil && b == nil
	}
	batchA, batchB := (*queue.BatchError)(nil), (*queue.BatchError)(nil)
	if errors.As(a, &batchA) && errors.As(b, &batchB) && len(batchA.Errs) == len(batchB.Errs) {
		for i := range batchA.Errs {
			if !sameErrors(batchA.Errs[i], batchB.Errs[i]) {
				return false
			}
		}
		return true
	}
	for _, s := range sentinels {
		if errors.Is(a, s) != errors.Is(b, s) {
			return false
		}
	}
	return a.Error() == b.Error() || outside(a) && outside(b)
}

func sameInfos(a, b []*asynq.TaskInfo) bool {
	if len(a) != len(b) || (a == nil) != (b == nil) {
		return false
	}
	for i := range a {
		if !sameInfo(a[i], b[i]) {
			return false
		}
	}
	return true
}

// sameInfo compares all but ids that asynq mints and times that depend on now.
func sameInfo(a, b *asynq.TaskInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	minted := len(a.ID) == 36 && len(b.ID) == 36
	return (a.ID == b.ID || minted) && a.Queue == b.Queue && a.Type == b.Type && a.State == b.State &&
		bytes.Equal(a.Payload, b.Payload) && (a.Payload == nil) == (b.Payload == nil) && maps.Equal(a.Headers, b.Headers) &&
		a.MaxRetry == b.MaxRetry && a.Timeout == b.Timeout && a.Retention == b.Retention && a.Group == b.Group &&
		a.Deadline.IsZero() == b.Deadline.IsZero() && a.NextProcessAt.IsZero() == b.NextProcessAt.IsZero()
}
