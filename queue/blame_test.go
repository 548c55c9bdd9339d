package queue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestALoneJobOfABrokenGroup: no other job of the queue shows that the error is its own.
func TestALoneJobOfABrokenGroup(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, client(t, r.Addr()).Set(t.Context(), "asynq:{default}:g:g", "a string", 0).Err())
	dir := t.TempDir()
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir})
	_, err := p.Enqueue(asynq.NewTask("t", nil), asynq.Group("g"), asynq.Unique(time.Hour))
	must(t, err)
	eventually(t, "it is given up", func() bool { return p.Stats().Dead == 1 && p.Stats().State == queue.StateUp })
	if ids := enqueue(t, p, 1); p.Stats().Sent != 1 {
		t.Errorf("%q: %+v", ids, p.Stats())
	}
	closeProducer(t, p)
	wantDead(t, dir, "Redis refuses it: WRONGTYPE")
}

// TestALookThatIsDenied: the user may enqueue, and not look at what stands in the way. That
// is no outage of everything, others go on, and the job becomes a dead letter.
func TestALookThatIsDenied(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	admin := client(t, r.Addr())
	plain := asynq.NewClientFromRedisClient(admin)
	for right, opt := range map[string]asynq.Option{"hget": asynq.TaskID("own"), "get": asynq.Unique(time.Hour)} {
		task := asynq.NewTask("t", nil, asynq.Queue(right), opt)
		_, err := plain.Enqueue(task)
		must(t, err)
		proxy := redistest.NewProxy(t, r.Addr())
		proxy.Refuse()
		p := newProducer(t, queue.Config{Redis: newUser(t, admin, proxy.Addr(), "no-"+right, producerRights+" -"+right), SpoolDir: t.TempDir()})
		_, err = p.Enqueue(task)
		must(t, err)
		proxy.Accept()
		eventually(t, right+" is missed", func() bool { return p.Stats().State == queue.StatePartial })
		if cause := p.Stats().Queues[0].Cause; !strings.Contains(cause, "'"+right+"'") {
			t.Error(cause)
		}
		_, err = p.Enqueue(asynq.NewTask("t", nil), asynq.Queue(right)) // which shows that the queue works
		must(t, err)
		eventually(t, "all is judged", func() bool { return p.Stats().Pending == 0 && p.Stats().State == queue.StateUp })
		if st := p.Stats(); st.Dead != 1 || st.Replayed != 1 || st.State != queue.StateUp {
			t.Errorf("%s: %+v", right, st)
		}
	}
}

// TestABrokenGroupInAnOutage of its queue: that goes on while other jobs meet it.
func TestABrokenGroupInAnOutage(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	admin := client(t, r.Addr())
	for _, key := range []string{"pending", "g:g"} {
		must(t, admin.Set(t.Context(), "asynq:{default}:"+key, "a string", 0).Err())
	}
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	ids := enqueue(t, p, 1)
	_, err := p.Enqueue(asynq.NewTask("t", nil), asynq.Group("g"))
	must(t, err)
	eventually(t, "the group's job is given up", func() bool { return p.Stats().Dead == 1 })
	if st := p.Stats(); st.Outages != 1 || st.State != queue.StatePartial || st.Pending != 1 {
		t.Errorf("%+v", st)
	}
	must(t, admin.Del(t.Context(), "asynq:{default}:pending").Err())
	eventually(t, "the other is there", func() bool { return p.Stats().Pending == 0 })
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}
