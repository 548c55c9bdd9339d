package queueotel

import (
	"context"
	"maps"
	"strconv"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/jobspool/jobspool/queue"
)

// SpooledHeader is the header of a task that was replayed: the milliseconds from the call of
// Enqueue to the replay, in decimal. A task that went to Redis at once has none.
const SpooledHeader = "jobspool-spooled-ms"

// scope is the name of the tracers.
const scope = "github.com/jobspool/jobspool/queue/queueotel"

// Option changes what New and Middleware do.
type Option func(*config)

type config struct {
	provider   trace.TracerProvider
	propagator propagation.TextMapPropagator
}

// WithTracerProvider says where spans go. The default, also for nil, is otel.GetTracerProvider at the time of
// New or Middleware.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) { c.provider = p }
}

// WithPropagator says how a span's context is written into headers and read again; producers and workers
// must agree. The default, also for nil, is W3C Trace Context, not the propagator that is global.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return func(c *config) { c.propagator = p }
}

func newConfig(opts []Option) config {
	var c config
	for _, o := range opts {
		o(&c)
	}
	if c.provider == nil {
		c.provider = otel.GetTracerProvider()
	}
	if c.propagator == nil {
		c.propagator = propagation.TraceContext{}
	}
	return c
}

func (c config) tracer() trace.Tracer {
	return c.provider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
}

// sent returns the context that the headers of a task carry.
func (c config) sent(headers map[string]string) context.Context {
	return c.propagator.Extract(context.Background(), propagation.MapCarrier(headers))
}

// WithoutHeaders returns the headers of a task without those that New adds: for handlers that pass
// the others on to new tasks. It returns a map of its own. The options are those of New.
func WithoutHeaders(headers map[string]string, opts ...Option) map[string]string {
	rest := maps.Clone(headers)
	delete(rest, SpooledHeader)
	for _, name := range newConfig(opts).propagator.Fields() {
		delete(rest, name)
	}
	return rest
}

// New returns an Observer, for one or more Producers, that makes a span of each operation and adds
// the context of enqueue's to the tasks. Safe for concurrent use.
func New(opts ...Option) queue.Observer {
	c := newConfig(opts)
	return &observer{config: c, tracer: c.tracer()}
}

type observer struct {
	config
	tracer trace.Tracer
}

// spanKey is where the span of an operation is in its context.
type spanKey struct{}

// Begin starts a span.
func (o *observer) Begin(ctx context.Context, op *queue.Operation) context.Context {
	opts := []trace.SpanStartOption{
		trace.WithTimestamp(op.Start), trace.WithSpanKind(spanKind(op.Kind)), trace.WithAttributes(known(op)...),
	}
	if op.Kind == queue.OpReplay {
		opts = append(opts, trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(o.sent(op.Headers))))
	}
	ctx, span := o.tracer.Start(ctx, spanName(op.Kind.String(), op.Queue), opts...)
	headers := propagation.MapCarrier{}
	switch op.Kind {
	case queue.OpEnqueue:
		o.propagator.Inject(ctx, headers)
	case queue.OpReplay:
		headers[SpooledHeader] = strconv.FormatInt(op.Spooled.Milliseconds(), 10)
	case queue.OpSpool:
	}
	if err := op.SetHeaders(headers); err != nil { // baggage can be large
		span.RecordError(err)
	}
	return context.WithValue(ctx, spanKey{}, span)
}

// End ends the span.
func (*observer) End(ctx context.Context, op *queue.Operation, err error) {
	span, ok := ctx.Value(spanKey{}).(trace.Span)
	if !ok {
		return
	}
	defer span.End()
	if !span.IsRecording() {
		return
	}
	switch op.Kind {
	case queue.OpEnqueue:
		span.SetAttributes(attribute.String("jobspool.where", op.Where.String()))
	case queue.OpSpool:
		span.SetAttributes(attribute.String("jobspool.where", whereSpooled(op, err)))
	case queue.OpReplay:
		span.SetAttributes(attribute.String("jobspool.outcome", outcome(op)))
	}
	if op.InDoubt {
		span.SetAttributes(attribute.Bool("jobspool.in_doubt", true))
	}
	if op.Reason != "" {
		span.SetAttributes(attribute.String("jobspool.reason", op.Reason), semconv.ErrorTypeKey.String("dead_letter"))
		span.SetStatus(codes.Error, op.Reason)
	}
	if err != nil {
		span.SetAttributes(semconv.ErrorTypeKey.String(errorType(err)))
		span.SetStatus(codes.Error, err.Error())
	}
}

// whereSpooled is where a job is after an attempt to spool it.
func whereSpooled(op *queue.Operation, err error) string {
	if err != nil {
		return queue.Nowhere.String()
	}
	return op.Where.String()
}

func outcome(op *queue.Operation) string {
	if op.Outcome == "" {
		return "pending"
	}
	return op.Outcome
}

func spanName(operation, queueName string) string {
	if queueName == "" {
		return operation
	}
	return operation + " " + queueName
}

func spanKind(k queue.OperationKind) trace.SpanKind {
	switch k {
	case queue.OpEnqueue:
		return trace.SpanKindProducer
	case queue.OpReplay:
		return trace.SpanKindClient // it sends what another span has created
	case queue.OpSpool:
	}
	return trace.SpanKindInternal
}

// known are the attributes that are known at the beginning.
func known(op *queue.Operation) []attribute.KeyValue {
	attrs := message(op.Kind.String(), op.Queue, op.TaskID, op.Type)
	if op.Kind != queue.OpSpool {
		attrs = append(attrs, semconv.MessagingOperationTypeSend)
	}
	if op.Tasks != 1 {
		attrs = append(attrs, semconv.MessagingBatchMessageCount(op.Tasks))
	}
	if op.Kind == queue.OpReplay {
		attrs = append(attrs, spooled(op.Spooled))
	}
	return attrs
}

// message are the attributes that all spans have, where they are known.
func message(operation, queueName, id, typename string) []attribute.KeyValue {
	attrs := append(make([]attribute.KeyValue, 0, 8), semconv.MessagingSystemKey.String("asynq"), semconv.MessagingOperationName(operation))
	if queueName != "" {
		attrs = append(attrs, semconv.MessagingDestinationName(queueName))
	}
	if id != "" {
		attrs = append(attrs, semconv.MessagingMessageID(id))
	}
	if typename != "" {
		attrs = append(attrs, attribute.String("asynq.task.type", typename))
	}
	return attrs
}

func spooled(d time.Duration) attribute.KeyValue {
	return attribute.Int64("jobspool.spooled_ms", d.Milliseconds())
}
