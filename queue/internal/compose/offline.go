package compose

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// capture is what the offline client was asked to run. It travels as the context of the
// call, which asynq hands through.
type capture struct {
	context.Context //nolint:containedctx // it is one

	sha, source string
	keys        []string
	args        []any
	learn       bool // answer NOSCRIPT once, so that asynq shows the source
	reply       redis.Cmd
}

type captureKey struct{}

// Value returns the capture itself for its key.
func (c *capture) Value(key any) any {
	if key == (captureKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// captureOf returns the capture that a call travels with.
func captureOf(ctx context.Context) *capture {
	if c, ok := ctx.(*capture); ok {
		return c
	}
	c, _ := ctx.Value(captureKey{}).(*capture)
	return c
}

// offline is a redis.UniversalClient for asynq's enqueue path. It answers for
// Redis and never dials; whatever else asynq might call fails with errOffline.
type offline struct{ redis.UniversalClient }

var errOffline = errors.New("queue: the composing client has no connection")

func newOffline() offline {
	return offline{redis.NewClient(&redis.Options{
		Addr: "offline", MaxRetries: -1, DialerRetries: 1, PoolSize: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}, // it has a goroutine
		Dialer:                   func(context.Context, string, string) (net.Conn, error) { return nil, errOffline },
	})}
}

// SAdd is how asynq registers a queue; the sender does that itself.
func (offline) SAdd(ctx context.Context, _ string, _ ...any) *redis.IntCmd {
	cmd := redis.NewIntCmd(ctx)
	cmd.SetVal(1)
	return cmd
}

// EvalSha keeps what asynq would have sent and answers that it was enqueued.
func (offline) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	got := captureOf(ctx)
	switch {
	case got == nil:
		return noCapture(ctx)
	case got.learn && got.source == "":
		got.sha = sha
		got.reply.SetErr(noScriptError{})
	default:
		got.sha, got.keys, got.args = sha, keys, args
		got.reply.SetVal(int64(1))
	}
	return &got.reply
}

// Eval is what asynq calls with the source of a script that Redis does not know.
func (offline) Eval(ctx context.Context, source string, keys []string, args ...any) *redis.Cmd {
	got := captureOf(ctx)
	if got == nil {
		return noCapture(ctx)
	}
	got.source, got.keys, got.args = source, keys, args
	got.reply.SetErr(nil)
	got.reply.SetVal(int64(1))
	return &got.reply
}

func noCapture(ctx context.Context) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(errOffline)
	return cmd
}

// noScriptError is the reply of a Redis that does not know a script.
type noScriptError struct{}

func (noScriptError) Error() string { return "NOSCRIPT No matching script." }
func (noScriptError) RedisError()   {}
