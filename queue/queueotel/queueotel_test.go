package queueotel_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/queueotel"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool/crashtest"
)

const patience = 30 * time.Second

// childDir and childRedis make the test binary a process that spools a job, prints its id and the
// context of its span, and waits to be killed.
const (
	childDir   = "QUEUEOTEL_TEST_CHILD_DIR"
	childRedis = "QUEUEOTEL_TEST_CHILD_REDIS"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // go-redis's own words about each failed dial
	if os.Getenv(childDir) != "" {
		crashtest.Fail(runChild())
	}
	goleak.VerifyTestMain(m,
		// go-redis's prober of an address that is down looks once a second whether
		// its pool was closed.
		goleak.IgnoreTopFunction("time.Sleep"))
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func runChild() error {
	s := newSpans()
	p, err := queue.New(s.config(os.Getenv(childRedis), os.Getenv(childDir)))
	if err != nil {
		return err
	}
	info, err := p.Enqueue(asynq.NewTask("of the child", []byte(secret)))
	if err != nil {
		return err
	}
	fmt.Println(info.ID + " " + info.Headers["traceparent"])
	select {}
}

// secret is in every payload and in no span.
const secret = "s3cret"

// spans is where spans go.
type spans struct {
	*tracetest.SpanRecorder
	provider *sdk.TracerProvider
}

func newSpans() spans {
	r := tracetest.NewSpanRecorder()
	return spans{r, sdk.NewTracerProvider(sdk.WithSpanProcessor(r))}
}

func (s spans) config(addr, dir string) queue.Config {
	return queue.Config{
		Redis: asynq.RedisClientOpt{Addr: addr}, SpoolDir: dir, Target: "t", Logger: slog.New(slog.DiscardHandler),
		Observer: queueotel.New(queueotel.WithTracerProvider(s.provider)),
	}
}

// named returns the ended spans of a name.
func (s spans) named(name string) (found []sdk.ReadOnlySpan) {
	for _, span := range s.Ended() {
		if span.Name() == name {
			found = append(found, span)
		}
	}
	return found
}

// only waits for the one span of a name that the condition holds for.
func (s spans) only(tb testing.TB, name string, holds func(sdk.ReadOnlySpan) bool) sdk.ReadOnlySpan {
	tb.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var found []sdk.ReadOnlySpan
		for _, span := range s.named(name) {
			if holds == nil || holds(span) {
				found = append(found, span)
			}
		}
		if len(found) == 1 {
			return found[0]
		}
		if len(found) > 1 || time.Now().After(end) {
			tb.Fatalf("%d spans %q among %d", len(found), name, len(s.Ended()))
		}
	}
}

func newProducer(tb testing.TB, cfg queue.Config) *queue.Producer {
	tb.Helper()
	p, err := queue.New(cfg)
	must(tb, err)
	tb.Cleanup(func() { must(tb, p.Close()) })
	return p
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func drain(tb testing.TB, p *queue.Producer) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(tb, p.Drain(ctx))
}

// work runs a plain asynq worker with the middleware.
func work(tb testing.TB, s spans, addr string, handler asynq.HandlerFunc, opts ...queueotel.Option) {
	tb.Helper()
	srv := asynq.NewServer(asynq.RedisClientOpt{Addr: addr}, asynq.Config{
		Concurrency: 4, LogLevel: asynq.FatalLevel, TaskCheckInterval: 50 * time.Millisecond, Queues: map[string]int{"default": 1, "mail": 1},
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return 0 },
	})
	must(tb, srv.Start(queueotel.Middleware(append(opts, queueotel.WithTracerProvider(s.provider))...)(handler)))
	tb.Cleanup(srv.Shutdown)
}

func nothing(context.Context, *asynq.Task) error { return nil }

// attrs returns a span's attributes as text.
func attrs(s sdk.ReadOnlySpan) map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes() {
		m[string(a.Key)] = a.Value.String()
	}
	return m
}

// want fails unless the span has just these attributes; of those that end in "?" any value will do.
func want(tb testing.TB, s sdk.ReadOnlySpan, kind trace.SpanKind, pairs ...string) {
	tb.Helper()
	got := attrs(s)
	if s.SpanKind() != kind {
		tb.Errorf("%s: kind %v, want %v", s.Name(), s.SpanKind(), kind)
	}
	for i := 0; i < len(pairs); i += 2 {
		key, value := pairs[i], pairs[i+1]
		if v, ok := got[key]; !ok || value != "?" && v != value {
			tb.Errorf("%s: %s is %q, want %q", s.Name(), key, v, value)
		}
		delete(got, key)
	}
	if len(got) > 0 {
		tb.Errorf("%s: further attributes %q", s.Name(), got)
	}
}

// wantLink fails unless the span is in a trace of its own and links to one other.
func wantLink(tb testing.TB, s sdk.ReadOnlySpan, to trace.SpanContext) {
	tb.Helper()
	l := s.Links()
	if len(l) != 1 || l[0].SpanContext.SpanID() != to.SpanID() || l[0].SpanContext.TraceID() != to.TraceID() {
		tb.Errorf("%s: links %+v, want one to %v", s.Name(), l, to.SpanID())
	}
	if s.Parent().IsValid() || s.SpanContext().TraceID() == to.TraceID() {
		tb.Errorf("%s is no trace of its own", s.Name())
	}
}

func wantNoSecret(tb testing.TB, s spans) {
	tb.Helper()
	for _, span := range s.Ended() {
		if text := fmt.Sprintf("%s %v %v %v", span.Name(), span.Attributes(), span.Events(), span.Status()); strings.Contains(text, secret) {
			tb.Errorf("a secret in %s", text)
		}
	}
}

func with(key, value string) func(sdk.ReadOnlySpan) bool {
	return func(s sdk.ReadOnlySpan) bool { return attrs(s)[key] == value }
}

// TestLiveJob: the producer's span is a child of the caller's, and the worker's links to it.
func TestLiveJob(t *testing.T) {
	t.Parallel()
	r, s := redistest.Run(t, redistest.Options{}), newSpans()
	p := newProducer(t, s.config(r.Addr(), t.TempDir()))
	ctx, caller := s.provider.Tracer("test").Start(t.Context(), "caller")
	info, err := p.EnqueueContext(ctx, asynq.NewTask("welcome", []byte(secret)), asynq.Queue("mail"))
	must(t, err)
	caller.End()
	work(t, s, r.Addr(), nothing)
	sent, ran := s.only(t, "enqueue mail", nil), s.only(t, "process mail", nil)
	want(t, sent, trace.SpanKindProducer, "messaging.system", "asynq", "messaging.operation.name", "enqueue", "messaging.operation.type", "send",
		"messaging.destination.name", "mail", "messaging.message.id", info.ID, "asynq.task.type", "welcome", "jobspool.where", "redis")
	if sent.Parent().SpanID() != caller.SpanContext().SpanID() || sent.Status().Code != codes.Unset || len(sent.Links()) != 0 {
		t.Errorf("%+v", sent)
	}
	want(t, ran, trace.SpanKindConsumer, "messaging.system", "asynq", "messaging.operation.name", "process", "messaging.operation.type", "process",
		"messaging.destination.name", "mail", "messaging.message.id", info.ID, "asynq.task.type", "welcome", "asynq.task.retried", "0")
	wantLink(t, ran, sent.SpanContext())
	wantNoSecret(t, s)
}

// TestJobInAnOutage stops and starts the process between spool and replay.
func TestJobInAnOutage(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			t.Parallel()
			r, s, dir := redistest.Run(t, redistest.Options{}), newSpans(), t.TempDir()
			must(t, r.Kill())
			p := newProducer(t, s.config(r.Addr(), dir))
			info, err := p.Enqueue(asynq.NewTask("welcome", []byte(secret)))
			must(t, err)
			if restart {
				must(t, p.Close())
				p = newProducer(t, s.config(r.Addr(), dir))
			}
			time.Sleep(50 * time.Millisecond) // the time itself is what is looked at
			must(t, r.Restart())
			drain(t, p)
			work(t, s, r.Addr(), nothing)
			sent, stored := s.only(t, "enqueue default", nil), s.only(t, "spool default", nil)
			replayed, ran := s.only(t, "replay default", with("jobspool.outcome", "delivered")), s.only(t, "process default", nil)
			same := []string{"messaging.system", "asynq", "messaging.destination.name", "default", "messaging.message.id", info.ID, "asynq.task.type", "welcome"}
			plus := func(more ...string) []string { return append(same[:len(same):len(same)], more...) }
			want(t, sent, trace.SpanKindProducer, plus("messaging.operation.name", "enqueue", "messaging.operation.type", "send", "jobspool.where", "spool")...)
			want(t, stored, trace.SpanKindInternal, plus("messaging.operation.name", "spool", "jobspool.where", "spool")...)
			want(t, replayed, trace.SpanKindClient, plus("messaging.operation.name", "replay", "messaging.operation.type", "send",
				"jobspool.outcome", "delivered", "jobspool.spooled_ms", "?")...)
			late := attrs(replayed)["jobspool.spooled_ms"]
			want(t, ran, trace.SpanKindConsumer, plus("messaging.operation.name", "process", "messaging.operation.type", "process",
				"asynq.task.retried", "0", "jobspool.spooled_ms", late)...)
			if ms, err := strconv.Atoi(late); err != nil || ms < 50 || replayed.StartTime().Sub(sent.StartTime()).Milliseconds()-int64(ms) > 1 {
				t.Errorf("spooled for %s ms, seen from outside %v", late, replayed.StartTime().Sub(sent.StartTime()))
			}
			if stored.Parent().SpanID() != sent.SpanContext().SpanID() {
				t.Errorf("spool's parent is %v", stored.Parent())
			}
			wantLink(t, replayed, sent.SpanContext())
			wantLink(t, ran, sent.SpanContext())
			for _, try := range s.named("replay default") {
				if a := attrs(try); a["jobspool.outcome"] == "pending" && (try.Status().Code != codes.Error || a["error.type"] == "") {
					t.Errorf("a try in vain: %v, %v", a, try.Status())
				}
			}
			wantNoSecret(t, s)
		})
	}
}

// TestJobOfADeadProcess has the trace out of the record of a process that was killed.
func TestJobOfADeadProcess(t *testing.T) {
	t.Parallel()
	r, s, dir := redistest.Run(t, redistest.Options{}), newSpans(), t.TempDir()
	must(t, r.Kill())
	child := crashtest.Start(t, childDir+"="+dir, childRedis+"="+r.Addr())
	child.Await(1)
	id, parent, _ := strings.Cut(child.Kill()[0], " ")
	sent := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": parent}))
	if !sent.IsValid() {
		t.Fatalf("the child's traceparent is %q", parent)
	}
	must(t, r.Restart())
	drain(t, newProducer(t, s.config(r.Addr(), dir)))
	work(t, s, r.Addr(), nothing)
	for _, name := range []string{"replay default", "process default"} {
		span := s.only(t, name, nil)
		wantLink(t, span, sent)
		if a := attrs(span); a["messaging.message.id"] != id || a["jobspool.spooled_ms"] == "" || a["asynq.task.type"] != "of the child" {
			t.Errorf("%s: %v", name, a)
		}
	}
}

// TestBatch: all jobs of a batch link to the span of the call.
func TestBatch(t *testing.T) {
	t.Parallel()
	for _, down := range []bool{false, true} {
		t.Run(fmt.Sprintf("down %v", down), func(t *testing.T) {
			t.Parallel()
			r, s := redistest.Run(t, redistest.Options{}), newSpans()
			if down {
				must(t, r.Kill())
			}
			p := newProducer(t, s.config(r.Addr(), t.TempDir()))
			_, err := p.EnqueueBatch(t.Context(), []*asynq.Task{asynq.NewTask("a", nil), asynq.NewTask("b", nil), asynq.NewTask("c", nil)})
			must(t, err)
			sent, where := s.only(t, "enqueue default", nil), "redis"
			if down {
				where = "spool"
				must(t, r.Restart())
				drain(t, p)
				stored := s.only(t, "spool default", nil)
				want(t, stored, trace.SpanKindInternal, "messaging.system", "asynq", "messaging.operation.name", "spool",
					"messaging.destination.name", "default", "messaging.batch.message_count", "3", "jobspool.where", "spool")
			}
			want(t, sent, trace.SpanKindProducer, "messaging.system", "asynq", "messaging.operation.name", "enqueue", "messaging.operation.type", "send",
				"messaging.destination.name", "default", "messaging.batch.message_count", "3", "jobspool.where", where)
			work(t, s, r.Addr(), nothing)
			for _, typename := range []string{"a", "b", "c"} {
				ran := s.only(t, "process default", with("asynq.task.type", typename))
				wantLink(t, ran, sent.SpanContext())
				if _, late := attrs(ran)["jobspool.spooled_ms"]; late != down {
					t.Errorf("%v", attrs(ran))
				}
			}
		})
	}
}

// TestWhatFails: errors, dead letters, and handlers that fail and panic.
func TestWhatFails(t *testing.T) {
	t.Parallel()
	r, s := redistest.Run(t, redistest.Options{}), newSpans()
	p := newProducer(t, s.config(r.Addr(), t.TempDir()))
	task := asynq.NewTask("t", []byte(secret), asynq.TaskID("one"), asynq.MaxRetry(1), asynq.Retention(time.Hour))
	_, err := p.Enqueue(task)
	must(t, err)
	if _, err = p.Enqueue(task); !errors.Is(err, asynq.ErrTaskIDConflict) {
		t.Fatal(err)
	}
	s.only(t, "enqueue default", with("error.type", "task_id_conflict"))
	work(t, s, r.Addr(), func(ctx context.Context, _ *asynq.Task) error {
		if n, _ := asynq.GetRetryCount(ctx); n == 0 {
			panic(secret)
		}
		return fmt.Errorf("no more: %w", asynq.SkipRetry)
	})
	first := s.only(t, "process default", with("asynq.task.retried", "0"))
	if attrs(first)["error.type"] != "panic" || first.Status().Code != codes.Error {
		t.Errorf("%v, %v", attrs(first), first.Status())
	}
	second := s.only(t, "process default", with("asynq.task.retried", "1"))
	if attrs(second)["error.type"] != "skip_retry" || second.Status().Description != "no more: "+asynq.SkipRetry.Error() {
		t.Errorf("%v, %v", attrs(second), second.Status())
	}
	must(t, r.Freeze())
	_, err = p.Enqueue(asynq.NewTask("old", nil), queue.MaxSpoolAge(time.Millisecond))
	must(t, err)
	must(t, r.Thaw())
	dead := s.only(t, "replay default", with("jobspool.outcome", "dead"))
	a := attrs(dead)
	if a["error.type"] != "dead_letter" || a["jobspool.in_doubt"] != "true" || a["jobspool.reason"] != dead.Status().Description || dead.Status().Code != codes.Error {
		t.Errorf("%v, %v", a, dead.Status())
	}
	wantLink(t, dead, s.only(t, "enqueue default", with("asynq.task.type", "old")).SpanContext())
	wantNoSecret(t, s)
}

// TestPropagator carries baggage too, if asked to; and a task's own headers stay.
func TestPropagator(t *testing.T) {
	t.Parallel()
	r, s := redistest.Run(t, redistest.Options{}), newSpans()
	both := queueotel.WithPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	cfg := s.config(r.Addr(), t.TempDir())
	cfg.Observer = queueotel.New(queueotel.WithTracerProvider(s.provider), both)
	p := newProducer(t, cfg)
	member, err := baggage.NewMember("tenant", "42")
	must(t, err)
	bag, err := baggage.New(member)
	must(t, err)
	ctx := baggage.ContextWithBaggage(t.Context(), bag)
	info, err := p.EnqueueContext(ctx, asynq.NewTask("t", nil))
	must(t, err)
	const own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	kept, err := p.EnqueueContext(ctx, asynq.NewTaskWithHeaders("kept", nil, map[string]string{"traceparent": own, "h": "v"}))
	must(t, err)
	if h := info.Headers; h["baggage"] != "tenant=42" || h["traceparent"] == "" {
		t.Errorf("%v", h)
	}
	if h := kept.Headers; len(h) != 2 || h["traceparent"] != own {
		t.Errorf("%v", h)
	}
	if h := queueotel.WithoutHeaders(map[string]string{"a": "b", "traceparent": own, "tracestate": "x=y", queueotel.SpooledHeader: "1", "baggage": "k=v"}, both); len(h) != 1 || h["a"] != "b" {
		t.Errorf("%v", h)
	}
	var mu sync.Mutex
	got := map[string]string{}
	work(t, s, r.Addr(), func(ctx context.Context, task *asynq.Task) error {
		mu.Lock()
		defer mu.Unlock()
		got[task.Type()] = baggage.FromContext(ctx).Member("tenant").Value() + " " + strconv.FormatBool(trace.SpanFromContext(ctx).IsRecording())
		return nil
	}, both)
	ran := s.only(t, "process default", with("asynq.task.type", "kept"))
	if l := ran.Links(); len(l) != 1 || l[0].SpanContext.SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("%+v", l)
	}
	s.only(t, "process default", with("asynq.task.type", "t"))
	mu.Lock()
	defer mu.Unlock()
	if got["t"] != "42 true" || got["kept"] != " true" {
		t.Errorf("%q", got)
	}
}

// TestHugeBaggage is left out, with an event on the span.
func TestHugeBaggage(t *testing.T) {
	t.Parallel()
	s := newSpans()
	o := queueotel.New(queueotel.WithTracerProvider(s.provider), queueotel.WithPropagator(huge{}))
	op := &queue.Operation{Kind: queue.OpEnqueue, Tasks: 1, Start: time.Now()}
	o.End(o.Begin(t.Context(), op), op, nil)
	if e := s.only(t, "enqueue", nil).Events(); len(e) != 1 {
		t.Errorf("%+v", e)
	}
}

type huge struct{ propagation.TraceContext }

func (huge) Inject(_ context.Context, c propagation.TextMapCarrier) {
	c.Set("huge", strings.Repeat("x", queue.MaxObserverBytes))
}

func TestSpooled(t *testing.T) {
	for value, want := range map[string]time.Duration{"": -1, "0": 0, "1500": 1500 * time.Millisecond, "-1": -1, "1s": -1, "9223372036854775807": -1} {
		d, ok := queueotel.Spooled(asynq.NewTaskWithHeaders("t", nil, map[string]string{queueotel.SpooledHeader: value}))
		if ok != (want >= 0) || ok && d != want {
			t.Errorf("%q: %v, %v", value, d, ok)
		}
	}
	if _, ok := queueotel.Spooled(asynq.NewTask("t", nil)); ok {
		t.Error("a task without headers was spooled")
	}
}
