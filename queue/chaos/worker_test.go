package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/hibiken/asynq"
)

const roleWorker = "worker"

// workerSetup is what a worker is to do: plain asynq.
type workerSetup struct {
	Redis  redisSetup
	Queues []string
}

func work() error {
	var s workerSetup
	if err := json.Unmarshal([]byte(os.Getenv(setupEnv)), &s); err != nil {
		return err
	}
	queues := map[string]int{}
	for _, q := range s.Queues {
		queues[q] = 1
	}
	srv := asynq.NewServer(s.Redis.opt(), asynq.Config{
		Concurrency: 16, Queues: queues, LogLevel: asynq.FatalLevel,
		TaskCheckInterval: 50 * time.Millisecond, DelayedTaskCheckInterval: 500 * time.Millisecond,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Second },
	})
	err := srv.Start(asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		again, _ := asynq.GetRetryCount(ctx)
		name := nameOf(t.Payload())
		if t.Headers()["name"] != name {
			say(report{Kind: reportTrouble, Text: "job " + id + " has another one's headers"})
		}
		say(report{Kind: reportRan, Name: name, ID: id, Sum: sumOf(t.Payload()), Again: again})
		return nil
	}))
	if err != nil {
		return err
	}
	say(report{Kind: reportReady})
	_, _ = io.Copy(io.Discard, os.Stdin) // until the oracle is gone, or kills
	return errors.New("the oracle is gone")
}
