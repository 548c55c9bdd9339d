package queueotel_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/hibiken/asynq"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/queueotel"
	"github.com/jobspool/jobspool/queue/redistest"
)

// A job's way from the producer through an outage to the worker.
func Example() {
	recorder := tracetest.NewSpanRecorder() // in a service: an exporter
	tracing := queueotel.WithTracerProvider(sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder)))
	dir, err := os.MkdirTemp("", "spool-")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server, err := redistest.Start(redistest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	redisOpt := asynq.RedisClientOpt{Addr: server.Addr()}

	// The producer.
	p, err := queue.New(queue.Config{
		Redis: redisOpt, SpoolDir: dir, Logger: slog.New(slog.DiscardHandler),
		Observer: queueotel.New(tracing),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = p.Close() }()

	// The worker.
	mux := asynq.NewServeMux()
	mux.Use(queueotel.Middleware(tracing))
	done := make(chan bool, 1)
	mux.HandleFunc("email:welcome", func(_ context.Context, task *asynq.Task) error {
		_, late := queueotel.Spooled(task)
		done <- late
		return nil
	})

	check(server.Kill()) // an outage
	_, err = p.Enqueue(asynq.NewTask("email:welcome", nil), asynq.Queue("mail"))
	check(err)
	check(server.Restart())
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	check(p.Drain(ctx))

	worker := asynq.NewServer(redisOpt, asynq.Config{LogLevel: asynq.FatalLevel, Queues: map[string]int{"mail": 1}})
	check(worker.Start(mux))
	fmt.Println("was spooled:", <-done)
	worker.Shutdown()

	spans := map[string]sdk.ReadOnlySpan{}
	for _, s := range recorder.Ended() {
		spans[s.Name()] = s
	}
	sent := spans["enqueue mail"].SpanContext()
	fmt.Println("spool is a part of enqueue:", spans["spool mail"].Parent().SpanID() == sent.SpanID())
	fmt.Println("replay links to enqueue:", spans["replay mail"].Links()[0].SpanContext.SpanID() == sent.SpanID())
	fmt.Println("process links to enqueue:", spans["process mail"].Links()[0].SpanContext.SpanID() == sent.SpanID())
	// Output:
	// was spooled: true
	// spool is a part of enqueue: true
	// replay links to enqueue: true
	// process links to enqueue: true
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
