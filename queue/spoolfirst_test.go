package queue_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

func TestSpoolFirst(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	var where queue.Where
	info, err := p.Enqueue(asynq.NewTask("t", []byte("p")), queue.SpoolFirst(), queue.ReportTo(&where))
	if err != nil || where != queue.InSpool {
		t.Fatalf("%v, %v", where, err)
	}
	eventually(t, "replayed, unasked", func() bool { return p.Stats().Pending == 0 })
	wantOnce(t, pendingIDs(t, r.Addr()), []string{info.ID})
	if st := p.Stats(); st.Sent != 0 || st.Spooled != 1 || st.Replayed != 1 || st.InDoubt != 0 || st.Outages != 0 {
		t.Errorf("%+v", st)
	}
	_, err = p.Enqueue(asynq.NewTask("t", nil), queue.SpoolFirst(), queue.NoSpool(), queue.ReportTo(&where))
	if err == nil || where != queue.Nowhere || !strings.Contains(err.Error(), "NoSpool and SpoolFirst") {
		t.Errorf("with NoSpool: %v, %v", where, err)
	}
	infos, err := p.EnqueueBatch(t.Context(), batchOf(2), queue.SpoolFirst(), queue.NoSpool())
	if err == nil || infos != nil {
		t.Errorf("a batch with NoSpool: %v, %v", infos, err)
	}
}

// TestSpoolFirstKeepsTheOrder takes single jobs and batches of one queue through the spool.
func TestSpoolFirstKeepsTheOrder(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	const single, all = 50, 700
	for i := range single {
		_, err := p.Enqueue(numbered(i), queue.SpoolFirst())
		must(t, err)
	}
	tasks := make([]*asynq.Task, 0, all-single)
	for i := single; i < all; i++ {
		tasks = append(tasks, numbered(i))
	}
	var where queue.Where
	_, err := p.EnqueueBatch(t.Context(), tasks, queue.SpoolFirst(), queue.ReportTo(&where))
	must(t, err)
	if where != queue.InSpool {
		t.Errorf("the batch is in %v", where)
	}
	drain(t, p)
	inOrder(t, numbers(t, r.Addr(), "default"), all)
	if st := p.Stats(); st.Sent != 0 || st.Spooled != all || st.Replayed != all {
		t.Errorf("%+v", st)
	}
}

// TestSpoolFirstMeetsTwins: those in the spool are told of by the call, those in Redis by
// the replay.
func TestSpoolFirstMeetsTwins(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	task, unique, first := asynq.NewTask("t", []byte("p")), asynq.Unique(time.Hour), queue.SpoolFirst()
	_, err := p.Enqueue(task, unique)
	must(t, err)
	_, err = p.Enqueue(task, unique, first) // its twin is in Redis
	must(t, err)
	eventually(t, "superseded", func() bool { return p.Stats().Superseded == 1 })

	must(t, r.Kill())
	spooled := asynq.NewTask("t", []byte("q"))
	_, err = p.Enqueue(spooled, unique, first, asynq.TaskID("id"))
	must(t, err)
	if _, err := p.Enqueue(spooled, unique, first); !errors.Is(err, asynq.ErrDuplicateTask) {
		t.Errorf("unique: %v", err)
	}
	if _, err := p.Enqueue(asynq.NewTask("t", nil), first, asynq.TaskID("id")); !errors.Is(err, asynq.ErrTaskIDConflict) {
		t.Errorf("own id: %v", err)
	}
	_, err = p.EnqueueBatch(t.Context(), []*asynq.Task{spooled}, unique, first)
	if !errors.Is(err, asynq.ErrDuplicateTask) {
		t.Errorf("unique in a batch: %v", err)
	}
	must(t, r.Restart())
	drain(t, p)
	if got := pendingIDs(t, r.Addr()); len(got) != 2 {
		t.Errorf("in Redis: %v", got)
	}
	if st := p.Stats(); st.Sent != 1 || st.Spooled != 2 || st.Replayed != 1 {
		t.Errorf("%+v", st)
	}
}
