package queue_test

import (
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestOnlyHalfDoneJobsAreRepaired: no script failed for these, so what Redis holds under their
// ids is as somebody wanted it, for one who took a task out of its list by hand. They are there
// already.
func TestOnlyHalfDoneJobsAreRepaired(t *testing.T) {
	t.Parallel()
	r, dir := redistest.Run(t, redistest.Options{}), t.TempDir()
	admin := client(t, r.Addr())
	plain := asynq.NewClientFromRedisClient(admin)
	for id, opts := range map[string][]asynq.Option{"": nil, "own": {asynq.TaskID("own")}} {
		task := asynq.NewTask("t", []byte("p"+id), opts...)
		id = leave(t, dir, task)[0]
		must(t, second(plain.Enqueue(task, asynq.TaskID(id))))
		must(t, admin.LRem(t.Context(), "asynq:{default}:pending", 0, id).Err())
	}
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Target: "t"})
	drain(t, p)
	if st := p.Stats(); st.AlreadyThere != 2 || st.Replayed != 0 {
		t.Errorf("%+v", st)
	}
	wantOnce(t, pendingIDs(t, r.Addr()), nil)
}
