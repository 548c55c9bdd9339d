package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
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

// drillCommand runs spool drill. It calls heard with the first words on stderr.
func drillCommand(ctx context.Context, dir, addr string, heard func(), flags ...string) (code int, stdout, stderr string) {
	var out bytes.Buffer
	err := &listener{heard: heard}
	code = run(ctx, append([]string{"drill", "--dir", dir, "--redis", "redis://" + addr}, flags...), &out, err)
	return code, out.String(), err.text.String()
}

type listener struct {
	text  bytes.Buffer
	once  sync.Once
	heard func()
}

func (l *listener) Write(b []byte) (int, error) {
	l.once.Do(l.heard)
	return l.text.Write(b)
}

func nothing() {}

// redisKeys returns all keys but those of probes, which expire.
func redisKeys(t *testing.T, addr string) []string {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	keys, err := c.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(keys, func(k string) bool { return strings.HasSuffix(k, ":spool:probe") })
}

func wantNothingLeft(t *testing.T, dir, addr string) {
	t.Helper()
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("left on disk: %v", left)
	}
	if keys := redisKeys(t, addr); len(keys) != 0 {
		t.Errorf("left in Redis: %v", keys)
	}
}

func TestDrill(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	code, stdout, stderr := drillCommand(t.Context(), dir, r.Addr(), nothing)
	wantText(t, "up", normal(stdout, dir, r.Addr()), `STEP  RESULT  TIME  DETAIL
open the spool  ok  N  -
write the job  ok  N  -
replay it to Redis  ok  N  -
find it in Redis  ok  N  pending
take it out again  ok  N  -
the way through DIR to redis://ADDR/0 works: N in all
`)
	if code != exitOK || stderr != "" {
		t.Errorf("%d, %s", code, stderr)
	}
	wantNothingLeft(t, dir, r.Addr())
	code, stdout, stderr = drillCommand(t.Context(), dir, r.Addr(), nothing, "--json")
	wantText(t, "up, as JSON", normal(stdout, dir, r.Addr()), `{
  "dir": "DIR",
  "redis": "redis://ADDR/0",
  "queue": "spool-drill",
  "type": "spool:drill",
  "id": "ID",
  "ok": true,
  "steps": [
  {
  "step": "open the spool",
  "result": "ok",
  "duration_ms": N
  },
  {
  "step": "write the job",
  "result": "ok",
  "duration_ms": N
  },
  {
  "step": "replay it to Redis",
  "result": "ok",
  "duration_ms": N
  },
  {
  "step": "find it in Redis",
  "result": "ok",
  "duration_ms": N,
  "detail": "pending"
  },
  {
  "step": "take it out again",
  "result": "ok",
  "duration_ms": N
  }
  ],
  "left": []
}
`)
	if code != exitOK || stderr != "" {
		t.Errorf("%d, %s", code, stderr)
	}
	wantNothingLeft(t, dir, r.Addr())
}

func TestDrillWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	r, _ := downServer(t)
	dir := t.TempDir()
	code, stdout, stderr := drillCommand(t.Context(), dir, r.Addr(), nothing, "--timeout", "1s")
	wantText(t, "down", normal(stdout, dir, r.Addr()), `STEP  RESULT  TIME  DETAIL
open the spool  ok  N  -
write the job  ok  N  -
replay it to Redis  failed  N  not within N: dial tcp ADDR: connect: connection refused
find it in Redis  skipped  -  -
take it out again  ok  N  1 job taken out of the spool; whether Redis has taken it without an answer is not known: that would be ID in queue spool-drill
`)
	wantText(t, "down, stderr", normal(stderr, dir, r.Addr()), `Redis does not take the job: dial tcp ADDR: connect: connection refused; waiting for it until --timeout
spool: could not replay it to Redis: not within N: dial tcp ADDR: connect: connection refused
`)
	if code != exitError {
		t.Errorf("exit code %d", code)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	wantNothingLeft(t, dir, r.Addr())
}

func TestDrillWaitsForRedis(t *testing.T) {
	t.Parallel()
	r, _ := downServer(t)
	dir := t.TempDir()
	back := make(chan error, 1)
	code, stdout, stderr := drillCommand(t.Context(), dir, r.Addr(), func() { back <- r.Restart() })
	if err := <-back; err != nil {
		t.Fatal(err)
	}
	if code != exitOK || !strings.Contains(stdout, " works: ") || !strings.Contains(stderr, "waiting for it") {
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
	wantNothingLeft(t, dir, r.Addr())
}

func TestDrillIsInterrupted(t *testing.T) {
	t.Parallel()
	r, _ := downServer(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	code, stdout, stderr := drillCommand(ctx, dir, r.Addr(), cancel)
	if code != exitError || !strings.HasSuffix(stderr, "spool: interrupted\n") || !strings.Contains(stdout, "1 job taken out of the spool") {
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
	if code, _, stderr := drillCommand(ctx, dir, r.Addr(), nothing); code != exitError || stderr != "spool: interrupted\n" {
		t.Errorf("before it began: %d, %s", code, stderr)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	wantNothingLeft(t, dir, r.Addr())
}

// TestDrillOfAFrozenRedis: what was sent without an answer is taken out, or said.
func TestDrillOfAFrozenRedis(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := drillCommand(t.Context(), dir, r.Addr(), nothing, "--timeout", "1s", "--json")
	var got drillReport
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if last := got.Steps[len(got.Steps)-1]; code != exitError || got.OK || last.Result != stepOK || !strings.Contains(last.Detail, got.ID+" in queue spool-drill") {
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("left on disk: %v", left)
	}
	if err := r.Thaw(); err != nil {
		t.Fatal(err)
	}
}

// TestDrillLeavesOthersAlone: what a dead process has left, and queues that were there.
func TestDrillLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	dir := t.TempDir()
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	closeProducer(t, spooled(t, dir, r.Addr(), 5))
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	c := asynq.NewClient(asynq.RedisClientOpt{Addr: r.Addr()})
	defer c.Close()
	for _, name := range []string{"full", drillQueue} {
		if _, err := c.Enqueue(asynq.NewTask("t", nil), asynq.Queue(name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Enqueue(asynq.NewTask("t", nil), asynq.Queue("empty"), asynq.TaskID("id")); err != nil {
		t.Fatal(err)
	}
	inspector := inspectorOf(t, r.Addr())
	if err := inspector.DeleteTask("empty", "id"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"full", "empty", "new", drillQueue} {
		if code, stdout, stderr := drillCommand(t.Context(), dir, r.Addr(), nothing, "--queue", name, "--type", "mine"); code != exitOK {
			t.Errorf("%s: %d\n%s\n%s", name, code, stdout, stderr)
		}
	}
	queues, err := inspector.Queues()
	if slices.Sort(queues); err != nil || !slices.Equal(queues, []string{"empty", "full", drillQueue}) {
		t.Errorf("queues: %v, %v", queues, err)
	}
	for _, name := range []string{"full", drillQueue} {
		if info, err := inspector.GetQueueInfo(name); err != nil || info.Size != 1 {
			t.Errorf("%+v, %v", info, err)
		}
	}
	if left := names(t, dir); !slices.Equal(left, before) {
		t.Errorf("on disk %v, want %v", left, before)
	}
	if n := inRedis(t, r.Addr()); n != 0 {
		t.Errorf("%d jobs of others were replayed", n)
	}
}

// TestDrillTakesOutWhatAKilledOneLeft: with Redis up, and with Redis down.
func TestDrillTakesOutWhatAKilledOneLeft(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	dir := t.TempDir()
	killed := func() {
		p, err := queue.New(queue.Config{
			Redis: asynq.RedisClientOpt{Addr: r.Addr()}, SpoolDir: dir, Target: drillTarget(uri + "/0"), Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Enqueue(asynq.NewTask("spool:drill", nil), asynq.Queue(drillQueue)); err != nil {
			t.Fatal(err)
		}
		closeProducer(t, p)
	}
	killed()
	if code, stdout, _ := drillCommand(t.Context(), dir, r.Addr(), nothing, "--timeout", "1s"); code != exitError || !strings.Contains(stdout, "2 jobs taken out") {
		t.Errorf("%d\n%s", code, stdout)
	}
	killed()
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := drillCommand(t.Context(), dir, r.Addr(), nothing); code != exitOK {
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
	wantNothingLeft(t, dir, r.Addr())
}

// TestDrillBesideAWorker gives the last two steps a job that a worker has had, and one that
// a worker has.
func TestDrillBesideAWorker(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	begin := func() *drill {
		d := &drill{driller: driller{queue: drillQueue, typename: "t"}, inspector: inspectorOf(t, r.Addr()), ownQueue: true, settled: newSettled()}
		d.report.ID, d.task = "id", asynq.NewTask("t", []byte("p"))
		d.settled.add(queue.JobEvent{TaskID: "id", Queue: drillQueue, Outcome: "delivered"})
		return d
	}
	c := asynq.NewClient(asynq.RedisClientOpt{Addr: r.Addr()})
	defer c.Close()
	if _, err := c.Enqueue(asynq.NewTask("t", nil), asynq.Queue(drillQueue), asynq.TaskID("id")); err != nil {
		t.Fatal(err)
	}
	gone := begin()
	if err := gone.inspector.DeleteTask(drillQueue, "id"); err != nil {
		t.Fatal(err)
	}
	if detail, err := gone.find(t.Context()); err != nil || !strings.Contains(detail, "a worker has taken it") {
		t.Errorf("%s, %v", detail, err)
	}
	if detail, err := gone.takeOut(t.Context(), false); err != nil || detail != "it was gone" || len(gone.report.Left) != 0 {
		t.Errorf("%s, %v, %v", detail, err, gone.report.Left)
	}

	c = asynq.NewClient(asynq.RedisClientOpt{Addr: r.Addr()}) // the queue is to be registered again
	defer c.Close()
	if _, err := c.Enqueue(asynq.NewTask("t", []byte("p")), asynq.Queue(drillQueue), asynq.TaskID("id")); err != nil {
		t.Fatal(err)
	}
	started, release := make(chan struct{}), make(chan struct{})
	srv := asynq.NewServer(asynq.RedisClientOpt{Addr: r.Addr()}, asynq.Config{Queues: map[string]int{drillQueue: 1}, LogLevel: asynq.FatalLevel})
	err := srv.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		close(started)
		<-release
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown()
	defer close(release)
	<-started
	active := begin()
	if detail, err := active.find(t.Context()); err != nil || detail != "active" {
		t.Errorf("%s, %v", detail, err)
	}
	_, err = active.takeOut(t.Context(), false)
	if left := active.report.Left; err == nil || len(left) != 1 || left[0] != "the job is in Redis, id in queue "+drillQueue {
		t.Errorf("%v, %v", err, left)
	}
	if err := active.report.verdict(t.Context()); !errors.As(err, new(leftError)) {
		t.Errorf("verdict: %v", err)
	}
	active.task = asynq.NewTask("t", []byte("another"))
	if _, err := active.find(t.Context()); err == nil {
		t.Error("another payload was taken for the job's")
	}
}

func TestDrillThatCannotOpenTheSpool(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := drill{
		driller: driller{queue: drillQueue, typename: "t", timeout: time.Minute}, opt: asynq.RedisClientOpt{Addr: r.Addr()}, settled: newSettled(),
		report: drillReport{Dir: file, Redis: "redis://" + r.Addr()},
	}
	d.all(t.Context())
	for i, s := range d.report.Steps {
		if want := []string{stepFailed, stepSkipped}[min(i, 1)]; s.Result != want {
			t.Errorf("%+v, want %s", s, want)
		}
	}
	err := d.report.verdict(t.Context())
	if err == nil || !strings.Contains(err.Error(), "could not open the spool: ") || d.report.OK || len(d.report.Left) != 0 {
		t.Errorf("%v: %+v", err, d.report)
	}
}

func TestDrillCalledWrongly(t *testing.T) {
	t.Setenv("SPOOL_DIR", "")
	t.Setenv("REDIS_URL", "")
	dir := filepath.Join(t.TempDir(), "typo")
	place := "--dir " + dir + " --redis redis://:pass@127.0.0.1:1 "
	for _, line := range []string{
		"", "--dir " + dir, "--redis redis://127.0.0.1:1", place + "extra", place + "--timeout 0", place + "--timeout -1s", place + "--queue=", place + "--type=",
	} {
		code, stdout, stderr := spoolCommand(t.Context(), append([]string{"drill"}, strings.Fields(line)...)...)
		if code != exitUsage || stdout != "" || stderr == "" || strings.Contains(stderr, "pass") {
			t.Errorf("%s: %d, %q, %q", line, code, stdout, stderr)
		}
	}
	code, stdout, stderr := spoolCommand(t.Context(), append([]string{"drill"}, strings.Fields(place)...)...)
	if code != exitError || stdout != "" || !strings.Contains(stderr, "does not exist") || strings.Contains(stderr, "pass") {
		t.Errorf("%d, %q, %q", code, stdout, stderr)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s was created: %v", dir, err)
	}
	if code, stdout, stderr := spoolCommand(t.Context(), "drill", "--help"); code != exitOK || !strings.Contains(stdout, "Examples:") || stderr != "" {
		t.Errorf("help: %d, %q, %q", code, stdout, stderr)
	}
}

func TestDrillAndEnqueueOnACluster(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{})
	dir, addr := t.TempDir(), c.Addrs()[0]
	uri := "redis-cluster://" + addr
	code, stdout, stderr := spoolCommand(t.Context(), "drill", "--dir", dir, "--redis", uri)
	if code != exitOK || !strings.Contains(stdout, "to redis-cluster://"+addr+" works: ") {
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
	wantNothingLeft(t, dir, addr)
	if code, stdout, stderr := enqueueCommand(t.Context(), dir, uri); code != exitOK || !strings.HasSuffix(stdout, " in queue default: redis\n") {
		t.Errorf("%d\n%s\n%s", code, stdout, stderr)
	}
}
