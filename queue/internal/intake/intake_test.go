package intake_test

import (
	"errors"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/internal/intake"
)

func TestReadOptionsPicksOursAmongAsynqs(t *testing.T) {
	first, where := queue.InDoubt, queue.InDoubt
	o, err := intake.ReadOptions([]asynq.Option{
		asynq.MaxRetry(1), queue.ReportTo(&first), queue.NoSpool(), nil, queue.MaxSpoolAge(1500 * time.Microsecond), queue.ReportTo(&where),
	})
	if err != nil || !o.NoSpool || o.MaxAge != time.Millisecond {
		t.Fatalf("%+v, %v", o, err)
	}
	if first != queue.Nowhere || where != queue.Nowhere {
		t.Errorf("before the call is done: %v, %v", first, where)
	}
	if o.Report(int(queue.InSpool)); where != queue.InSpool {
		t.Errorf("reported %v", where)
	}
	if _, err := intake.ReadOptions([]asynq.Option{queue.MaxSpoolAge(0)}); err == nil {
		t.Error("MaxSpoolAge(0) was taken")
	}
	if o, err := intake.ReadOptions([]asynq.Option{queue.SpoolFirst()}); err != nil || !o.SpoolFirst {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := intake.ReadOptions([]asynq.Option{queue.SpoolFirst(), queue.NoSpool()}); err == nil {
		t.Error("SpoolFirst was taken together with NoSpool")
	}
	intake.Options{}.Report(1) // to nobody
}

func TestCheckTaskFindsOurOptionsInsideATask(t *testing.T) {
	for _, opt := range []asynq.Option{queue.ReportTo(new(queue.Where)), queue.NoSpool(), queue.SpoolFirst(), queue.MaxSpoolAge(1)} {
		if err := intake.CheckTask(asynq.NewTask("t", nil, asynq.MaxRetry(1), opt)); err == nil {
			t.Errorf("%v was not found", opt)
		}
	}
	for _, task := range []*asynq.Task{nil, asynq.NewTask("t", nil), asynq.NewTask("t", nil, asynq.Queue("q"), nil, asynq.MaxRetry(1))} {
		if err := intake.CheckTask(task); err != nil {
			t.Errorf("%v: %v", task, err)
		}
	}
}

func TestCheckSizeCountsTypePayloadAndHeaders(t *testing.T) {
	headers := map[string]string{"key": "value"}
	for limit, tooLarge := range map[int]bool{-1: false, 0: true, 14: true, 15: false} {
		if err := intake.CheckSize(limit, "type", []byte("abc"), headers); errors.Is(err, intake.ErrTooLarge) != tooLarge {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

func BenchmarkCheckTask(b *testing.B) {
	task := asynq.NewTask("t", nil, asynq.Queue("q"), asynq.MaxRetry(1), asynq.Timeout(time.Minute))
	for b.Loop() {
		if err := intake.CheckTask(task); err != nil {
			b.Fatal(err)
		}
	}
}
