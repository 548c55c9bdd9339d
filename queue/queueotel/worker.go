package queueotel

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Middleware returns what an asynq.ServeMux takes in Use: it makes a span of each run of a handler, linked to
// that of the producer, with how long the job was spooled. The handler finds the span in its
// context, and the producer's baggage if the propagator carries that. A task without headers of a
// producer's has a span without link. Safe for concurrent use.
func Middleware(opts ...Option) asynq.MiddlewareFunc {
	c := newConfig(opts)
	tracer := c.tracer()
	return func(next asynq.Handler) asynq.Handler {
		return asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
			ctx, span := c.startProcess(ctx, tracer, task)
			return process(ctx, span, next, task)
		})
	}
}

func (c config) startProcess(ctx context.Context, tracer trace.Tracer, task *asynq.Task) (context.Context, trace.Span) {
	queueName, _ := asynq.GetQueueName(ctx)
	id, _ := asynq.GetTaskID(ctx)
	attrs := append(message("process", queueName, id, task.Type()), semconv.MessagingOperationTypeProcess)
	if n, ok := asynq.GetRetryCount(ctx); ok {
		attrs = append(attrs, attribute.Int("asynq.task.retried", n))
	}
	if d, ok := Spooled(task); ok {
		attrs = append(attrs, spooled(d))
	}
	sent := c.sent(task.Headers())
	if b := baggage.FromContext(sent); b.Len() > 0 {
		ctx = baggage.ContextWithBaggage(ctx, b)
	}
	return tracer.Start(ctx, spanName("process", queueName),
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attrs...), trace.WithLinks(trace.LinkFromContext(sent)))
}

// process runs the handler within a span. A panic goes on to asynq, which makes an error of it.
func process(ctx context.Context, span trace.Span, next asynq.Handler, task *asynq.Task) error {
	returned := false
	defer func() {
		if !returned { // not asked for its value: that is asynq's
			span.SetAttributes(semconv.ErrorTypeKey.String("panic"))
			span.SetStatus(codes.Error, "the handler panicked")
		}
		span.End()
	}()
	err := next.ProcessTask(ctx, task)
	returned = true
	if err != nil {
		span.SetAttributes(semconv.ErrorTypeKey.String(handlerErrorType(err)))
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}

// handlerErrorType returns error.type of what a handler returned.
func handlerErrorType(err error) string {
	switch {
	case errors.Is(err, asynq.SkipRetry):
		return "skip_retry"
	case errors.Is(err, asynq.RevokeTask):
		return "revoke_task"
	}
	return fmt.Sprintf("%T", err)
}

// Spooled returns how long a task was on its way from the call of Enqueue to its replay, as a worker
// gets it, and whether it was replayed at all. Whole milliseconds.
func Spooled(task *asynq.Task) (d time.Duration, ok bool) {
	ms, err := strconv.ParseInt(task.Headers()[SpooledHeader], 10, 64)
	if err != nil || ms < 0 || ms > int64(maxSpooled/time.Millisecond) {
		return 0, false
	}
	return time.Duration(ms) * time.Millisecond, true
}

// maxSpooled is the longest time that a header is believed: a duration cannot hold much more.
const maxSpooled = 100 * 365 * 24 * time.Hour
