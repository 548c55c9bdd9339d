package queuetest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/goleak"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/queuetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// go-redis's prober of an address that is down looks once a second whether
		// its pool was closed.
		goleak.IgnoreTopFunction("time.Sleep"))
}

func enqueue(tb testing.TB, q queue.Enqueuer, opts ...asynq.Option) error {
	tb.Helper()
	_, err := q.Enqueue(asynq.NewTask("t", []byte("p")), opts...)
	return err
}

func TestAJobTellsWhatItsTaskWas(t *testing.T) {
	f := queuetest.New(t)
	at := time.Now().Add(time.Hour)
	task := asynq.NewTaskWithHeaders("type", []byte("p"), map[string]string{"h": "v"}, asynq.MaxRetry(3))
	info, err := f.Enqueue(task, asynq.Queue("q"), asynq.Timeout(time.Minute), asynq.Deadline(at), asynq.Retention(time.Hour),
		asynq.Group("g"), asynq.ProcessAt(at), asynq.Unique(time.Minute), queue.NoSpool(), queue.MaxSpoolAge(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	j := f.Jobs()[0]
	if j.ID != info.ID || j.Queue != "q" || j.Type != "type" || string(j.Payload) != "p" || j.Headers["h"] != "v" || j.MaxRetry != 3 ||
		j.Timeout != time.Minute || j.Deadline.Unix() != at.Unix() || j.Retention != time.Hour || j.Group != "g" || !j.ProcessAt.Equal(at) ||
		!j.Unique || j.LockUntil.Before(at) || !j.NoSpool || j.MaxSpoolAge != time.Hour || j.Where != queue.InRedis {
		t.Errorf("%+v", j)
	}
	if got := j.Task(); got.Type() != "type" || string(got.Payload()) != "p" || got.Headers()["h"] != "v" {
		t.Errorf("%s %q %v", got.Type(), got.Payload(), got.Headers())
	}
	if err := enqueue(t, f); err != nil {
		t.Fatal(err)
	}
	if j := f.Jobs()[1]; !j.ProcessAt.IsZero() || !j.Deadline.IsZero() || j.Unique || !j.LockUntil.IsZero() || j.NoSpool || j.MaxSpoolAge != 0 {
		t.Errorf("without options: %+v", j)
	}
}

func TestJobsBelongToTheCaller(t *testing.T) {
	f := queuetest.New(t)
	payload, headers := []byte("p"), map[string]string{"h": "v"}
	if _, err := f.Enqueue(asynq.NewTaskWithHeaders("t", payload, headers)); err != nil {
		t.Fatal(err)
	}
	payload[0], headers["h"] = 'x', "x"
	for range 2 {
		j := f.Jobs()[0]
		if string(j.Payload) != "p" || j.Headers["h"] != "v" {
			t.Fatalf("%+v", j)
		}
		j.Payload[0], j.Headers["h"] = 'x', "x"
	}
}

func TestALockLastsAsLongAsItShould(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := queuetest.New(t)
		unique := asynq.Unique(time.Minute)
		if err := enqueue(t, f, unique); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - 1)
		if err := enqueue(t, f, unique); !errors.Is(err, asynq.ErrDuplicateTask) {
			t.Errorf("just before its end: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if err := enqueue(t, f, unique); err != nil {
			t.Errorf("at its end: %v", err)
		}
	})
}

func TestTakenJobsAreCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := queuetest.New(t)
		for _, outage := range []bool{false, true} {
			f.SetOutage(outage)
			id, kept := asynq.TaskID("id"), asynq.TaskID("kept")
			if err := errors.Join(enqueue(t, f, id, asynq.Unique(time.Hour)), enqueue(t, f, kept, asynq.Retention(time.Minute))); err != nil {
				t.Fatal(err)
			}
			if n := len(f.Take()); n != 2 || len(f.Jobs()) != 0 {
				t.Errorf("%d taken, %d left", n, len(f.Jobs()))
			}
			f.SetOutage(false)
			if err := enqueue(t, f, id, asynq.Unique(time.Hour)); err != nil {
				t.Errorf("outage %v: again: %v", outage, err)
			}
			if err := enqueue(t, f, kept); !errors.Is(err, asynq.ErrTaskIDConflict) {
				t.Errorf("outage %v: within the retention: %v", outage, err)
			}
			time.Sleep(time.Minute)
			if err := enqueue(t, f, kept); err != nil {
				t.Errorf("outage %v: after the retention: %v", outage, err)
			}
			f.Take()
		}
	})
}

func TestJobsCanBeTakenInAnOutage(t *testing.T) {
	f := queuetest.New(t)
	if err := enqueue(t, f); err != nil {
		t.Fatal(err)
	}
	f.SetOutage(true)
	unique := asynq.Unique(time.Hour)
	for i := range 2 {
		if err := enqueue(t, f, asynq.TaskID("id"), unique); err != nil {
			t.Fatal(err)
		}
		if n := len(f.Take()); n != 2-i {
			t.Errorf("%d taken", n)
		}
	}
	if err := enqueue(t, f, unique); err != nil {
		t.Fatal(err)
	}
	f.SetOutage(true) // still
	f.SetOutage(false)
	if err := enqueue(t, f, unique); !errors.Is(err, asynq.ErrDuplicateTask) {
		t.Errorf("a twin of a job that was replayed: %v", err)
	}
}

func TestFailWith(t *testing.T) {
	f := queuetest.New(t)
	f.FailWith(queue.ErrFull)
	where := queue.InRedis
	if err := enqueue(t, f, queue.ReportTo(&where)); !errors.Is(err, queue.ErrFull) || where != queue.Nowhere {
		t.Errorf("%v, %v", err, where)
	}
	infos, err := f.EnqueueBatch(t.Context(), []*asynq.Task{asynq.NewTask("t", nil), nil})
	if batch := (*queue.BatchError)(nil); !errors.As(err, &batch) || !errors.Is(batch.Errs[0], queue.ErrFull) || errors.Is(batch.Errs[1], queue.ErrFull) {
		t.Errorf("batch: %v, %v", infos, err)
	}
	f.FailWith(nil)
	if err := enqueue(t, f); err != nil || len(f.Jobs()) != 1 {
		t.Errorf("%v, %d jobs", err, len(f.Jobs()))
	}
}

func TestAClosedFakeSaysSo(t *testing.T) {
	f := queuetest.New(t)
	if err := enqueue(t, f); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	_, ctxErr := f.EnqueueContext(t.Context(), asynq.NewTask("t", nil))
	_, batchErr := f.EnqueueBatch(t.Context(), nil)
	for i, err := range []error{enqueue(t, f), ctxErr, batchErr, f.Ping()} {
		if !errors.Is(err, queue.ErrClosed) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if len(f.Jobs()) != 1 {
		t.Error("its jobs are gone")
	}
}

func TestManyGoroutines(t *testing.T) {
	f := queuetest.New(t)
	task := asynq.NewTask("t", []byte("p"), asynq.MaxRetry(1), asynq.Queue("q"), asynq.Timeout(time.Second))
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			f.SetOutage(i%2 == 0)
			f.FailWith(nil)
			if _, err := f.EnqueueContext(context.Background(), task, asynq.TaskID(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
			if _, err := f.EnqueueBatch(context.Background(), []*asynq.Task{task}); err != nil {
				t.Error(err)
			}
			f.Jobs()
		})
	}
	wg.Wait()
	ids := map[string]bool{}
	for _, j := range f.Take() {
		ids[j.ID] = true
	}
	if len(ids) != 200 {
		t.Errorf("%d jobs", len(ids))
	}
}

func TestSpoolFirstIsReplayedAtOnce(t *testing.T) {
	f := queuetest.New(t)
	var where queue.Where
	for range 2 { // the second one's twin is in Redis, as only the replay would find out
		if err := enqueue(t, f, queue.SpoolFirst(), queue.ReportTo(&where), asynq.TaskID("id")); err != nil || where != queue.InSpool {
			t.Fatalf("%v, %v", where, err)
		}
	}
	if err := enqueue(t, f, asynq.TaskID("id")); !errors.Is(err, asynq.ErrTaskIDConflict) {
		t.Errorf("a twin of what was replayed: %v", err)
	}
	if err := enqueue(t, f, queue.SpoolFirst(), queue.NoSpool()); err == nil {
		t.Error("SpoolFirst with NoSpool is accepted")
	}
}
