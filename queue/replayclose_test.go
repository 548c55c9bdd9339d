package queue_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestCloseKeepsWhatATryHasLeftHalfDone: a try for the end of an outage sends a job for the
// first time, and its script fails inside. The Producer closes before the reply comes, and the
// next one must know of it: what lies in Redis is in no list.
func TestCloseKeepsWhatATryHasLeftHalfDone(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	admin, proxy, dir := client(t, r.Addr()), redistest.NewProxy(t, r.Addr()), t.TempDir()
	ids := leave(t, dir, batchOf(2)...)
	cfg := queue.Config{Redis: newUser(t, admin, proxy.Addr(), "app", repairRights+" -lpush"), SpoolDir: dir, Target: "t"}
	proxy.Latency(100 * time.Millisecond)
	p := newProducer(t, cfg)
	eventually(t, "the second job is sent", func() bool { return admin.Exists(t.Context(), "asynq:{default}:t:"+ids[1]).Val() == 1 })
	closeProducer(t, p)
	proxy.Latency(0)
	acl(t, admin, "app", "+lpush")
	drain(t, newProducer(t, cfg))
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}

// TestCloseSettlesWhatATryHasSent: else the next process sends it again, and it runs again if
// a worker has finished it by then.
func TestCloseSettlesWhatATryHasSent(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	proxy, dir := redistest.NewProxy(t, r.Addr()), t.TempDir()
	ids := leave(t, dir, asynq.NewTask("t", nil))
	proxy.Refuse()
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), SpoolDir: dir, Target: "t"})
	eventually(t, "there is an outage", func() bool { return p.Stats().State == queue.StateOutage })
	proxy.Latency(100 * time.Millisecond)
	proxy.Accept()
	eventually(t, "the job is sent", func() bool { return len(pendingIDs(t, r.Addr())) == 1 })
	closeProducer(t, p)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	if st := p.Stats(); st.Replayed != 1 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}

// TestCloseDoesNotReadOn: with a large spool of which little is wanted, Close does not wait for
// all of it to be looked at.
func TestCloseDoesNotReadOn(t *testing.T) {
	t.Parallel()
	r, dir := redistest.Run(t, redistest.Options{}), t.TempDir()
	const many = 20_000
	leaveMany(t, dir, many, 1)
	var looked atomic.Int64
	p := newProducer(t, queue.Config{
		Redis: server(r.Addr()), SpoolDir: dir, Target: "t",
		Replay: queue.ReplayConfig{Only: func(queue.JobEvent) bool {
			looked.Add(1)
			time.Sleep(time.Millisecond)
			return false
		}},
	})
	eventually(t, "it looks at what there is", func() bool { return looked.Load() > 0 })
	closeProducer(t, p)
	if n := looked.Load(); n > many/2 {
		t.Errorf("%d of %d jobs were looked at", n, many)
	}
}
