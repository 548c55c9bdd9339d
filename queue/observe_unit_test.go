package queue

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// TestNoObserverCostsNothing calls what lies on the way of each job.
func TestNoObserverCostsNothing(t *testing.T) {
	p := &Producer{}
	c := &call{info: &asynq.TaskInfo{ID: "id"}, at: time.Now()}
	task := asynq.NewTask("t", nil)
	b := &batchCall{p: p, tasks: make([]batchTask, 3)}
	r := &replayer{p: p}
	one, it := job{ID: "id"}, &item{}
	if n := testing.AllocsPerRun(100, func() {
		p.beginEnqueue(t.Context(), c)
		p.endEnqueue(t.Context(), c, task, InRedis, nil)
		b.begin(t.Context())
		p.end(b.beginSpool(t.Context(), nil), nil)
		b.end(t.Context(), 3, nil)
		p.end(p.beginSpool(t.Context(), nil, &one), nil)
		it.observe(t.Context(), p)
		r.endReplay(settlement{}, nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
