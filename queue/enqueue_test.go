package queue_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

func TestAsynqsComplaintsReachTheCallerLiveAndInAnOutage(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	plain := asynq.NewClientFromRedisClient(client(t, r.Addr()))
	ok := asynq.NewTask("t", nil)
	check := func(t *testing.T) {
		t.Helper()
		for name, c := range map[string]struct {
			task *asynq.Task
			opt  asynq.Option
		}{
			"nil task":       {nil, asynq.MaxRetry(1)},
			"blank type":     {asynq.NewTask(" ", nil), asynq.MaxRetry(1)},
			"blank queue":    {ok, asynq.Queue(" ")},
			"blank id":       {ok, asynq.TaskID(" ")},
			"blank group":    {ok, asynq.Group("")},
			"short unique":   {ok, asynq.Unique(time.Millisecond)},
			"type not UTF-8": {asynq.NewTask("\xff", nil), asynq.MaxRetry(1)},
		} {
			_, want := plain.Enqueue(c.task, c.opt)
			if _, got := p.Enqueue(c.task, c.opt); got == nil || got.Error() != want.Error() {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
	}
	t.Run("live", check)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	enqueue(t, p, 1) // the outage begins
	t.Run("outage", check)
	if st := p.Stats(); st.Spooled != 1 {
		t.Errorf("%+v", st)
	}
}

func TestTwinsAreRefusedLive(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	task := asynq.NewTask("t", nil)
	for i, want := range []error{nil, asynq.ErrTaskIDConflict} {
		if _, err := p.Enqueue(task, asynq.TaskID("x")); !errors.Is(err, want) {
			t.Errorf("id, call %d: %v", i, err)
		}
	}
	for i, want := range []error{nil, asynq.ErrDuplicateTask} {
		if _, err := p.Enqueue(task, asynq.Unique(time.Minute)); !errors.Is(err, want) {
			t.Errorf("unique, call %d: %v", i, err)
		}
	}
	if st := p.Stats(); st.Sent != 2 || st.Spooled != 0 || st.State != queue.StateUp {
		t.Errorf("%+v", st)
	}
}

func TestTwinsAreToldApartAtTheReplay(t *testing.T) {
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	plain := asynq.NewClientFromRedisClient(client(t, r.Addr()))
	_, err1 := plain.Enqueue(asynq.NewTask("same", []byte("a")), asynq.TaskID("same"))
	_, err2 := plain.Enqueue(asynq.NewTask("different", []byte("b")), asynq.TaskID("other"))
	_, err3 := plain.Enqueue(asynq.NewTask("unique", nil), asynq.Unique(time.Hour))
	if err := errors.Join(err1, err2, err3, r.Kill()); err != nil {
		t.Fatal(err)
	}
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	_, err1 = p.Enqueue(asynq.NewTask("same", []byte("a")), asynq.TaskID("same"))
	_, err2 = p.Enqueue(asynq.NewTask("other", []byte("a")), asynq.TaskID("other"))
	_, err3 = p.Enqueue(asynq.NewTask("unique", nil), asynq.Unique(time.Hour))
	if err := errors.Join(err1, err2, err3, r.Restart()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Drain(ctx); err == nil || !strings.Contains(err.Error(), "1 dead letters are left") {
		t.Errorf("drain: %v", err)
	}
	if st := p.Stats(); st.AlreadyThere != 1 || st.Superseded != 1 || st.Dead != 1 || st.DeadLetters != 1 {
		t.Errorf("%+v", st)
	}
}

func TestOneTaskEnqueuedFromManyGoroutines(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	opts := make([]asynq.Option, 0, 8) // spare capacity: asynq would write into it
	task := asynq.NewTask("t", nil, append(opts, asynq.MaxRetry(1))...)
	var mu sync.Mutex
	var wg sync.WaitGroup
	ids := map[string]bool{}
	for i := range 500 {
		wg.Go(func() {
			id := "id-" + strings.Repeat("x", i)
			info, err := p.Enqueue(task, asynq.TaskID(id), asynq.MaxRetry(i))
			if err != nil || info.ID != id || info.MaxRetry != i {
				t.Errorf("%d: %+v, %v", i, info, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ids[info.ID] = true
		})
	}
	wg.Wait()
	if there := pendingIDs(t, r.Addr()); len(ids) != 500 || len(there) != 500 {
		t.Errorf("%d ids, %d in Redis", len(ids), len(there))
	}
}

func TestContextOfTheCaller(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: 10 * time.Second})
	enqueue(t, p, 1)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.EnqueueContext(done, asynq.NewTask("t", nil)); !errors.Is(err, context.Canceled) {
		t.Fatalf("done on entry: %v", err)
	}
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := p.EnqueueContext(short, asynq.NewTask("t", nil)); err != nil {
		t.Fatalf("ending in the middle: %v", err)
	}
	if err := short.Err(); err != nil {
		t.Errorf("the attempt left nothing of the caller's time: %v", err)
	}
	st := p.Stats()
	if st.Spooled != 1 || st.InDoubt != 1 {
		t.Errorf("%+v", st)
	}
	if st.State != queue.StateUp { // one impatient caller is no outage
		t.Errorf("%+v", st)
	}
	if err := r.Thaw(); err != nil {
		t.Fatal(err)
	}
	drain(t, p)
	if there := pendingIDs(t, r.Addr()); len(there) != 2 {
		t.Errorf("%d in Redis, want 2", len(there))
	}
}

func TestWhenRedisAndTheDiskFailBothAreNamed(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		r := redistest.Run(t, redistest.Options{})
		dir := t.TempDir()
		p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, EnqueueTimeout: 100 * time.Millisecond})
		enqueue(t, p, 1)
		owners, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(owners) != 1 {
			t.Fatalf("owners: %v, %v", owners, err)
		}
		if err := os.RemoveAll(owners[0]); err != nil {
			t.Fatal(err)
		}
		if frozen {
			err = r.Freeze()
		} else {
			err = r.Kill()
		}
		if err != nil {
			t.Fatal(err)
		}
		rest()
		_, err = p.Enqueue(asynq.NewTask("t", []byte("secret")))
		if !errors.Is(err, os.ErrNotExist) || errors.Is(err, queue.ErrMaybeEnqueued) != frozen || strings.Contains(err.Error(), "secret") {
			t.Errorf("frozen %v: %v", frozen, err)
		}
		if !frozen && !strings.Contains(err.Error(), "refused") {
			t.Errorf("Redis's share is not named: %v", err)
		}
		_, err = p.Enqueue(asynq.NewTask("t", nil)) // Redis is not tried now
		if !errors.Is(err, os.ErrNotExist) || errors.Is(err, queue.ErrMaybeEnqueued) || !strings.Contains(err.Error(), "outage since") {
			t.Errorf("frozen %v, in the outage: %v", frozen, err)
		}
		closeProducer(t, p)
	}
}

// TestPoisonDoesNotBlockTheHead gives one queue a pending key of the wrong type: its job
// waits, half done, until that is put right, and others do not wait for it.
func TestPoisonDoesNotBlockTheHead(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	rdb := client(t, r.Addr())
	must(t, rdb.Set(t.Context(), "asynq:{bad}:pending", "no list", 0).Err())
	must(t, r.Kill())
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	bad, err := p.Enqueue(asynq.NewTask("t", nil), asynq.Queue("bad"))
	must(t, err)
	ids := enqueue(t, p, 50)
	must(t, r.Restart())
	eventually(t, "the others are there", func() bool { return p.Stats().Replayed == 50 && p.Stats().State == queue.StatePartial })
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // for some tries
	defer cancel()
	if err := p.Drain(ctx); err == nil || !strings.Contains(err.Error(), "1 jobs left") || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("drain: %v", err)
	}
	if st := p.Stats(); st.Dead != 0 || st.Pending != 1 || st.State != queue.StatePartial {
		t.Errorf("%+v", st)
	}
	must(t, rdb.Del(t.Context(), "asynq:{bad}:pending").Err())
	drain(t, p)
	wantOnce(t, pendingOf(t, rdb, "bad"), []string{bad.ID})
	eventually(t, "the outage is over", func() bool { return p.Stats().State == queue.StateUp })
	if st := p.Stats(); st.Replayed != 51 {
		t.Errorf("%+v", st)
	}
}

// TestWhatCannotBeReadInRedisDoesNotBlockTheHead puts things that are not asynq's in
// the place of a task and of a lock.
func TestWhatCannotBeReadInRedisDoesNotBlockTheHead(t *testing.T) {
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	rdb := client(t, r.Addr())
	for _, err := range []error{
		rdb.SAdd(t.Context(), "asynq:queues", "default").Err(),
		rdb.HSet(t.Context(), "asynq:{default}:t:taken", "state", "pending", "msg", "no message").Err(),
		rdb.RPush(t.Context(), "asynq:{default}:unique:locked:", "no lock").Err(),
		r.Kill(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	log, said := logger()
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), Logger: log})
	_, err1 := p.Enqueue(asynq.NewTask("t", nil), asynq.TaskID("taken"))
	_, err2 := p.Enqueue(asynq.NewTask("locked", nil), asynq.Unique(time.Hour))
	ids := enqueue(t, p, 20)
	if err := errors.Join(err1, err2, r.Restart()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Drain(ctx); err == nil || !strings.Contains(err.Error(), "2 dead letters") {
		t.Errorf("drain: %v", err)
	}
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	if st := p.Stats(); st.Outages != 1 || st.State != queue.StateUp {
		t.Errorf("%+v: %q", st, said.all())
	}
}

func TestCloseInTheMiddleOfAReplayIsNoOutage(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir})
	enqueue(t, p, 2000)
	closeProducer(t, p)
	if err := errors.Join(r.Restart(), r.Freeze()); err != nil {
		t.Fatal(err)
	}
	log, said := logger()
	p = newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Logger: log})
	eventually(t, "the share is adopted", func() bool { return p.Stats().Adopted == 2000 })
	closeProducer(t, p) // Redis does not answer
	if all := strings.Join(said.all(), ""); strings.Contains(all, "outage") {
		t.Error(all)
	}
	if st := p.Stats(); st.Pending != 2000 {
		t.Errorf("%+v", st)
	}
}

func TestClosedProducerSaysSo(t *testing.T) {
	p := newProducer(t, queue.Config{Redis: server("127.0.0.1:1"), SpoolDir: t.TempDir()})
	closeProducer(t, p)
	_, enqueueErr := p.Enqueue(asynq.NewTask("t", nil))
	for call, err := range map[string]error{
		"Enqueue": enqueueErr, "Drain": p.Drain(t.Context()), "Ping": p.Ping(), "Shutdown": p.Shutdown(t.Context()),
	} {
		if !errors.Is(err, queue.ErrClosed) {
			t.Errorf("%s: %v", call, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	p.Stats()
}

func TestCloseEndsARunningDrain(t *testing.T) {
	p := newProducer(t, queue.Config{Redis: server("127.0.0.1:1"), SpoolDir: t.TempDir()})
	enqueue(t, p, 1)
	drained := make(chan error)
	go func() { drained <- p.Drain(context.Background()) }()
	eventually(t, "the drain runs into the wall", func() bool { return p.Stats().State == queue.StateOutage })
	closeProducer(t, p)
	if err := <-drained; !errors.Is(err, queue.ErrClosed) {
		t.Fatalf("drain: %v", err)
	}
}

func TestNewComplainsOfEverythingAtOnce(t *testing.T) {
	_, err := queue.New(queue.Config{})
	if err == nil || !strings.Contains(err.Error(), "Config.Redis") || !strings.Contains(err.Error(), "Config.SpoolDir") {
		t.Errorf("%v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := queue.New(queue.Config{Redis: server("127.0.0.1:1"), SpoolDir: file}); err == nil {
		t.Error("a file as SpoolDir was accepted")
	}
	ring := redis.NewRing(&redis.RingOptions{})
	defer ring.Close()
	if _, err := queue.New(queue.Config{Redis: queue.FromClient(ring), SpoolDir: t.TempDir()}); err == nil {
		t.Error("a ring was accepted")
	}
}

func TestFromClientCopiesTheOptionsAndLeavesTheClientAlone(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	theirs := redis.NewClient(&redis.Options{Addr: r.Addr(), DB: 3})
	p := newProducer(t, queue.Config{Redis: queue.FromClient(theirs), SpoolDir: t.TempDir()})
	enqueue(t, p, 1)
	if want := "redis://" + r.Addr() + "/3"; p.Stats().Target != want {
		t.Errorf("target %s, want %s", p.Stats().Target, want)
	}
	closeProducer(t, p)
	if n, err := theirs.LLen(t.Context(), "asynq:{default}:pending").Result(); n != 1 || err != nil {
		t.Errorf("%d jobs, %v", n, err)
	}
	if err := theirs.Close(); err != nil {
		t.Error(err)
	}
}

func TestNoSecretsInTheLogOrIdentity(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	if err := client(t, r.Addr()).ConfigSet(t.Context(), "requirepass", "right").Err(); err != nil {
		t.Fatal(err)
	}
	log, said := logger()
	dir := t.TempDir()
	p := newProducer(t, queue.Config{
		Redis: asynq.RedisClientOpt{Addr: r.Addr(), Password: "wrong-secret"}, SpoolDir: dir, Logger: log,
	})
	if _, err := p.Enqueue(asynq.NewTask("t", []byte("payload-secret"))); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(said.all(), "")
	identities, err := filepath.Glob(filepath.Join(dir, "*", "identity"))
	if err != nil || len(identities) != 1 || !strings.Contains(all, "outage begins") {
		t.Fatalf("%v, %v, %s", identities, err, all)
	}
	b, err := os.ReadFile(identities[0])
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(all+string(b), "secret") {
		t.Errorf("%s%s", all, b)
	}
}
