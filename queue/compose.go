package queue

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// command is what asynq would send to Redis to enqueue one task.
type command struct {
	script *script
	queue  string
	id     string
	keys   []string
	args   []any
}

// taskKey is asynq's key of a task: what makes two ids the same.
func taskKey(queue, id string) string { return "asynq:{" + queue + "}:t:" + id }

func (c command) taskKey() string { return taskKey(c.queue, c.id) }

// lock returns the unique key, empty for a task without one.
func (c command) lock() string {
	if c.script.lockKey < 0 {
		return ""
	}
	return c.keys[c.script.lockKey]
}

// size is about how many bytes the command has on the wire.
func (c command) size() int {
	n := 0
	for _, a := range c.args {
		if b, ok := a.([]byte); ok {
			n += len(b)
		}
	}
	return n + commandBytes
}

// commandBytes is about what a command has beside the task: keys, ids, times.
const commandBytes = 256

// script is one of asynq's six enqueue scripts, as learnt from asynq in New.
type script struct {
	sha, source string
	state       asynq.TaskState // of the tasks it makes
	lockKey     int             // index of the unique key in the keys; -1: takes no lock
	lockTTL     int             // index of the lock's seconds in the arguments
	message     int             // index of the encoded task
	processAt   int             // index of the time of a scheduled task in Unix seconds; -1: none
}

// composer lets asynq itself validate and encode a task. Its asynq client sits on
// an offline decorator of go-redis that never dials: enqueueing calls three of
// its methods, and it keeps what they were given. asynq's answer is the real
// TaskInfo, 1 µs later. Safe for concurrent use.
type composer struct {
	client  *asynq.Client
	offline offline
	scripts map[string]*script // by SHA

	// tasks are locks by task: EnqueueContext appends the call's options to the
	// slice inside the task, which races when one task is enqueued from many
	// goroutines (H6).
	tasks [64]sync.Mutex
	seed  maphash.Seed
}

// newComposer learns asynq's scripts by composing a task of each of the six kinds
// and checks that they look as this package expects.
func newComposer() (*composer, error) {
	c := &composer{offline: newOffline(), scripts: map[string]*script{}, seed: maphash.MakeSeed()}
	c.client = asynq.NewClientFromRedisClient(c.offline)
	if err := c.learn(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrIncompatible, err), c.close())
	}
	return c, nil
}

func (c *composer) close() error { return c.offline.Close() }

// compose returns what asynq makes of the task at this moment. An error is
// asynq's own judgement of the task or its options. A context that is done makes
// no difference: nothing here waits.
func (c *composer) compose(ctx context.Context, task *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, command, error) {
	var got capture
	info, err := c.capture(ctx, &got, task, opts)
	if err != nil {
		return nil, command{}, err
	}
	s := c.scripts[got.sha]
	if s == nil {
		return nil, command{}, fmt.Errorf("%w: unknown script %s", ErrIncompatible, got.sha)
	}
	return info, command{script: s, queue: info.Queue, id: info.ID, keys: got.keys, args: got.args}, nil
}

func (c *composer) capture(ctx context.Context, got *capture, task *asynq.Task, opts []asynq.Option) (*asynq.TaskInfo, error) {
	if len(opts) > 0 && task != nil {
		mu := &c.tasks[maphash.Comparable(c.seed, task)%uint64(len(c.tasks))]
		mu.Lock()
		defer mu.Unlock()
	}
	return c.client.EnqueueContext(context.WithValue(ctx, captureKey{}, got), task, opts...)
}

// mints reports whether asynq invents the task's id, by composing it once more: a
// caller's own id would come out again.
func (c *composer) mints(ctx context.Context, id string, task *asynq.Task, opts ...asynq.Option) bool {
	info, _, err := c.compose(ctx, task, opts...)
	return err == nil && info.ID != id
}

// learn composes one task of each kind and records its script.
func (c *composer) learn() error {
	later := asynq.ProcessIn(time.Hour)
	group := asynq.Group("g")
	kinds := []struct {
		state asynq.TaskState
		opts  []asynq.Option
		keys  []string // as expected, without the lock's
	}{
		{asynq.TaskStatePending, nil, []string{"asynq:{q}:t:id", "asynq:{q}:pending"}},
		{asynq.TaskStateScheduled, []asynq.Option{later}, []string{"asynq:{q}:t:id", "asynq:{q}:scheduled"}},
		{asynq.TaskStateAggregating, []asynq.Option{group}, []string{"asynq:{q}:t:id", "asynq:{q}:g:g", "asynq:{q}:groups"}},
	}
	for _, k := range kinds {
		for _, unique := range []bool{false, true} {
			opts := append([]asynq.Option{
				asynq.Queue("q"), asynq.TaskID("id"), asynq.MaxRetry(3), asynq.Timeout(7 * time.Second),
				asynq.Deadline(time.Unix(1<<33, 0)), asynq.Retention(11 * time.Second),
			}, k.opts...)
			if unique {
				opts = append(opts, asynq.Unique(uniqueTTL))
			}
			if err := c.learnKind(k.state, k.keys, unique, opts); err != nil {
				return fmt.Errorf("%v, unique %v: %w", k.state, unique, err)
			}
		}
	}
	return nil
}

// uniqueTTL is odd enough to be recognised among the arguments of a script.
const uniqueTTL = 7919 * time.Second

func (c *composer) learnKind(state asynq.TaskState, keys []string, unique bool, opts []asynq.Option) error {
	got := capture{learn: true}
	info, err := c.capture(context.Background(), &got, asynq.NewTaskWithHeaders("t", nil, map[string]string{"h": "v"}), opts)
	if err != nil {
		return err
	}
	if info.State != state {
		return fmt.Errorf("made a task in state %v", info.State)
	}
	if got.source == "" || redis.NewScript(got.source).Hash() != got.sha {
		return errors.New("no script, or not the one named by its hash")
	}
	s := &script{sha: got.sha, source: got.source, state: state, lockKey: -1, lockTTL: -1}
	rest := slices.Clone(got.keys)
	if unique {
		// For a scheduled task the lock also covers the delay.
		least := int(uniqueTTL / time.Second)
		if s.lockKey = slices.Index(rest, "asynq:{q}:unique:t:"); s.lockKey < 0 {
			return fmt.Errorf("no lock among the keys %q", got.keys)
		}
		rest = slices.Delete(rest, s.lockKey, s.lockKey+1)
		for i, a := range got.args {
			if n, ok := a.(int); ok && n >= least && n <= least+3600 {
				s.lockTTL = i
			}
		}
		if s.lockTTL < 0 {
			return errors.New("no TTL among the arguments")
		}
	}
	if !slices.Equal(rest, keys) {
		return fmt.Errorf("keys %q, expected %q", rest, keys)
	}
	c.scripts[got.sha] = s
	return c.learnMessage(s, got, info)
}

// learnMessage finds the encoded task and its time among the arguments, and checks that
// what is read off them is what asynq says.
func (c *composer) learnMessage(s *script, got capture, want *asynq.TaskInfo) error {
	s.message, s.processAt = -1, -1
	for i, a := range got.args {
		switch a := a.(type) {
		case []byte:
			s.message = i
		case int64:
			if s.state == asynq.TaskStateScheduled && a == want.NextProcessAt.Unix() {
				s.processAt = i
			}
		}
	}
	if s.message < 0 || (s.processAt < 0) == (s.state == asynq.TaskStateScheduled) {
		return fmt.Errorf("no task or time among %d arguments", len(got.args))
	}
	info, _, err := c.readCommand(got.sha, got.keys, got.args)
	if err != nil {
		return err
	}
	at := time.Now()
	read, made := newJob(info, command{script: s, keys: got.keys, args: got.args}, at), newJob(want, command{script: s, keys: got.keys, args: got.args}, at)
	if !reflect.DeepEqual(read, made) {
		return errors.New("asynq's message reads differently than its TaskInfo")
	}
	return nil
}

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
