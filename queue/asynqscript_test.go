package queue_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// asynqScript returns the script by which asynq enqueues a pending task: what it sends when
// Redis says that it does not know it.
func asynqScript(tb testing.TB) string {
	tb.Helper()
	rdb := redis.NewClient(&redis.Options{MaxRetries: -1})
	defer rdb.Close()
	var script scriptHook
	rdb.AddHook(&script)
	_, _ = asynq.NewClientFromRedisClient(rdb).Enqueue(asynq.NewTask("t", nil))
	if script.source == "" {
		tb.Fatal("asynq has not sent its script")
	}
	return script.source
}

// scriptHook answers in place of Redis.
type scriptHook struct{ source string }

func (h *scriptHook) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) { return nil, errors.ErrUnsupported }
}

func (h *scriptHook) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		switch cmd.Name() {
		case "evalsha":
			cmd.SetErr(noScriptError{})
		case "eval":
			h.source, _ = cmd.Args()[1].(string)
		}
		return cmd.Err()
	}
}

func (h *scriptHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// noScriptError is how Redis refuses a script that it does not know.
type noScriptError struct{}

func (noScriptError) Error() string { return "NOSCRIPT No matching script." }
func (noScriptError) RedisError()   {}
