package queue_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

func TestOutageByKillLosesAndDoublesNothing(t *testing.T) {
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	w := startWorker(t, r)
	log, said := logger()
	cfg := queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), Logger: log}
	p := newProducer(t, cfg)

	ids := enqueue(t, p, 200)
	w.idle(t, 200)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	ids = append(ids, enqueue(t, p, 1000)...)
	if st := p.Stats(); st.State != queue.StateOutage || st.Spooled != 1000 || st.Sent != 200 {
		t.Fatalf("%+v", st)
	}
	closeProducer(t, p)
	p = newProducer(t, cfg)
	ids = append(ids, enqueue(t, p, 1000)...)
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	drain(t, p)
	ids = append(ids, enqueue(t, p, 200)...)
	w.idle(t, 2400)
	wantOnce(t, w.ran(), ids)

	st := p.Stats()
	if st.State != queue.StateUp || st.Pending != 0 || st.Adopted != 1000 || st.Replayed+st.AlreadyThere != 2000 {
		t.Errorf("%+v", st)
	}
	var begins, ends int
	for _, line := range said.all() {
		begins += strings.Count(line, "outage begins")
		ends += strings.Count(line, "outage ends")
	}
	if begins != 2 || ends != 1 { // each Producer met it; only one saw its end
		t.Errorf("%d outages begin and %d end in the log: %q", begins, ends, said.all())
	}
}

func TestOutageByFreeze(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: 200 * time.Millisecond})
	ids := enqueue(t, p, 20)
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got := enqueue(t, p, 25)
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, got...)
		})
	}
	wg.Wait()
	if st := p.Stats(); st.InDoubt == 0 || st.Spooled != 200 {
		t.Fatalf("%+v", st)
	}
	if err := r.Thaw(); err != nil {
		t.Fatal(err)
	}
	drain(t, p)
	st := p.Stats()
	if st.AlreadyThere == 0 { // Redis ran the commands it got while frozen
		t.Errorf("none in doubt was there already: %+v", st)
	}
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	w := startWorker(t, r)
	w.idle(t, len(ids))
	wantOnce(t, w.ran(), ids)
}

func TestProducerStartsWhileRedisIsDown(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	if err := p.Ping(); err == nil {
		t.Fatal("Ping of a dead Redis succeeded")
	}
	ids := enqueue(t, p, 50)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := p.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "50 jobs left") {
		t.Fatalf("Drain of a dead Redis: %v", err)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	drain(t, p)
	if err := p.Ping(); err != nil {
		t.Fatal(err)
	}
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	if queues, err := client(t, r.Addr()).SMembers(t.Context(), "asynq:queues").Result(); err != nil || len(queues) != 1 {
		t.Errorf("registered queues: %v, %v", queues, err)
	}
}

func TestQueueIsRegisteredAgainAfterRedisLostItsData(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	enqueue(t, p, 1)
	if err := errors.Join(r.Kill(), r.Restart()); err != nil { // no persistence: empty
		t.Fatal(err)
	}
	eventually(t, "the live path is back", func() bool {
		before := p.Stats().Sent
		enqueue(t, p, 1)
		return p.Stats().Sent > before
	})
	if there, err := client(t, r.Addr()).SIsMember(t.Context(), "asynq:queues", "default").Result(); err != nil || !there {
		t.Fatalf("registered: %v, %v", there, err)
	}
}

// TestOnlyAWriteEndsAnOutage brings Redis back full: it still answers that it has the
// job already.
func TestOnlyAWriteEndsAnOutage(t *testing.T) {
	r := redistest.Run(t, redistest.Options{AppendOnly: true, Args: []string{"--maxmemory", "3mb"}})
	rdb := client(t, r.Addr())
	_, err := asynq.NewClientFromRedisClient(rdb).Enqueue(asynq.NewTask("t", nil), asynq.TaskID("x"))
	err = errors.Join(err, rdb.SetRange(t.Context(), "ballast", 4<<20, "x").Err(), r.Kill())
	if err != nil {
		t.Fatal(err)
	}
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	if _, err := p.Enqueue(asynq.NewTask("t", nil), asynq.TaskID("x")); err != nil {
		t.Fatal(err)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Redis answers", func() bool { return p.Stats().AlreadyThere == 1 })
	if err := p.Ping(); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Fatalf("ping of a full Redis: %v", err)
	}
	if _, err := p.Enqueue(asynq.NewTask("t", nil)); err != nil {
		t.Fatal(err)
	}
	if st := p.Stats(); st.State != queue.StateOutage || st.Spooled != 2 {
		t.Fatalf("%+v", st)
	}
	if err := rdb.Del(t.Context(), "ballast").Err(); err != nil {
		t.Fatal(err)
	}
	drain(t, p)
	if st := p.Stats(); st.State != queue.StateUp || st.Outages != 1 {
		t.Errorf("%+v", st)
	}
}

func TestTwoProducersShareASpoolDir(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	first := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir})
	second := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir})
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	ids := append(enqueue(t, first, 100), enqueue(t, second, 100)...)
	closeProducer(t, first)
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	drain(t, second) // adopts the share of the first
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	if st := second.Stats(); st.Adopted != 100 {
		t.Errorf("%+v", st)
	}
}

func TestALivingProducerReplaysWhatADeadOneLeft(t *testing.T) {
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	dying := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir})
	living := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir})
	ids := enqueue(t, dying, 100)
	closeProducer(t, dying)
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "adopted and replayed, unasked", func() bool { return living.Stats().Replayed == 100 })
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}

func TestTwoTargetsShareASpoolDir(t *testing.T) {
	a, b := redistest.Run(t, redistest.Options{}), redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	config := func(r *redistest.Server) queue.Config { return queue.Config{Redis: server(r.Addr()), SpoolDir: dir} }
	ids := map[*redistest.Server][]string{}
	for _, r := range []*redistest.Server{a, b} {
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
		p := newProducer(t, config(r))
		ids[r] = enqueue(t, p, 50)
		closeProducer(t, p)
	}
	for _, r := range []*redistest.Server{a, b} {
		if err := r.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	p := newProducer(t, config(a))
	drain(t, p)
	if st := p.Stats(); st.Foreign != 1 || st.Replayed != 50 {
		t.Errorf("%+v", st)
	}
	wantOnce(t, pendingIDs(t, a.Addr()), ids[a])
	wantOnce(t, pendingIDs(t, b.Addr()), nil)
	drain(t, newProducer(t, config(b)))
	wantOnce(t, pendingIDs(t, b.Addr()), ids[b])
}

func TestShutdownDrains(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	ids := enqueue(t, p, 20)
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Enqueue(asynq.NewTask("late", nil)); !errors.Is(err, queue.ErrClosed) {
		t.Fatalf("after Shutdown: %v", err)
	}
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}
