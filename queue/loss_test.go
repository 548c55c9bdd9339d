package queue_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestLoss has Redis lose what it had acknowledged, in each way that one server can.
func TestLoss(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*testing.T, *redistest.Server, *lossTrial){
		"kill -9 without appendonly": func(t *testing.T, r *redistest.Server, _ *lossTrial) {
			t.Helper()
			killAndRestart(t, r)
		},
		"FLUSHALL under live connections": func(t *testing.T, r *redistest.Server, _ *lossTrial) {
			t.Helper()
			must(t, client(t, r.Addr()).FlushAll(t.Context()).Err())
		},
		"restart from an old RDB": func(t *testing.T, r *redistest.Server, _ *lossTrial) {
			t.Helper()
			must(t, client(t, r.Addr()).Save(t.Context()).Err())
			time.Sleep(3 * time.Second) // what comes now is not in it
			killAndRestart(t, r)
		},
		"and does not answer in the middle": func(t *testing.T, r *redistest.Server, _ *lossTrial) {
			t.Helper()
			must(t, client(t, r.Addr()).FlushAll(t.Context()).Err())
			for range 3 {
				must(t, r.Freeze())
				time.Sleep(700 * time.Millisecond)
				must(t, r.Thaw())
				time.Sleep(20 * time.Millisecond)
			}
		},
		"twice, the second time in the middle of the first": func(t *testing.T, r *redistest.Server, l *lossTrial) {
			t.Helper()
			killAndRestart(t, r)
			eventually(t, "the loss shows", func() bool { return l.p.Stats().Lost > 0 })
			killAndRestart(t, r)
		},
		"twice, the second time right after the first": func(t *testing.T, r *redistest.Server, l *lossTrial) {
			t.Helper()
			killAndRestart(t, r)
			eventually(t, "the loss is noticed", func() bool { return l.p.Stats().Losses > 0 })
			killAndRestart(t, r) // before the next marker
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{})
			l := newLossTrial(t, queue.Config{Redis: server(r.Addr())}, client(t, r.Addr()), "default")
			l.load(time.Second)
			lose(t, r, l)
			time.Sleep(time.Second)
			l.wantLoss()
			l.end()
			if name == "FLUSHALL under live connections" || name == "kill -9 without appendonly" {
				for id, n := range l.w.counts() { // a job is lost once, so it is sent again once
					if n > 2 {
						t.Errorf("%s ran %d times", id, n)
					}
				}
			}
		})
	}
}

// TestLossIsReported and nothing is sent again.
func TestLossIsReported(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	log, said := logger()
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), Guard: time.Minute, OnLoss: queue.ReportLost, Logger: log})
	ids := enqueue(t, p, 300)
	flushAll(t, r, p)
	eventually(t, "the loss is noticed", func() bool { return p.Stats().Losses == 1 })
	drain(t, p)
	if st := p.Stats(); st.Lost != int64(len(ids)) || st.Resent != 0 || st.ResentMaybeDone != 0 {
		t.Errorf("%+v", st)
	}
	if left := pendingIDs(t, r.Addr()); len(left) != 0 {
		t.Errorf("%d jobs were sent again", len(left))
	}
	if n := len(said.all()); n != 1 {
		t.Errorf("%d lines in the log, want 1: %q", n, said.all())
	}
	time.Sleep(300 * time.Millisecond)
	if st := p.Stats(); st.Losses != 1 || st.Lost != int64(len(ids)) {
		t.Errorf("it is reported again: %+v", st)
	}
}

// TestALossThatShowsOnlyLater: the process that knew what the marker was is gone, and swept
// often before. Redis is back with a marker that is too old.
func TestALossThatShowsOnlyLater(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	cfg := guarded(t, r.Addr())
	p := newProducer(t, cfg)
	ids := enqueue(t, p, 50)
	eventually(t, "a marker covers them", p.Covered)
	must(t, client(t, r.Addr()).Save(t.Context()).Err())
	ids = append(ids, enqueue(t, p, 50)...)
	time.Sleep(11 * time.Second) // two sweeps
	closeProducer(t, p)
	killAndRestart(t, r)
	p = newProducer(t, cfg)
	wantLosses(t, 1, p)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	if st := p.Stats(); st.Resent != 50 {
		t.Errorf("%d were sent again, want the 50 that are missing", st.Resent)
	}
}

// TestWhatTheMarkerCoversIsNotLost: what was done before the marker was set to which Redis went
// back is not sent again, swept or not.
func TestWhatTheMarkerCoversIsNotLost(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, guarded(t, r.Addr()))
	w := startWorker(t, r)
	done := enqueue(t, p, 100)
	w.idle(t, len(done))
	eventually(t, "a marker covers them", p.Covered)
	must(t, client(t, r.Addr()).Save(t.Context()).Err())
	later := underLoad(t, p, "default", asynq.ProcessIn(time.Hour))
	time.Sleep(500 * time.Millisecond)
	ids := later()
	eventually(t, "another one covers these", p.Covered)
	killAndRestart(t, r)
	wantLosses(t, 1, p)
	if st := p.Stats(); st.Resent != int64(len(ids)) || st.Lost != st.Resent || st.ResentMaybeDone != 0 {
		t.Errorf("%d jobs are lost: %+v", len(ids), st)
	}
	if gone := missing(t, client(t, r.Addr()), "default", ids); len(gone) > 0 {
		t.Errorf("%d of %d jobs are missing", len(gone), len(ids))
	}
	wantOnce(t, w.ran(), done)
}
