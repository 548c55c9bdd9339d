package queue_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// spooled fills a SpoolDir with tasks for a target named t, as a process did that is gone,
// and returns their ids.
func spooled(tb testing.TB, dir string, tasks []*asynq.Task, opts ...asynq.Option) (ids []string) {
	tb.Helper()
	p := newProducer(tb, queue.Config{Redis: server("127.0.0.1:1"), Target: "t", SpoolDir: dir, MaxTaskBytes: -1})
	for some := range slices.Chunk(tasks, 1000) {
		infos, err := p.EnqueueBatch(tb.Context(), some, opts...)
		must(tb, err)
		for _, info := range infos {
			ids = append(ids, info.ID)
		}
	}
	closeProducer(tb, p)
	return ids
}

// tasksOf returns tasks with payloads of 4 to 10 KB, so many bytes together.
func tasksOf(bytes int) (tasks []*asynq.Task) {
	for i := 0; bytes > 0; i++ {
		n := 4000 + i*397%6000
		tasks = append(tasks, asynq.NewTask("t", fmt.Appendf(nil, "%0*d", n, i)))
		bytes -= n
	}
	return tasks
}

// small is a Redis of 8 MB that refuses writes when they are used up.
func small(args ...string) redistest.Options {
	return redistest.Options{Args: append([]string{"--maxmemory", "8mb", "--maxmemory-policy", "noeviction"}, args...)}
}

// workers are plain asynq servers that count what they run, and keep what they complain of.
type workers struct {
	mu   sync.Mutex
	runs []string
	said []string
}

func startWorkers(tb testing.TB, r *redistest.Server, servers, concurrency int) *workers {
	tb.Helper()
	w := &workers{}
	for range servers {
		srv := asynq.NewServer(server(r.Addr()), asynq.Config{
			Concurrency: concurrency, Logger: w, LogLevel: asynq.WarnLevel, TaskCheckInterval: 20 * time.Millisecond,
		})
		must(tb, srv.Start(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
			id, _ := asynq.GetTaskID(ctx)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.runs = append(w.runs, id)
			return nil
		})))
		tb.Cleanup(srv.Shutdown)
	}
	return w
}

func (w *workers) note(args []any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, fmt.Sprint(args...))
}

func (w *workers) Debug(...any)      {}
func (w *workers) Info(...any)       {}
func (w *workers) Warn(args ...any)  { w.note(args) }
func (w *workers) Error(args ...any) { w.note(args) }
func (w *workers) Fatal(args ...any) { w.note(args) }

// look returns what was run and what was said so far.
func (w *workers) look() (runs, said []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.runs), slices.Clone(w.said)
}

// memoryOf returns a number of INFO memory.
func memoryOf(tb testing.TB, rdb *redis.Client, name string) (n int64) {
	tb.Helper()
	info, err := rdb.Info(context.Background(), "memory").Result()
	must(tb, err)
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			_, err := fmt.Sscan(value, &n)
			must(tb, err)
		}
	}
	return n
}

// TestReplayLeavesRoomForWorkers replays six times of what Redis can hold: workers must be
// able to take jobs out of it all the time, which needs writes.
func TestReplayLeavesRoomForWorkers(t *testing.T) {
	t.Parallel()
	size := 50 << 20
	if testing.Short() {
		size /= 4
	}
	dir := t.TempDir()
	ids := spooled(t, dir, tasksOf(size))
	r := redistest.Run(t, small())
	w := startWorkers(t, r, 2, 2)
	rdb := client(t, r.Addr())
	log, lines := logger()
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), Target: "t", SpoolDir: dir, Logger: log})
	var most int64
	var waits string
	within(t, 3*patience, "all jobs ran", func() bool {
		most = max(most, memoryOf(t, rdb, "used_memory"))
		st := p.Stats()
		if waits == "" {
			waits = st.ReplayWaits
		}
		runs, _ := w.look()
		return len(runs) >= len(ids)
	})
	drain(t, p)
	runs, said := w.look()
	wantOnce(t, runs, ids)
	t.Logf("%d jobs, at most %d bytes used", len(ids), most)
	if len(said) > 0 {
		t.Errorf("the workers complain: %q", said)
	}
	st := p.Stats()
	if st.Outages != 0 || st.Replayed != int64(len(ids)) || st.ReplayWaits != "" {
		t.Errorf("%+v", st)
	}
	if !strings.Contains(waits, "nearly full") {
		t.Errorf("while it waited, Stats said %q", waits)
	}
	if text := strings.Join(lines.all(), ""); strings.Count(text, "nearly full") != 1 {
		t.Errorf("%d lines: %s", len(lines.all()), text)
	}
}

// TestWithoutRoomWorkersAreStuck is what looking for room is for: a replay that fills Redis, at
// which point nothing can be taken out of it either.
func TestWithoutRoomWorkersAreStuck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := spooled(t, dir, tasksOf(12<<20))
	r := redistest.Run(t, small())
	p := newProducer(t, queue.Config{
		Redis: server(r.Addr()), Target: "t", SpoolDir: dir, Replay: queue.ReplayConfig{MaxMemory: -1},
	})
	eventually(t, "Redis is full", func() bool { return strings.Contains(p.Stats().OutageCause, "OOM") })
	w := startWorkers(t, r, 2, 2)
	eventually(t, "the workers complain", func() bool {
		_, said := w.look()
		return strings.Contains(strings.Join(said, ""), "OOM")
	})
	if runs, _ := w.look(); len(runs) > 0 {
		t.Errorf("%d jobs ran all the same: the test shows nothing", len(runs))
	}
	must(t, client(t, r.Addr()).ConfigSet(t.Context(), "maxmemory", "0").Err())
	eventually(t, "all jobs ran", func() bool {
		runs, _ := w.look()
		return len(runs) >= len(ids)
	})
	runs, _ := w.look()
	wantOnce(t, runs, ids)
}

// TestReplayWaitsForRoom has a Redis that is full of other things for long: nothing spins,
// one line says so, and Drain.
func TestReplayWaitsForRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := spooled(t, dir, batchOf(2000))
	opts := small("--appendonly", "yes")
	r := redistest.Run(t, opts)
	rdb := client(t, r.Addr())
	must(t, rdb.SetRange(t.Context(), "ballast", 6<<20, "x").Err())
	proxy := redistest.NewProxy(t, r.Addr())
	log, lines := logger()
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), Target: "t", SpoolDir: dir, Logger: log})
	eventually(t, "replay waits", func() bool { return strings.Contains(p.Stats().ReplayWaits, "nearly full") })

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	before := proxy.Requests("INFO")
	err := p.Drain(ctx)
	if err == nil || !strings.Contains(err.Error(), "2000 jobs left") || !strings.Contains(err.Error(), "nearly full") {
		t.Errorf("drain: %v", err)
	}
	if n := proxy.Requests("INFO") - before; n > 20 {
		t.Errorf("Redis was asked %d times within 2 s", n)
	}
	if n := p.Turns(2 * time.Second); n > 20 {
		t.Errorf("%d turns within 2 s", n)
	}
	if st := p.Stats(); st.State != queue.StateUp || st.Replayed > 0 {
		t.Errorf("%+v", st)
	}
	if text := strings.Join(lines.all(), ""); strings.Count(text, "nearly full") != 1 || len(lines.all()) > 2 {
		t.Errorf("%d lines: %s", len(lines.all()), text)
	}

	// An outage on top.
	must(t, r.Kill())
	_, err = p.Enqueue(asynq.NewTask("t", nil))
	must(t, err)
	if n := p.Turns(3 * time.Second); n > 40 {
		t.Errorf("%d turns within 3 s of an outage", n)
	}
	if st := p.Stats(); st.State != queue.StateOutage {
		t.Errorf("%+v", st)
	}
	eventually(t, "it does not wait for room any more", func() bool { return p.Stats().ReplayWaits == "" })
	must(t, r.Restart())
	eventually(t, "replay waits again", func() bool { return strings.Contains(p.Stats().ReplayWaits, "nearly full") })
	must(t, rdb.Del(t.Context(), "ballast").Err())
	drain(t, p)
	if n := len(pendingIDs(t, r.Addr())); n != len(ids)+1 {
		t.Errorf("%d of %d", n, len(ids)+1)
	}
	if st := p.Stats(); st.ReplayWaits != "" || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}

// TestReplayWithoutARightToInfo: a user may be denied it, then nothing is known of memory.
func TestReplayWithoutARightToInfo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := spooled(t, dir, batchOf(3000))
	r := redistest.Run(t, redistest.Options{Args: append(withUser(strings.Replace(producerRights, "+info", "", 1)), "--maxmemory", "100mb")})
	log, lines := logger()
	p := newProducer(t, queue.Config{
		Redis:  asynq.RedisClientOpt{Addr: r.Addr(), Username: "app", Password: "secret"},
		Target: "t", SpoolDir: dir, Logger: log,
	})
	drain(t, p)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	text := strings.Join(lines.all(), "")
	if strings.Count(text, "the user needs +info") != 1 || strings.Count(text, "WARN") != 1 {
		t.Error(text)
	}
	if st := p.Stats(); st.Outages != 0 || st.ReplayWaits != "" {
		t.Errorf("%+v", st)
	}
}

// TestReplayIntoRedisWithoutABound never waits.
func TestReplayIntoRedisWithoutABound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := spooled(t, dir, tasksOf(12<<20))
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	log, lines := logger()
	p := newProducer(t, queue.Config{Redis: server(proxy.Addr()), Target: "t", SpoolDir: dir, Logger: log})
	drain(t, p)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	if n := proxy.Requests("INFO"); n < 1 || n > 10 {
		t.Errorf("Redis was asked %d times", n)
	}
	if text := strings.Join(lines.all(), ""); strings.Contains(text, "WARN") {
		t.Error(text)
	}
}

// TestRoomOfOneServer has a Cluster with one server that is full: the queues of others go on.
func TestRoomOfOneServer(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 2, Node: small()})
	full, roomy := c.QueueOn(0), c.QueueOn(1)
	rdb := clusterClient(t, c)
	must(t, rdb.SetRange(t.Context(), "{"+full+"}ballast", 6<<20, "x").Err())
	dir := t.TempDir()
	waiting := spooled(t, dir, batchOf(1000), asynq.Queue(full))
	others := spooled(t, dir, batchOf(1000), asynq.Queue(roomy))
	p := newProducer(t, queue.Config{Redis: clusterOf(c), Target: "t", SpoolDir: dir})
	eventually(t, "the others are replayed", func() bool { return p.Stats().Replayed >= int64(len(others)) })
	if n := len(pendingOf(t, rdb, full)); n > 0 {
		t.Errorf("%d jobs went to the server that is full", n)
	}
	wantOnce(t, pendingOf(t, rdb, roomy), others)
	eventually(t, "it says why it waits", func() bool { return strings.Contains(p.Stats().ReplayWaits, "nearly full") })
	must(t, rdb.Del(t.Context(), "{"+full+"}ballast").Err())
	drain(t, p)
	wantOnce(t, pendingOf(t, rdb, full), waiting)
}
