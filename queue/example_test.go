package queue_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
)

// A service enqueues through a Producer; Redis goes away and comes back.
func Example_outage() {
	redis, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer redis.Close()
	dir, err := os.MkdirTemp("", "spool-")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	p, err := queue.New(queue.Config{
		Redis:    asynq.RedisClientOpt{Addr: redis.Addr()},
		SpoolDir: dir,
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = p.Close() }()

	redis.Close()
	task := asynq.NewTask("email:welcome", []byte(`{"user":42}`), asynq.MaxRetry(5))
	if _, err := p.Enqueue(task, asynq.Queue("mail")); err != nil {
		log.Fatal(err)
	}
	st := p.Stats()
	fmt.Println(st.State, "spooled:", st.Spooled)

	if err := redis.Restart(); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.Drain(ctx); err != nil {
		log.Fatal(err)
	}
	st = p.Stats()
	fmt.Println(st.State, "replayed:", st.Replayed, "pending:", st.Pending)
	// Output:
	// outage spooled: 1
	// up replayed: 1 pending: 0
}

// What is left in the spool at the end of a deploy is replayed by the next process.
func ExampleProducer_Shutdown() {
	dir, err := os.MkdirTemp("", "spool-")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	p, err := queue.New(queue.Config{
		Redis:    asynq.RedisClientOpt{Addr: "127.0.0.1:1"}, // nobody there
		SpoolDir: dir,
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := p.Enqueue(asynq.NewTask("email:welcome", nil)); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println("all sent:", p.Shutdown(ctx) == nil, "- still in the spool:", p.Stats().Pending)
	// Output:
	// all sent: false - still in the spool: 1
}
