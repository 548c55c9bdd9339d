package queue_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// away is where no Redis is.
const away = "127.0.0.1:1"

// leave spools jobs as a process does that ends without having reached Redis.
func leave(tb testing.TB, dir string, tasks ...*asynq.Task) (ids []string) {
	tb.Helper()
	p := newProducer(tb, queue.Config{
		Redis: server(away), SpoolDir: dir, Target: "t", MaxTaskBytes: -1, Spool: queue.SpoolConfig{MaxBytes: -1},
	})
	infos, err := p.EnqueueBatch(tb.Context(), tasks)
	must(tb, err)
	for _, info := range infos {
		ids = append(ids, info.ID)
	}
	closeProducer(tb, p)
	return ids
}

// drainFor is Drain with a bound of time.
func drainFor(tb testing.TB, p *queue.Producer, d time.Duration) error {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), d)
	defer cancel()
	return p.Drain(ctx)
}

// wantWords fails unless an error has all the words, in one line.
func wantWords(tb testing.TB, err error, words ...string) {
	tb.Helper()
	if err == nil {
		tb.Fatalf("no error; want %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			tb.Errorf("%q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		tb.Errorf("%q is more than a line", err)
	}
}

// TestDrainSaysThatThereIsAnOutage: how many jobs are left, and since when and why Redis
// takes none.
func TestDrainSaysThatThereIsAnOutage(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	enqueue(t, p, 7)
	err := drainFor(t, p, 300*time.Millisecond)
	wantWords(t, err, "7 jobs left", "outage since 20", "connection refused")
	if !errors.Is(err, context.DeadlineExceeded) || strings.Count(err.Error(), "refused") != 1 {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestDrainSaysWhichQueueHasAnOutage has a queue of its own trouble, and one that is fine.
func TestDrainSaysWhichQueueHasAnOutage(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	rdb := client(t, r.Addr())
	must(t, rdb.Do(t.Context(), "ACL", "SETUSER", "default", "resetkeys", "~asynq:queues", "~asynq:{fine}*").Err())
	dir := t.TempDir()
	leave(t, dir, asynq.NewTask("a", nil, asynq.Queue("closed")), asynq.NewTask("b", nil, asynq.Queue("fine")))
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), Target: "t", SpoolDir: dir})
	eventually(t, "the other job is there", func() bool { return p.Stats().Replayed == 1 })
	err := drainFor(t, p, 300*time.Millisecond)
	wantWords(t, err, "1 jobs left", `"closed"`, "NOPERM")
}

// TestDrainSaysThatRedisIsFull: the memory guard also holds for who is in a hurry.
func TestDrainSaysThatRedisIsFull(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	rdb := client(t, r.Addr())
	must(t, rdb.SetRange(t.Context(), "filler", 7<<20, "x").Err())
	must(t, rdb.ConfigSet(t.Context(), "maxmemory", "8mb").Err())
	dir := t.TempDir()
	ids := leave(t, dir, batchOf(20)...)
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), Target: "t", SpoolDir: dir})
	wantWords(t, drainFor(t, p, time.Second), "20 jobs left", "deadline exceeded", "nearly full", "maxmemory")
	must(t, rdb.Del(t.Context(), "filler").Err())
	drain(t, p)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}

// TestDrainSaysThatRedisDoesNotAnswerAJob has a job that is larger than what Redis reads.
func TestDrainSaysThatRedisDoesNotAnswerAJob(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{Args: []string{"--client-query-buffer-limit", "1mb"}})
	dir := t.TempDir()
	ids := leave(t, dir, append(batchOf(20), asynq.NewTask("large", make([]byte, 2<<20)))...)
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), Target: "t", SpoolDir: dir, MaxTaskBytes: -1})
	eventually(t, "all but one are there", func() bool { return p.Stats().Deferred == 1 && p.Stats().Pending == 1 })
	err := drainFor(t, p, time.Second)
	wantWords(t, err, "1 jobs left", "deadline exceeded", "1 jobs fail while Redis takes others")
	wantOnce(t, pendingIDs(t, r.Addr()), ids[:20])
}

// TestDrainCountsWhatIsNotPending: dead letters and files that nobody can read are left,
// also where the rest could not be sent.
func TestDrainCountsWhatIsNotPending(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	for range 3 { // a deadline counts whole seconds: one second from now may be over at once
		leave(t, dir, asynq.NewTask("t", nil, asynq.Deadline(time.Now().Add(2*time.Second))))
	}
	owners, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	must(t, os.Mkdir(filepath.Join(owners[0], "0000000000000099.seg"), 0o700))
	time.Sleep(2 * time.Second) // the deadlines pass: that is what makes dead letters
	proxy := redistest.NewProxy(t, r.Addr())
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), Target: "t", SpoolDir: dir})
	wantWords(t, drainFor(t, p, patience), "3 dead letters", "1 segments cannot be read", "0000000000000099.seg")

	proxy.Refuse()
	proxy.Cut()
	enqueue(t, p, 2)
	wantWords(t, drainFor(t, p, 100*time.Millisecond), "2 jobs left", "outage since", "3 dead letters", "1 segments cannot be read")
}

// TestDrainEndsWhileJobsKeepComing: what is spooled after the call is not waited for, or a
// Drain would never end where jobs come faster than they are replayed.
func TestDrainEndsWhileJobsKeepComing(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	p := newProducer(t, queue.Config{
		Redis: server(r.Addr()), SpoolDir: t.TempDir(), Replay: queue.ReplayConfig{Ordering: queue.FIFO, Rate: 400},
	})
	before := enqueue(t, p, 200)
	_, err := p.EnqueueBatch(t.Context(), batchOf(200), asynq.Queue("other"))
	must(t, err)
	must(t, r.Restart())
	ctx, cancel := context.WithCancel(t.Context())
	var producing sync.WaitGroup
	for i := range 4 {
		producing.Go(func() {
			for ctx.Err() == nil {
				_, err := p.EnqueueBatch(context.WithoutCancel(ctx), batchOf(10), asynq.Queue([]string{"default", "other"}[i%2]))
				if err != nil {
					t.Error(err)
				}
				time.Sleep(10 * time.Millisecond) // 4,000 jobs per second
			}
		})
	}
	defer producing.Wait()
	defer cancel()
	eventually(t, "others come behind", func() bool { return p.Stats().Pending > 410 })
	drain(t, p)
	if st := p.Stats(); st.Pending == 0 {
		t.Errorf("nothing was spooled behind: %+v", st)
	}
	there := pendingIDs(t, r.Addr())
	for i, id := range before {
		if k := len(there) - 1 - i; k < 0 || there[k] != id {
			t.Fatalf("job %d is not there, or not in its place", i)
		}
	}
}

// TestDrainsTogether: several at once, of which some give up early.
func TestDrainsTogether(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	ids := enqueue(t, p, 1000)
	patient, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	hasty, giveUp := context.WithCancel(patient)
	var wg sync.WaitGroup
	for i := range 10 {
		ctx, want := patient, error(nil)
		if i%2 == 0 {
			ctx, want = hasty, context.Canceled
		}
		wg.Go(func() {
			if err := p.Drain(ctx); !isOrNil(err, want) {
				t.Errorf("drain %d: %v", i, err)
			}
		})
	}
	eventually(t, "the outage is known", func() bool { return p.Stats().State == queue.StateOutage })
	giveUp()
	must(t, r.Restart())
	wg.Wait()
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}

// TestDrainOfNothing needs no Redis.
func TestDrainOfNothing(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, drainOnly := range []bool{false, true} {
		p := newProducer(t, queue.Config{Redis: server(away), SpoolDir: t.TempDir(), DrainOnly: drainOnly})
		must(t, drainFor(t, p, patience))
		must(t, p.Drain(ended))
		must(t, p.Shutdown(ended))
	}
}

// TestDrainLeavesALivingOwnerAlone: what another process holds is its own to send.
func TestDrainLeavesALivingOwnerAlone(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	living := spooler(t, dir, away, "t", 30)
	dead := leave(t, dir, batchOf(5)...)
	for _, drainOnly := range []bool{true, false} {
		p := newProducer(t, queue.Config{Redis: server(r.Addr()), Target: "t", SpoolDir: dir, DrainOnly: drainOnly})
		drain(t, p)
		if st := p.Stats(); st.Pending != 0 || st.Foreign != 0 {
			t.Errorf("%+v", st)
		}
	}
	wantOnce(t, pendingIDs(t, r.Addr()), dead)
	if ids := living.Kill(); len(ids) != 30 {
		t.Errorf("it held %d jobs", len(ids))
	}
}

// TestDrainSendsWhatItAdoptsFirst: it is older than what the Producer has spooled itself and
// is in the middle of.
func TestDrainSendsWhatItAdoptsFirst(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	dir := t.TempDir()
	older := newProducer(t, queue.Config{Redis: server(away), Target: "t", SpoolDir: dir})
	ids := enqueue(t, older, 50)
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), Target: "t", SpoolDir: dir, Replay: queue.ReplayConfig{Rate: 200}})
	own := enqueue(t, p, 300)
	must(t, r.Restart())
	eventually(t, "some of its own are sent", func() bool { return p.Stats().Replayed > 20 })
	closeProducer(t, older)
	drain(t, p)
	there := pendingIDs(t, r.Addr())
	wantOnce(t, there, append(slices.Clone(ids), own...))
	if last := slices.Index(there, own[299]); last != 0 {
		t.Errorf("the youngest job has %d behind it", last)
	}
	if st := p.Stats(); st.Adopted != 50 {
		t.Errorf("%+v", st)
	}
}

// TestDrainRacesClose lets Drain, Shutdown and Close of one Producer meet at any moment of
// a replay: all return, and the next Producer sends the rest.
func TestDrainRacesClose(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	var ids []string
	for round := range 12 {
		ids = append(ids, leave(t, dir, batchOf(700)...)...)
		p := newProducer(t, queue.Config{Redis: server(r.Addr()), Target: "t", SpoolDir: dir})
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*round)*time.Millisecond)
				defer cancel()
				err := p.Shutdown(ctx)
				if err != nil && !errors.Is(err, queue.ErrClosed) && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if err := p.Drain(t.Context()); !errors.Is(err, queue.ErrClosed) {
					t.Errorf("after Shutdown: %v", err)
				}
			})
			wg.Go(func() {
				if err := p.Drain(t.Context()); err != nil && !errors.Is(err, queue.ErrClosed) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	drain(t, newProducer(t, queue.Config{Redis: server(r.Addr()), Target: "t", SpoolDir: dir}))
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}

// TestShutdown: it ends with its context, what it could not send stays for the next
// start, and later calls say that the Producer is closed.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for name, patience := range map[string]time.Duration{"no time": 0, "some time": 200 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{})
			must(t, r.Kill())
			cfg := queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()}
			p := newProducer(t, cfg)
			ids := enqueue(t, p, 9)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := p.Shutdown(ctx)
			wantWords(t, err, "9 jobs left", "connection refused")
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, queue.ErrClosed) {
				t.Error(err)
			}
			for call, err := range map[string]error{"again": p.Shutdown(ctx), "with time": p.Shutdown(t.Context()), "Drain": p.Drain(ctx)} {
				if !errors.Is(err, queue.ErrClosed) {
					t.Errorf("%s: %v", call, err)
				}
			}
			must(t, p.Close())
			must(t, r.Restart())
			drain(t, newProducer(t, cfg))
			wantOnce(t, pendingIDs(t, r.Addr()), ids)
		})
	}
}
