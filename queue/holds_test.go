package queue_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestManyConflictsAtOnceGiveTheirLocksBack: asynq's script takes the unique lock before it sees
// that the id exists. That all are given back takes no round trip for each.
func TestManyConflictsAtOnceGiveTheirLocksBack(t *testing.T) {
	t.Parallel()
	const n = 128
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: 3 * time.Second})
	first, second := make([]*asynq.Task, n), make([]*asynq.Task, n)
	for i := range n {
		id := asynq.TaskID(fmt.Sprint("id", i))
		first[i] = asynq.NewTask("t", nil, id)
		second[i] = asynq.NewTask("t", fmt.Appendf(nil, "%d", i), id, asynq.Unique(time.Hour))
	}
	_, err := p.EnqueueBatch(t.Context(), first)
	must(t, err)
	proxy.Latency(100 * time.Millisecond)
	_, err = p.EnqueueBatch(t.Context(), second)
	batch := (*queue.BatchError)(nil)
	if !errors.As(err, &batch) {
		t.Fatalf("%v", err)
	}
	for i, err := range batch.Errs {
		if !errors.Is(err, asynq.ErrTaskIDConflict) {
			t.Fatalf("%d: %v", i, err)
		}
	}
	locks, err := client(t, r.Addr()).Keys(t.Context(), "asynq:{default}:unique:*").Result()
	if err != nil || len(locks) > 0 {
		t.Errorf("%d locks are left, %v", len(locks), err)
	}
}
