package queue_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// sends returns how often a job was sent from the spool.
func (w *witness) sends(id string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seen {
		if s.Kind == queue.OpReplay && s.TaskID == id {
			n++
		}
	}
	return n
}

// TestThreeTriesOfItsOwn: a job that fails while Redis takes others has three.
func TestThreeTriesOfItsOwn(t *testing.T) {
	t.Parallel()
	r, dir := redistest.Run(t, redistest.Options{}), t.TempDir()
	must(t, client(t, r.Addr()).Set(t.Context(), "asynq:{default}:scheduled", "a string", 0).Err())
	tasks := batchOf(100)
	tasks[50] = asynq.NewTask("t", nil, asynq.ProcessIn(time.Hour))
	ids := leave(t, dir, tasks...)
	p, w := observed(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Target: "t"})
	eventually(t, "all is judged", func() bool { return p.Stats().Adopted == 100 && p.Stats().Pending == 0 })
	if st, n := p.Stats(), w.sends(ids[50]); n != 3 || st.Dead != 1 || st.Replayed != 99 {
		t.Errorf("it was sent %d times: %+v", n, st)
	}
}

// TestTriesInAnOutageOfItsQueue are not a job's own, however many there were.
func TestTriesInAnOutageOfItsQueue(t *testing.T) {
	t.Parallel()
	r, dir := redistest.Run(t, redistest.Options{}), t.TempDir()
	admin := client(t, r.Addr())
	must(t, admin.Set(t.Context(), "asynq:{default}:scheduled", "a string", 0).Err())
	later := asynq.ProcessIn(time.Hour)
	ids := leave(t, dir, asynq.NewTask("t", nil), asynq.NewTask("t", nil, later), asynq.NewTask("t", nil, later))
	p, w := observed(t, queue.Config{Redis: newUser(t, admin, r.Addr(), "app", repairRights+" -lpush"), SpoolDir: dir, Target: "t"})
	eventually(t, "all were tried often", func() bool { return w.sends(ids[1]) > 3 && w.sends(ids[2]) > 3 })
	acl(t, admin, "app", "+lpush")
	eventually(t, "the queue works", func() bool { return p.Stats().Replayed > 0 })
	must(t, admin.Del(t.Context(), "asynq:{default}:scheduled").Err())
	eventually(t, "all is judged", func() bool { return p.Stats().Pending == 0 })
	if st := p.Stats(); st.Dead != 0 || st.Replayed != 3 {
		t.Errorf("%+v", st)
	}
}
