package queue_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// spec is one way of calling Enqueue.
type spec struct {
	name    string
	payload []byte
	headers map[string]string
	opts    []asynq.Option
}

// specs returns every kind of task with every option, alone and in company.
func specs(now time.Time) []spec {
	kinds := []spec{
		{name: "pending"},
		{name: "in", opts: []asynq.Option{asynq.ProcessIn(time.Hour)}},
		{name: "at", opts: []asynq.Option{asynq.ProcessAt(now.Add(2*time.Hour + 700*time.Millisecond))}},
		{name: "past", opts: []asynq.Option{asynq.ProcessAt(now.Add(-time.Hour))}},
		{name: "group", opts: []asynq.Option{asynq.Group("g1")}},
		{name: "group past", opts: []asynq.Option{asynq.Group("g3"), asynq.ProcessAt(now.Add(-time.Hour))}},
		{name: "group in", opts: []asynq.Option{asynq.Group("g2"), asynq.ProcessIn(time.Hour)}},
	}
	extras := []spec{
		{name: "plain"},
		{name: "nil payload", payload: nil},
		{name: "empty payload", payload: []byte{}},
		{name: "binary payload", payload: []byte{0, 0xff, 0x80, '\n'}},
		{name: "one header", headers: map[string]string{"trace": "abc"}},
		{name: "three headers", headers: map[string]string{"a": "1", "b": "", "": "3"}},
		{name: "queue", opts: []asynq.Option{asynq.Queue("other queue")}},
		{name: "no retry", opts: []asynq.Option{asynq.MaxRetry(0)}},
		{name: "retry", opts: []asynq.Option{asynq.MaxRetry(7)}},
		{name: "huge retry", opts: []asynq.Option{asynq.MaxRetry(math.MaxInt32)}},
		{name: "timeout", opts: []asynq.Option{asynq.Timeout(90 * time.Second)}},
		{name: "odd timeout", opts: []asynq.Option{asynq.Timeout(1900 * time.Millisecond)}},
		{name: "tiny timeout", opts: []asynq.Option{asynq.Timeout(500 * time.Millisecond)}},
		{name: "negative timeout", opts: []asynq.Option{asynq.Timeout(-5 * time.Second)}},
		{name: "deadline", opts: []asynq.Option{asynq.Deadline(now.Add(time.Hour))}},
		{name: "past deadline", opts: []asynq.Option{asynq.Deadline(now.Add(-time.Hour))}},
		{name: "odd deadline", opts: []asynq.Option{asynq.Deadline(time.Unix(0, 5e8))}},
		{name: "deadline of the epoch", opts: []asynq.Option{asynq.Deadline(time.Unix(0, 0))}},
		{name: "both", opts: []asynq.Option{asynq.Deadline(now.Add(time.Hour)), asynq.Timeout(time.Minute)}},
		{name: "retention", opts: []asynq.Option{asynq.Retention(90 * time.Second)}},
		{name: "tiny retention", opts: []asynq.Option{asynq.Retention(500 * time.Millisecond)}},
		{name: "all", headers: map[string]string{"k": "v"}, opts: []asynq.Option{
			asynq.Queue("q"), asynq.MaxRetry(3), asynq.Timeout(time.Minute), asynq.Deadline(now.Add(time.Hour)), asynq.Retention(time.Hour),
		}},
	}
	var all []spec
	for _, unique := range []time.Duration{0, 10 * time.Minute, 90500 * time.Millisecond} {
		for _, k := range kinds {
			for _, x := range extras {
				s := spec{name: fmt.Sprintf("%s, %s, unique %v", k.name, x.name, unique), headers: x.headers}
				s.opts = append(slices.Clone(k.opts), x.opts...)
				s.payload = []byte(s.name)
				if strings.HasSuffix(x.name, "payload") {
					s.payload = x.payload
				}
				if unique > 0 {
					s.opts = append(s.opts, asynq.Unique(unique))
				}
				all = append(all, s)
			}
		}
	}
	return all
}

// TestWhatRedisHoldsAfterAReplayIsWhatAsynqWouldHaveWritten enqueues the same
// tasks at the same time with plain asynq into one Redis and with a Producer for
// another that is down; ten seconds later that one comes back.
func TestWhatRedisHoldsAfterAReplayIsWhatAsynqWouldHaveWritten(t *testing.T) {
	ours, plain := redistest.Run(t, redistest.Options{}), redistest.Run(t, redistest.Options{})
	if err := ours.Kill(); err != nil {
		t.Fatal(err)
	}
	p := newProducer(t, queue.Config{Redis: server(ours.Addr()), SpoolDir: t.TempDir()})
	rdb := client(t, plain.Addr())
	c := asynq.NewClientFromRedisClient(rdb)

	start := time.Now()
	ids := enqueueBoth(t, p, c, start)
	due, dueGroup := enqueueDue(t, p)
	time.Sleep(time.Until(start.Add(10 * time.Second))) // the time itself is what is tested
	want := map[string]snapshot{}
	for name, pair := range ids {
		want[name] = snap(t, rdb, pair.queue, pair.plain)
	}
	if err := ours.Restart(); err != nil {
		t.Fatal(err)
	}
	drain(t, p)
	rdb = client(t, ours.Addr())
	for name, pair := range ids {
		wantSame(t, name, snap(t, rdb, pair.queue, pair.ours), want[name])
	}
	if st := p.Stats(); st.Replayed != st.Spooled {
		t.Errorf("%+v", st)
	}

	if got := snap(t, rdb, "default", due); got.hash["state"] != "pending" {
		t.Errorf("a process-at that passed in the spool: %v", got)
	}
	// asynq hands such a task to a worker by itself, never aggregated.
	if got := snap(t, rdb, "default", dueGroup); got.hash["state"] != "scheduled" || got.msg["14"] != "g" {
		t.Errorf("a process-at that passed in the spool, with a group: %v", got)
	}
}

// pair is one task under its two ids.
type pair struct{ queue, ours, plain string }

// enqueueBoth enqueues each spec twice: its options given to NewTask with an id of
// ours, and given to Enqueue with a minted one.
func enqueueBoth(t *testing.T, p *queue.Producer, c *asynq.Client, now time.Time) map[string]pair {
	t.Helper()
	pairs := map[string]pair{}
	for i, s := range specs(now) {
		for _, inTask := range []bool{true, false} {
			var inNew, inCall []asynq.Option
			name := s.name + ", in the call"
			if inTask {
				name = s.name + ", in the task"
				inNew = append(s.opts, asynq.TaskID(fmt.Sprintf("own-%d", i)))
			} else {
				inCall = s.opts
			}
			typ := fmt.Sprintf("type-%v-%d", inTask, i) // distinct unique keys
			a, err := p.Enqueue(asynq.NewTaskWithHeaders(typ, s.payload, s.headers, inNew...), inCall...)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			b, err := c.Enqueue(asynq.NewTaskWithHeaders(typ, s.payload, s.headers, inNew...), inCall...)
			if err != nil {
				t.Fatalf("%s: plain asynq: %v", name, err)
			}
			if a.State != b.State || a.Queue != b.Queue || a.Timeout != b.Timeout || !a.Deadline.Equal(b.Deadline) ||
				a.Group != b.Group || a.MaxRetry != b.MaxRetry || a.Retention != b.Retention {
				t.Errorf("%s: info %+v, plain asynq's %+v", name, a, b)
			}
			pairs[name] = pair{queue: a.Queue, ours: a.ID, plain: b.ID}
		}
	}
	return pairs
}

// enqueueDue enqueues tasks that become due while they lie in the spool.
func enqueueDue(t *testing.T, p *queue.Producer) (alone, grouped string) {
	t.Helper()
	a, err := p.Enqueue(asynq.NewTask("due", nil), asynq.ProcessIn(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Enqueue(asynq.NewTask("due", nil), asynq.ProcessIn(2*time.Second), asynq.Group("g"))
	if err != nil {
		t.Fatal(err)
	}
	return a.ID, b.ID
}

// snapshot is all that Redis holds of a task.
type snapshot struct {
	hash  map[string]string // but msg
	msg   map[string]string // the message's fields by number; the headers as one text
	lists map[string]float64
	lock  string    // who holds the lock the message names
	until time.Time // when that lock ends
}

func snap(t *testing.T, rdb *redis.Client, queue, id string) snapshot {
	t.Helper()
	ctx := context.Background()
	prefix := "asynq:{" + queue + "}:"
	hash, err := rdb.HGetAll(ctx, prefix+"t:"+id).Result()
	if err != nil || len(hash) == 0 {
		t.Fatalf("task %s: %v, %v", id, hash, err)
	}
	s := snapshot{hash: hash, msg: decode(t, []byte(hash["msg"])), lists: map[string]float64{}}
	delete(hash, "msg")
	if _, err := rdb.LPos(ctx, prefix+"pending", id, redis.LPosArgs{}).Result(); err == nil {
		s.lists["pending"] = 0
	}
	for _, set := range []string{"scheduled", "g:" + s.msg["14"]} {
		if score, err := rdb.ZScore(ctx, prefix+set, id).Result(); err == nil {
			s.lists[set] = score
		}
	}
	if lock := s.msg["10"]; lock != "" {
		s.lock = rdb.Get(ctx, lock).Val()
		s.until = time.Now().Add(rdb.PTTL(ctx, lock).Val())
	}
	for key, v := range s.msg { // the id differs where it was minted
		s.msg[key] = strings.ReplaceAll(v, id, "ID")
	}
	s.lock = strings.ReplaceAll(s.lock, id, "ID")
	return s
}

// decode reads asynq's protobuf message without its schema. The numbers: 1 type,
// 2 payload, 3 id, 4 queue, 5 retry, 8 timeout, 9 deadline, 10 unique key,
// 12 retention, 14 group, 15 headers.
func decode(t *testing.T, b []byte) map[string]string {
	t.Helper()
	fields := map[string]string{}
	headers := []string{}
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatalf("message: %v", protowire.ParseError(n))
		}
		m := protowire.ConsumeFieldValue(num, kind, b[n:])
		if m < 0 {
			t.Fatalf("message: %v", protowire.ParseError(m))
		}
		value := b[n : n+m]
		b = b[n+m:]
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		if num == 15 {
			headers = append(headers, string(value))
			continue
		}
		fields[fmt.Sprint(num)] = string(value)
	}
	slices.Sort(headers)
	fields["15"] = strings.Join(headers, "|")
	return fields
}

func wantSame(t *testing.T, name string, got, want snapshot) {
	t.Helper()
	if !maps.Equal(got.msg, want.msg) {
		t.Errorf("%s: message %q, want %q", name, got.msg, want.msg)
	}
	// When it became pending is the one thing that a replay does later.
	if (got.hash["pending_since"] == "") != (want.hash["pending_since"] == "") {
		t.Errorf("%s: pending since %q, want %q", name, got.hash["pending_since"], want.hash["pending_since"])
	}
	delete(got.hash, "pending_since")
	delete(want.hash, "pending_since")
	if !maps.Equal(got.hash, want.hash) {
		t.Errorf("%s: hash %q, want %q", name, got.hash, want.hash)
	}
	if !slices.Equal(slices.Sorted(maps.Keys(got.lists)), slices.Sorted(maps.Keys(want.lists))) {
		t.Errorf("%s: in %v, want %v", name, got.lists, want.lists)
	}
	// The two calls of ProcessIn may fall on either side of a second.
	if d := math.Abs(got.lists["scheduled"] - want.lists["scheduled"]); d > 3 {
		t.Errorf("%s: scheduled %v s apart", name, d)
	}
	if got.lock != want.lock {
		t.Errorf("%s: lock held by %q, want %q", name, got.lock, want.lock)
	}
	if d := got.until.Sub(want.until).Abs(); d > 3*time.Second { // both were enqueued one after the other, and read so
		t.Errorf("%s: lock ends %v, want %v", name, got.until, want.until)
	}
}
