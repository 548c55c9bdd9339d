package queue_test

import (
	"errors"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool"
)

func pauseReplay(tb testing.TB, dir string) {
	tb.Helper()
	must(tb, spool.PauseReplay(dir, spool.Pause{Since: time.Now(), By: "test"}))
}

// TestPauseHoldsReplayAndNotLiveTraffic: while replay is paused an outage still ends, jobs go
// to Redis again, and what is spooled waits, also for a process that is started anew.
func TestPauseHoldsReplayAndNotLiveTraffic(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	dir := t.TempDir()
	cfg := queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Target: "t"}
	p := newProducer(t, cfg)
	ids := enqueue(t, p, 10)
	pauseReplay(t, dir)
	eventually(t, "the pause is seen", func() bool { return p.Stats().Paused != nil })
	must(t, r.Restart())
	eventually(t, "the outage ends", func() bool { return p.Stats().State == queue.StateUp })
	live := enqueue(t, p, 5)
	wantOnce(t, pendingIDs(t, r.Addr()), live)
	if err := p.Drain(t.Context()); !errors.Is(err, queue.ErrPaused) {
		t.Errorf("drain: %v", err)
	}
	closeProducer(t, p)
	p = newProducer(t, cfg)
	if err := p.Drain(t.Context()); !errors.Is(err, queue.ErrPaused) || p.Stats().Pending != 10 {
		t.Errorf("drain after a restart: %v, %+v", err, p.Stats())
	}
	wantOnce(t, pendingIDs(t, r.Addr()), live)
	was, err := spool.ResumeReplay(dir)
	if err != nil || !was {
		t.Fatal(was, err)
	}
	eventually(t, "all is sent", func() bool { return p.Stats().Pending == 0 })
	wantOnce(t, pendingIDs(t, r.Addr()), append(live, ids...))
	if st := p.Stats(); st.Paused != nil {
		t.Errorf("%+v", st)
	}
}

// TestPauseInTheMiddleOfAReplay: what is on its way is settled, then nothing more is sent.
func TestPauseInTheMiddleOfAReplay(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	leaveMany(t, dir, 5000, 3)
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Target: "t", Replay: queue.ReplayConfig{Rate: 2000}})
	eventually(t, "some are sent", func() bool { return p.Stats().Replayed > 100 })
	pauseReplay(t, dir)
	if err := p.Drain(t.Context()); !errors.Is(err, queue.ErrPaused) {
		t.Fatal(err)
	}
	st := p.Stats()
	if st.Pending == 0 || scriptRuns(t, r) != int(st.Replayed) {
		t.Errorf("%d pending, %d sent, %d settled", st.Pending, scriptRuns(t, r), st.Replayed)
	}
	if err := p.Drain(t.Context()); !errors.Is(err, queue.ErrPaused) || p.Stats().Replayed != st.Replayed {
		t.Errorf("%v, %d more", err, p.Stats().Replayed-st.Replayed)
	}
	must(t, second(spool.ResumeReplay(dir)))
	drain(t, p)
	if n := scriptRuns(t, r); n != 5000 {
		t.Errorf("%d sent", n)
	}
}

// TestOnlySendsWhatItPicks: all else stays pending, and Drain does not wait for it.
func TestOnlySendsWhatItPicks(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	var tasks []*asynq.Task
	for i := range 3000 {
		tasks = append(tasks, asynq.NewTask([]string{"a", "b", "c"}[i%3], nil))
	}
	ids := leave(t, dir, tasks...)
	wanted := ids[:0:0]
	for i, id := range ids {
		if i%3 == 1 {
			wanted = append(wanted, id)
		}
	}
	p := newProducer(t, queue.Config{
		Redis: server(r.Addr()), SpoolDir: dir, Target: "t", DrainOnly: true,
		Replay: queue.ReplayConfig{Only: func(e queue.JobEvent) bool { return e.Type == "b" && e.TaskID != wanted[7] }},
	})
	drain(t, p)
	wantOnce(t, pendingIDs(t, r.Addr()), append(append([]string{}, wanted[:7]...), wanted[8:]...))
	if st := p.Stats(); st.Pending != 2001 {
		t.Errorf("%+v", st)
	}
}

// TestAPauseIsQuiet: what is due while replay is paused is no reason to turn round and round.
func TestAPauseIsQuiet(t *testing.T) {
	t.Parallel()
	quiet := func(t *testing.T, p *queue.Producer, dir string) {
		t.Helper()
		pauseReplay(t, dir)
		eventually(t, "the pause is seen", func() bool { return p.Stats().Paused != nil })
		p.Turns(1500 * time.Millisecond) // until the first is due
		if n := p.Turns(2 * time.Second); n > 20 {
			t.Errorf("%d turns within 2 s", n)
		}
	}
	t.Run("a job that is passed over", func(t *testing.T) {
		t.Parallel()
		r, dir := redistest.Run(t, redistest.Options{Args: []string{"--client-query-buffer-limit", "1mb"}}), t.TempDir()
		leave(t, dir, asynq.NewTask("t", make([]byte, 2<<20)))
		p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Target: "t", MaxTaskBytes: -1})
		eventually(t, "it is passed over", func() bool { return p.Stats().Deferred == 1 })
		quiet(t, p, dir)
	})
	t.Run("a Redis without room", func(t *testing.T) {
		t.Parallel()
		r, dir := redistest.Run(t, small()), t.TempDir()
		must(t, client(t, r.Addr()).SetRange(t.Context(), "ballast", 6<<20, "x").Err())
		leave(t, dir, batchOf(10)...)
		p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Target: "t"})
		eventually(t, "replay waits", func() bool { return p.Stats().ReplayWaits != "" })
		quiet(t, p, dir)
	})
}
