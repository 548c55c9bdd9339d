package compose

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

// capture is what the offline client was asked to run. It travels in the context,
// which asynq hands through.
type capture struct {
	sha, source string
	keys        []string
	args        []any
	learn       bool // answer NOSCRIPT once, so that asynq shows the source
}

type captureKey struct{}

// offline is a redis.UniversalClient for asynq's enqueue path. It answers for
// Redis and never dials; whatever else asynq might call fails with errOffline.
type offline struct{ redis.UniversalClient }

var errOffline = errors.New("queue: the composing client has no connection")

func newOffline() offline {
	return offline{redis.NewClient(&redis.Options{
		Addr: "offline", MaxRetries: -1, DialerRetries: 1, PoolSize: 1,
		Dialer: func(context.Context, string, string) (net.Conn, error) { return nil, errOffline },
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
	cmd := redis.NewCmd(ctx)
	got, ok := ctx.Value(captureKey{}).(*capture)
	switch {
	case !ok:
		cmd.SetErr(errOffline)
	case got.learn && got.source == "":
		got.sha = sha
		cmd.SetErr(noScriptError{})
	default:
		got.sha, got.keys, got.args = sha, keys, args
		cmd.SetVal(int64(1))
	}
	return cmd
}

// Eval is what asynq calls with the source of a script that Redis does not know.
func (o offline) Eval(ctx context.Context, source string, keys []string, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	got, ok := ctx.Value(captureKey{}).(*capture)
	if !ok {
		cmd.SetErr(errOffline)
		return cmd
	}
	got.source, got.keys, got.args = source, keys, args
	cmd.SetVal(int64(1))
	return cmd
}

// noScriptError is the reply of a Redis that does not know a script.
type noScriptError struct{}

func (noScriptError) Error() string { return "NOSCRIPT No matching script." }
func (noScriptError) RedisError()   {}
