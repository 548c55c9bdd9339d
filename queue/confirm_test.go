package queue_test

import (
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool"
)

// TestConfirmWaitsForReplicas: what no replica has is in doubt, and so long as none confirms
// jobs go to the spool; each is in Redis once in the end.
func TestConfirmWaitsForReplicas(t *testing.T) {
	t.Parallel()
	master, replica := redistest.Run(t, redistest.Options{}), redistest.Run(t, redistest.Options{})
	follow(t, replica, master)
	p := newProducer(t, queue.Config{
		Redis: server(master.Addr()), SpoolDir: t.TempDir(), Confirm: queue.ConfirmConfig{Replicas: 1, Timeout: 200 * time.Millisecond},
	})
	ids := enqueue(t, p, 5)
	must(t, p.Ping())
	if st := p.Stats(); st.Sent != 5 {
		t.Fatalf("%+v", st)
	}
	must(t, replica.Freeze())
	var where queue.Where
	info, err := p.Enqueue(asynq.NewTask("t", nil), queue.ReportTo(&where))
	must(t, err)
	if ids = append(ids, info.ID); where != queue.InDoubt {
		t.Errorf("the first without a replica: %v", where)
	}
	ids = append(ids, enqueue(t, p, 3)...)
	infos, err := p.EnqueueBatch(t.Context(), batchOf(3))
	must(t, err)
	for _, info := range infos {
		ids = append(ids, info.ID)
	}
	if st := p.Stats(); st.State != queue.StateOutage || st.Outages != 1 || st.Sent != 5 || st.InDoubt != 1 {
		t.Errorf("%+v", st)
	}
	if err := p.Ping(); err == nil {
		t.Error("Ping is content")
	}
	must(t, replica.Thaw())
	drain(t, p)
	wantOnce(t, pendingIDs(t, master.Addr()), ids)
	if st := p.Stats(); st.AlreadyThere < 1 || st.State != queue.StateUp {
		t.Errorf("%+v", st)
	}
}

// TestConfirmKeepsWhatNoReplicaHas: what a master took and no replica has leaves the spool only
// when one has it, also where Redis refuses the second copy. So the promotion of a replica
// that was behind loses nothing.
func TestConfirmKeepsWhatNoReplicaHas(t *testing.T) {
	t.Parallel()
	master, replica := redistest.Run(t, redistest.Options{}), redistest.Run(t, redistest.Options{AppendOnly: true})
	follow(t, replica, master)
	eventually(t, "the replica has its file", func() bool { // else it comes back empty
		info, err := client(t, replica.Addr()).InfoMap(t.Context(), "persistence").Result()
		return err == nil && info["Persistence"]["aof_rewrite_in_progress"] == "0" && info["Persistence"]["aof_rewrite_scheduled"] == "0"
	})
	proxy := redistest.NewProxy(t, master.Addr())
	p := newProducer(t, queue.Config{
		Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), Confirm: queue.ConfirmConfig{Replicas: 1, Timeout: 200 * time.Millisecond},
	})
	ids := enqueue(t, p, 5)
	must(t, replica.Freeze())
	ids = append(ids, enqueue(t, p, 5)...)
	for _, task := range []*asynq.Task{
		asynq.NewTask("unique", nil, asynq.Unique(time.Hour)), asynq.NewTask("mine", nil, asynq.TaskID("mine")),
	} {
		info, err := p.Enqueue(task)
		must(t, err)
		ids = append(ids, info.ID)
	}
	tries := p.Tries()
	eventually(t, "some tries", func() bool { return tries() >= 12 })
	if st := p.Stats(); st.Pending != 7 || st.AlreadyThere+st.Replayed > 0 || st.State != queue.StateOutage {
		t.Errorf("%+v", st)
	}
	must(t, master.Kill())
	must(t, replica.Kill()) // with what has reached its socket only
	must(t, replica.Restart())
	proxy.SetTarget(replica.Addr())
	proxy.Cut()
	other := redistest.Run(t, redistest.Options{})
	follow(t, other, replica)
	drain(t, p)
	wantOnce(t, pendingIDs(t, replica.Addr()), ids)
}

// TestConfirmOfManyAtOnce has each of the ways on which several jobs share a pipeline meet a
// replica that confirms nothing.
func TestConfirmOfManyAtOnce(t *testing.T) {
	t.Parallel()
	master, replica := redistest.Run(t, redistest.Options{}), redistest.Run(t, redistest.Options{})
	follow(t, replica, master)
	produce := func() (*queue.Producer, string) {
		t.Helper()
		dir := t.TempDir()
		return newProducer(t, queue.Config{
			Redis: server(master.Addr()), SpoolDir: dir, Confirm: queue.ConfirmConfig{Replicas: 1, Timeout: 200 * time.Millisecond},
		}), dir
	}
	replayed, dir := produce()
	const before = 4
	for range before { // so that the replay has no small batches
		_, err := replayed.Enqueue(asynq.NewTask("t", nil), queue.SpoolFirst())
		must(t, err)
		drain(t, replayed)
	}
	pauseReplay(t, dir)
	eventually(t, "the pause is seen", func() bool { return replayed.Stats().Paused != nil })
	_, err := replayed.EnqueueBatch(t.Context(), batchOf(20), queue.SpoolFirst())
	must(t, err)
	batch, _ := produce()
	coalesced, _ := produce()
	must(t, replica.Freeze())

	_, err = batch.EnqueueBatch(t.Context(), batchOf(20))
	must(t, err)
	if st := batch.Stats(); st.Sent != 0 || st.InDoubt != 20 {
		t.Errorf("a batch: %+v", st)
	}
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() { enqueue(t, coalesced, 1) })
	}
	wg.Wait()
	if st := coalesced.Stats(); st.Sent != 0 || st.Spooled != 40 || st.InDoubt == 0 {
		t.Errorf("callers at the same time: %+v", st)
	}
	pipelines, tries := replayed.Answered(), replayed.Tries()
	_, err = spool.ResumeReplay(dir)
	must(t, err)
	eventually(t, "some tries", func() bool { return tries() >= 8 })
	if st := replayed.Stats(); st.Pending != 20 || slices.Max(append(pipelines(), 0)) < 20 {
		t.Errorf("a replay in pipelines of %v: %+v", pipelines(), st)
	}
	must(t, replica.Thaw())
	for _, p := range []*queue.Producer{replayed, batch, coalesced} {
		drain(t, p)
	}
	if n := len(pendingIDs(t, replica.Addr())); n != before+80 {
		t.Errorf("%d of %d", n, before+80)
	}
}

// follow makes one server a replica of another, and waits for it.
func follow(t *testing.T, replica, master *redistest.Server) {
	t.Helper()
	host, port, err := net.SplitHostPort(master.Addr())
	must(t, err)
	must(t, client(t, replica.Addr()).Do(t.Context(), "REPLICAOF", host, port).Err())
	m := client(t, master.Addr())
	eventually(t, "the replica follows", func() bool {
		m.Set(t.Context(), "following", 1, time.Second)
		n, err := m.Wait(t.Context(), 1, 100*time.Millisecond).Result()
		return err == nil && n == 1
	})
}

func TestConfirmThatMakesNoSense(t *testing.T) {
	t.Parallel()
	for _, c := range []queue.ConfirmConfig{{Replicas: 1, Timeout: -1}, {Replicas: 1, Timeout: time.Second}, {Replicas: 1, Timeout: time.Microsecond}} {
		_, err := queue.New(queue.Config{Redis: server(away), SpoolDir: t.TempDir(), Confirm: c})
		if err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
