package queue_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestLockWithTooLittleLeft: asynq takes no lock for less than a second, and refuses to try.
// The job goes without one, also in its message: a worker would give back somebody else's.
func TestLockWithTooLittleLeft(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	must(t, r.Kill())
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()})
	short, err := p.Enqueue(asynq.NewTask("short", nil), asynq.Unique(2*time.Second))
	must(t, err)
	long, err := p.Enqueue(asynq.NewTask("long", nil), asynq.Unique(time.Hour))
	must(t, err)
	spooled := time.Now()
	time.Sleep(time.Until(spooled.Add(1100 * time.Millisecond))) // the time itself is what is tested
	must(t, r.Restart())
	drain(t, p)
	rdb := client(t, r.Addr())
	if got := snap(t, rdb, "default", short.ID); got.hash["state"] != "pending" || got.msg["10"] != "" {
		t.Errorf("with less than a second left: %v", got)
	}
	got := snap(t, rdb, "default", long.ID)
	if left := time.Until(got.until); got.lock != "ID" || left > time.Hour-time.Second || left < time.Hour-patience {
		t.Errorf("with more: held by %q for %v", got.lock, left)
	}
	if keys, err := rdb.Keys(t.Context(), "asynq:{default}:unique:*").Result(); err != nil || len(keys) != 1 {
		t.Errorf("locks: %q, %v", keys, err)
	}
}

// TestClockThatWasSetBack: a process spooled jobs while its clock was an hour ahead, and
// died. In a share whose name is of then, too, all of them are sent at once; locks and
// process-ats end an hour late.
func TestClockThatWasSetBack(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	ahead := queue.ClockAhead{By: time.Hour, Dir: dir, Target: "t"}
	plain := ahead.Spool(t, asynq.NewTask("plain", nil))
	unique := ahead.Spool(t, asynq.NewTask("unique", nil), asynq.Unique(10*time.Minute))
	later := ahead.Spool(t, asynq.NewTask("later", nil), asynq.ProcessIn(10*time.Minute))
	grouped := ahead.Spool(t, asynq.NewTask("grouped", nil), asynq.Group("g"))
	aged := ahead.Spool(t, asynq.NewTask("aged", nil), queue.MaxSpoolAge(time.Minute))
	due := ahead.Spool(t, asynq.NewTask("deadline", nil), asynq.Deadline(time.Now().Add(90*time.Minute)))
	owners, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	must(t, os.Rename(owners[0], filepath.Join(dir, time.Now().Add(time.Hour).UTC().Format("20060102T150405.000")+"-00000000")))

	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Target: "t", Replay: queue.ReplayConfig{Ordering: queue.FIFO}})
	drain(t, p)
	if st := p.Stats(); st.Adopted != 6 || st.Replayed != 6 || st.Pending != 0 || st.Oldest != nil {
		t.Errorf("%+v", st)
	}
	rdb := client(t, r.Addr())
	for id, state := range map[string]string{
		plain: "pending", unique: "pending", later: "scheduled", grouped: "aggregating", aged: "pending", due: "pending",
	} {
		if got := snap(t, rdb, "default", id); got.hash["state"] != state {
			t.Errorf("%q is %v", got.msg["1"], got.hash)
		}
	}
	about := func(what string, got time.Duration) {
		if got > 70*time.Minute+time.Second || got < 70*time.Minute-patience {
			t.Errorf("%s in %v", what, got)
		}
	}
	about("the lock ends", time.Until(snap(t, rdb, "default", unique).until))
	about("it is due", time.Until(time.Unix(int64(snap(t, rdb, "default", later).lists["scheduled"]), 0)))

	var where queue.Where
	if _, err := p.Enqueue(asynq.NewTask("fresh", nil), queue.ReportTo(&where)); err != nil || where != queue.InRedis {
		t.Errorf("a new job: %v, %v", where, err)
	}
	if _, err := p.Enqueue(asynq.NewTask("unique", nil), asynq.Unique(time.Minute)); !errors.Is(err, asynq.ErrDuplicateTask) {
		t.Errorf("a twin: %v", err)
	}
}
