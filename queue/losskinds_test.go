package queue_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// guarded returns a Config with Guard.
func guarded(tb testing.TB, addr string) queue.Config {
	tb.Helper()
	return queue.Config{Redis: server(addr), SpoolDir: tb.TempDir(), Target: "t", Guard: time.Minute}
}

// flushAll empties Redis once markers cover what was enqueued.
func flushAll(tb testing.TB, r *redistest.Server, p *queue.Producer) {
	tb.Helper()
	eventually(tb, "markers cover what was enqueued", p.Covered)
	must(tb, client(tb, r.Addr()).FlushAll(tb.Context()).Err())
}

func wantLosses(tb testing.TB, n int64, producers ...*queue.Producer) {
	tb.Helper()
	for _, p := range producers {
		eventually(tb, "losses are noticed", func() bool { return p.Stats().Losses >= n })
		drain(tb, p)
		if got := p.Stats().Losses; got != n {
			tb.Errorf("%d losses, want %d", got, n)
		}
	}
}

// TestEachKindOfJobIsSentAgainAsItWas.
func TestEachKindOfJobIsSentAgainAsItWas(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, guarded(t, r.Addr()))
	deadline := time.Now().Add(time.Hour)
	kinds := map[string][]asynq.Option{
		"plain":     nil,
		"unique":    {asynq.Unique(time.Hour)},
		"own id":    {asynq.TaskID("mine")},
		"scheduled": {asynq.ProcessIn(time.Hour)},
		"both":      {asynq.ProcessIn(time.Hour), asynq.Unique(2 * time.Hour)},
		"group":     {asynq.Group("g")},
		"limits":    {asynq.MaxRetry(3), asynq.Timeout(7 * time.Second), asynq.Deadline(deadline), asynq.Retention(time.Hour)},
	}
	inspector := asynq.NewInspector(server(r.Addr()))
	defer inspector.Close()
	before := map[string]*asynq.TaskInfo{}
	for kind, opts := range kinds {
		info, err := p.Enqueue(asynq.NewTask("t:"+kind, []byte(kind)), opts...)
		must(t, err)
		before[kind], err = inspector.GetTaskInfo("default", info.ID)
		must(t, err)
	}
	lock := uniqueLocks(t, r)
	flushAll(t, r, p)
	wantLosses(t, int64(1), p) // what is missing of one queue
	for kind, want := range before {
		got, err := inspector.GetTaskInfo("default", want.ID)
		must(t, err)
		if want.State == asynq.TaskStateScheduled && !got.NextProcessAt.Equal(want.NextProcessAt) { // of one that is pending it is now
			t.Errorf("%s: to be processed at %v, want %v", kind, got.NextProcessAt, want.NextProcessAt)
		}
		got.NextProcessAt = want.NextProcessAt
		if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
			t.Errorf("%s:\n%s, want\n%s", kind, g, w)
		}
		if _, err := p.Enqueue(asynq.NewTask("t:"+kind, []byte(kind)), kinds[kind]...); (kind == "unique" || kind == "both") && !isOrNil(err, asynq.ErrDuplicateTask) {
			t.Errorf("%s: its lock is not held: %v", kind, err)
		}
	}
	for key, ttl := range uniqueLocks(t, r) {
		if d := (ttl - lock[key]).Abs(); d > time.Minute {
			t.Errorf("%s is held for %v, was for %v", key, ttl, lock[key])
		}
	}
	if st := p.Stats(); st.Resent != int64(len(kinds)) || st.ResentMaybeDone != int64(len(kinds)-2) {
		t.Errorf("%+v", st)
	}
}

// uniqueLocks returns how long the unique locks are held.
func uniqueLocks(tb testing.TB, r *redistest.Server) map[string]time.Duration {
	tb.Helper()
	rdb := client(tb, r.Addr())
	keys, err := rdb.Keys(tb.Context(), "asynq:{default}:unique:*").Result()
	must(tb, err)
	if len(keys) != 2 {
		tb.Errorf("%d locks, want 2", len(keys))
	}
	locks := map[string]time.Duration{}
	for _, k := range keys {
		locks[k] = rdb.TTL(tb.Context(), k).Val()
	}
	return locks
}

// TestWhatWasReplayedIsGuardedToo, and what was sent again because it was lost.
func TestWhatWasReplayedIsGuardedToo(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	p := newProducer(t, guarded(t, r.Addr()))
	ids := enqueue(t, p, 300) // spooled
	must(t, r.Restart())
	drain(t, p)
	for n := range int64(3) {
		flushAll(t, r, p)
		wantLosses(t, n+1, p)
		wantOnce(t, pendingIDs(t, r.Addr()), ids)
	}
	if st := p.Stats(); st.Spooled != int64(len(ids)) || st.Resent != int64(3*len(ids)) {
		t.Errorf("%+v", st)
	}
}

// TestALossThatTheSpoolHasNoRoomFor is mended part by part, as the replay makes room.
func TestALossThatTheSpoolHasNoRoomFor(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	cfg := guarded(t, r.Addr())
	cfg.Spool = queue.SpoolConfig{MaxBytes: 1 << 20, MinFreeBytes: -1}
	log, said := logger()
	cfg.Logger = log
	p := newProducer(t, cfg)
	payload := bytes.Repeat([]byte("x"), 10_000)
	tasks := make([]*asynq.Task, 300)
	for i := range tasks {
		tasks[i] = asynq.NewTask("t", payload)
	}
	infos, err := p.EnqueueBatch(t.Context(), tasks)
	must(t, err)
	flushAll(t, r, p)
	wantLosses(t, 1, p)
	wantOnce(t, pendingIDs(t, r.Addr()), idsOf(infos))
	if st := p.Stats(); st.Lost != 300 || st.Resent != 300 {
		t.Errorf("%+v", st)
	}
	if n := len(said.all()); n != 2 { // that there is no room, and what was lost
		t.Errorf("%d lines in the log: %q", n, said.all())
	}
}

// TestTwoGuardedProducersInOneSpoolDir: each sends again its own.
func TestTwoGuardedProducersInOneSpoolDir(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	cfg := guarded(t, r.Addr())
	one, two := newProducer(t, cfg), newProducer(t, cfg)
	first, second := underLoad(t, one, "default"), underLoad(t, two, "default")
	time.Sleep(500 * time.Millisecond)
	must(t, client(t, r.Addr()).FlushAll(t.Context()).Err())
	time.Sleep(500 * time.Millisecond)
	ids := append(first(), second()...)
	wantLosses(t, 1, one, two)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
}

// TestAJournalWithoutRoom keeps the newest.
func TestAJournalWithoutRoom(t *testing.T) {
	t.Parallel()
	const jobs = 3000
	r := redistest.Run(t, redistest.Options{})
	cfg := guarded(t, r.Addr())
	cfg.GuardBytes = 12 << 20
	p := newProducer(t, cfg)
	var ids []string
	for range jobs / 100 {
		tasks := make([]*asynq.Task, 100)
		for i := range tasks {
			tasks[i] = asynq.NewTask("t", bytes.Repeat([]byte("x"), 10_000))
		}
		infos, err := p.EnqueueBatch(t.Context(), tasks)
		must(t, err)
		ids = append(ids, idsOf(infos)...)
		time.Sleep(10 * time.Millisecond) // a blob of its own
	}
	flushAll(t, r, p)
	skipped := p.Stats().JournalSkipped
	wantLosses(t, 1, p)
	st := p.Stats()
	if skipped == 0 || skipped+st.Resent > jobs || st.Resent < 300 { // what is sent again may push out more
		t.Errorf("%d skipped, %d sent again of %d", skipped, st.Resent, jobs)
	}
	there := map[string]bool{}
	for _, id := range pendingIDs(t, r.Addr()) {
		there[id] = true
	}
	for _, id := range ids[jobs-int(st.Resent):] {
		if !there[id] {
			t.Fatal("it is not the newest that were kept")
		}
	}
}

// TestADamagedJournal, as after a power cut, is in nobody's way.
func TestADamagedJournal(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"truncated": func(b []byte) []byte { return b[:len(b)/2] },
		"empty":     func([]byte) []byte { return nil },
		"zeroes": func(b []byte) []byte {
			clear(b[len(b)/4:])
			return b
		},
		"junk": func(b []byte) []byte {
			for i := range b {
				b[i] = byte(i * 7)
			}
			return b
		},
		"flipped": func(b []byte) []byte {
			for i := 20_000; i < len(b); i += 997 {
				b[i] ^= 4
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{})
			cfg := guarded(t, r.Addr())
			cfg.EnqueueTimeout = 10 * time.Second // else a busy machine is an outage, and what is spooled is not in the journal
			for range 2 {
				p := newProducer(t, cfg)
				for range 5 {
					enqueue(t, p, 100)
					time.Sleep(10 * time.Millisecond)
				}
				closeProducer(t, p)
			}
			paths, err := filepath.Glob(filepath.Join(cfg.SpoolDir, "journal", "*", "*.seg"))
			must(t, err)
			if len(paths) != 2 {
				t.Fatalf("%d segments", len(paths))
			}
			b, err := os.ReadFile(paths[0])
			must(t, err)
			must(t, os.WriteFile(paths[0], damage(b), 0o600))
			must(t, client(t, r.Addr()).FlushAll(t.Context()).Err())
			log, said := logger()
			cfg.Logger = log
			p := newProducer(t, cfg)
			defer func() {
				if t.Failed() {
					t.Logf("%+v, %q", p.Stats(), said.all())
				}
			}()
			ids := enqueue(t, p, 100)
			eventually(t, "the loss is noticed", func() bool { return p.Stats().Resent >= 500 }) // of the one that is whole
			flushAll(t, r, p)
			eventually(t, "all is sent again", func() bool { return len(missing(t, client(t, r.Addr()), "default", ids)) == 0 })
			drain(t, p)
		})
	}
}

// TestAJournalThatIsTooOld: its markers may have expired in Redis, which is no loss.
func TestAJournalThatIsTooOld(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	cfg := guarded(t, r.Addr())
	cfg.Guard = time.Second
	p := newProducer(t, cfg)
	enqueue(t, p, 50)
	closeProducer(t, p)
	time.Sleep(1100 * time.Millisecond)
	must(t, client(t, r.Addr()).FlushAll(t.Context()).Err()) // the jobs are done and the marker has expired
	p = newProducer(t, cfg)
	eventually(t, "it is let go of", func() bool { return p.Journalled() == 0 })
	time.Sleep(300 * time.Millisecond)
	wantNoAlarm(t, p)
}

// TestOneShotProducers enqueue a job and close at once, again and again.
func TestOneShotProducers(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	cfg := guarded(t, r.Addr())
	w := workOn(t, cfg.Redis, "default")
	var ids []string
	for range 10 {
		p := newProducer(t, cfg)
		ids = append(ids, enqueue(t, p, 1)...)
		closeProducer(t, p)
		wantNoAlarm(t, p)
	}
	eventually(t, "all ran", func() bool { return len(w.ran()) >= len(ids) })
	p := newProducer(t, cfg)
	time.Sleep(300 * time.Millisecond)
	drain(t, p)
	wantNoAlarm(t, p)
	wantOnce(t, w.ran(), ids)
}

// TestDrainSendsWhatRedisHasLost: what a producer that does nothing, or one that has ended, had
// sent before Redis forgot it.
func TestDrainSendsWhatRedisHasLost(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	cfg := guarded(t, r.Addr())
	p := newProducer(t, cfg)
	ids := enqueue(t, p, 20)
	flushAll(t, r, p)
	drain(t, p)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	closeProducer(t, p)
	must(t, client(t, r.Addr()).FlushAll(t.Context()).Err())
	next := newProducer(t, cfg)
	drain(t, next)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	if st := next.Stats(); st.Losses != 1 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}
