package queue_test

import (
	"net"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
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
