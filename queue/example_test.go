package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
)

// A service enqueues through a Producer; Redis goes away and comes back.
func Example_outage() {
	mini, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer mini.Close()
	dir, err := os.MkdirTemp("", "spool-")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	p, err := queue.New(queue.Config{
		Redis:    asynq.RedisClientOpt{Addr: mini.Addr()},
		SpoolDir: dir,
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = p.Close() }()

	mini.Close()
	task := asynq.NewTask("email:welcome", []byte(`{"user":42}`), asynq.MaxRetry(5))
	if _, err := p.Enqueue(task, asynq.Queue("mail")); err != nil {
		log.Fatal(err)
	}
	st := p.Stats()
	fmt.Println(st.State, "spooled:", st.Spooled)

	if err := mini.Restart(); err != nil {
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

// Many tasks go in one pipeline, or in one commit to the spool.
func ExampleProducer_EnqueueBatch() {
	p, done := withoutRedis()
	defer done()
	infos, err := p.EnqueueBatch(context.Background(), []*asynq.Task{
		asynq.NewTask("email:welcome", nil, asynq.TaskID("welcome-42")),
		asynq.NewTask("email:welcome", nil, asynq.TaskID("welcome-42")),
		asynq.NewTask("email:welcome", nil, asynq.TaskID("welcome-43")),
	})
	var failed *queue.BatchError
	if errors.As(err, &failed) {
		for i, err := range failed.Errs {
			fmt.Println(i, infos[i] != nil, errors.Is(err, asynq.ErrTaskIDConflict))
		}
	}
	// Output:
	// 0 true false
	// 1 false true
	// 2 true false
}

// A caller that wants to know where the job is asks for it.
func ExampleReportTo() {
	p, done := withoutRedis()
	defer done()
	var where queue.Where
	if _, err := p.Enqueue(asynq.NewTask("email:welcome", nil), queue.ReportTo(&where)); err != nil {
		log.Fatal(err)
	}
	fmt.Println(where)
	// Output: spool
}

// A job that is worthless if it comes late is not spooled.
func ExampleNoSpool() {
	p, done := withoutRedis()
	defer done()
	_, err := p.Enqueue(asynq.NewTask("cache:warm", nil), queue.NoSpool())
	fmt.Println(errors.Is(err, queue.ErrUnavailable), errors.Is(err, queue.ErrMaybeEnqueued))
	// Output: true false
}

// The ticks of asynq's scheduler are kept through an outage.
func ExampleProducer_SchedulerClient() {
	p, done := withoutRedis()
	defer done()
	s := asynq.NewSchedulerFromRedisClient(p.SchedulerClient(), &asynq.SchedulerOpts{LogLevel: asynq.FatalLevel})
	if _, err := s.Register("@every 1s", asynq.NewTask("report", nil), asynq.Unique(time.Hour)); err != nil {
		log.Fatal(err)
	}
	if err := s.Start(); err != nil {
		log.Fatal(err)
	}
	for p.Stats().Spooled == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	s.Shutdown() // before the Producer's Close
	fmt.Println("spooled:", p.Stats().Spooled)
	// Output: spooled: 1
}

// A client that the service has already is taken as a pattern.
func ExampleFromClient() {
	theirs := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", DB: 2, Username: "app", Password: "secret"})
	defer func() { _ = theirs.Close() }()
	dir, err := os.MkdirTemp("", "spool-")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	p, err := queue.New(queue.Config{Redis: queue.FromClient(theirs), SpoolDir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	fmt.Println(p.Stats().Target)
	// Output: redis://127.0.0.1:1/2
}

// withoutRedis returns a Producer whose Redis is away, and what ends it.
func withoutRedis() (p *queue.Producer, done func()) {
	dir, err := os.MkdirTemp("", "spool-")
	if err != nil {
		log.Fatal(err)
	}
	p, err = queue.New(queue.Config{
		Redis:    asynq.RedisClientOpt{Addr: "127.0.0.1:1"}, // nobody there
		SpoolDir: dir,
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	return p, func() {
		_ = p.Close()
		_ = os.RemoveAll(dir)
	}
}
