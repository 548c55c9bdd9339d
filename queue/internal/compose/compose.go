// Package compose is the seam to asynq: it lets asynq itself validate and encode a task,
// and keeps what asynq would have sent to Redis.
//
// asynq's options inside a task are private, and its client flattens Redis's errors into
// strings. But that client takes any redis.UniversalClient, and enqueueing calls only
// three of its methods. So it is given one that never dials, keeps the script, keys and
// arguments, and answers for Redis; asynq then returns the real TaskInfo. Who sends the
// [Command] sees Redis's own answer.
//
// asynq appends the options of a call to the slice inside the task. When one task is
// enqueued from many goroutines that race mixes up their ids, so composing one task takes
// turns.
package compose

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"
)

// ErrIncompatible says that asynq speaks to Redis in a way this package does not know.
var ErrIncompatible = errors.New("queue: asynq speaks differently than this package knows")

// Command is what asynq would send to Redis to enqueue one task.
type Command struct {
	Script *Script
	Queue  string
	ID     string
	Keys   []string
	Args   []any
}

// TaskKey is asynq's key of a task: what makes two ids the same.
func TaskKey(queue, id string) string { return QueuePrefix(queue) + "t:" + id }

// QueuePrefix begins all of asynq's keys of a queue.
func QueuePrefix(queue string) string { return "asynq:{" + queue + "}:" }

// TaskKey is asynq's key of the task.
func (c Command) TaskKey() string { return c.Keys[c.Script.taskKey] }

// Lock returns the unique key, empty for a task without one.
func (c Command) Lock() string {
	if c.Script.lockKey < 0 {
		return ""
	}
	return c.Keys[c.Script.lockKey]
}

// LockSeconds returns for how long the script takes the lock, 0 for a task without one.
func (c Command) LockSeconds() int {
	if c.Script.lockTTL < 0 {
		return 0
	}
	seconds, _ := c.Args[c.Script.lockTTL].(int)
	return seconds
}

// Size is about how many bytes the command has on the wire.
func (c Command) Size() int {
	n := 0
	for _, a := range c.Args {
		if b, ok := a.([]byte); ok {
			n += len(b)
		}
	}
	return n + commandBytes
}

// WithHeaders returns the command with more headers in its task, in place of those of the same
// names: in a protobuf map the last entry counts, so they go behind what asynq has encoded. They
// must be valid UTF-8, or no worker can read the task. The command itself stays as it is.
func (c Command) WithHeaders(headers map[string]string) Command {
	message, ok := c.Args[c.Script.message].([]byte)
	if !ok { // New and Read have seen that it is
		return c
	}
	message = slices.Clip(message)
	for k, v := range headers {
		pair := appendText(appendText(nil, 1, k), 2, v)
		message = protowire.AppendBytes(protowire.AppendTag(message, messageHeader, protowire.BytesType), pair)
	}
	c.Args = slices.Clone(c.Args)
	c.Args[c.Script.message] = message
	return c
}

func appendText(b []byte, n protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

// commandBytes is about what a command has beside the task: keys, ids, times.
const commandBytes = 256

// Script is one of asynq's six enqueue scripts, as learnt from asynq in New.
type Script struct {
	SHA, Source string

	state     asynq.TaskState // of the tasks it makes
	taskKey   int             // index of the task's key in the keys
	lockKey   int             // index of the unique key in the keys; -1: takes no lock
	lockTTL   int             // index of the lock's seconds in the arguments
	message   int             // index of the encoded task
	processAt int             // index of the time of a scheduled task in Unix seconds; -1: none
}

// Composer lets asynq itself validate and encode a task. Its asynq client sits on
// an offline decorator of go-redis that never dials: enqueueing calls three of
// its methods, and it keeps what they were given. asynq's answer is the real
// TaskInfo, 1 µs later. Safe for concurrent use.
type Composer struct {
	client  *asynq.Client
	offline offline
	scripts map[string]*Script // by SHA

	captures sync.Pool // of *capture, which asynq does not keep

	// tasks are locks by task: EnqueueContext appends the call's options to the
	// slice inside the task, which races when one task is enqueued from many
	// goroutines.
	tasks [64]sync.Mutex
	seed  maphash.Seed
}

// New learns asynq's scripts by composing a task of each of the six kinds
// and checks that they look as this package expects: ErrIncompatible if not.
func New() (*Composer, error) {
	c := &Composer{offline: newOffline(), scripts: map[string]*Script{}, seed: maphash.MakeSeed()}
	c.captures.New = func() any { return &capture{} }
	c.client = asynq.NewClientFromRedisClient(c.offline)
	if err := c.learn(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrIncompatible, err), c.Close())
	}
	return c, nil
}

// Close releases the offline client.
func (c *Composer) Close() error { return c.offline.Close() }

// Compose returns what asynq makes of the task at this moment. An error is
// asynq's own judgement of the task or its options. A context that is done makes
// no difference: nothing here waits.
func (c *Composer) Compose(ctx context.Context, task *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, Command, error) {
	got := c.captures.Get().(*capture)
	defer func() {
		*got = capture{}
		c.captures.Put(got)
	}()
	info, err := c.capture(ctx, got, task, opts)
	if err != nil {
		return nil, Command{}, err
	}
	s := c.scripts[got.sha]
	if s == nil {
		return nil, Command{}, fmt.Errorf("%w: unknown script %s", ErrIncompatible, got.sha)
	}
	return info, Command{Script: s, Queue: info.Queue, ID: info.ID, Keys: got.keys, Args: got.args}, nil
}

func (c *Composer) capture(ctx context.Context, got *capture, task *asynq.Task, opts []asynq.Option) (*asynq.TaskInfo, error) {
	if len(opts) > 0 && task != nil {
		mu := &c.tasks[maphash.Comparable(c.seed, task)%uint64(len(c.tasks))]
		mu.Lock()
		defer mu.Unlock()
	}
	got.Context = ctx
	return c.client.EnqueueContext(got, task, opts...) //nolint:contextcheck // got is ctx with a place for the answer
}

// Mints reports whether asynq invents the task's id, by composing it once more: a
// caller's own id would come out again.
func (c *Composer) Mints(ctx context.Context, id string, task *asynq.Task, opts ...asynq.Option) bool {
	info, _, err := c.Compose(ctx, task, opts...)
	return err == nil && info.ID != id
}

// Knows reports whether a SHA is that of one of asynq's enqueue scripts.
func (c *Composer) Knows(sha string) bool { return c.scripts[sha] != nil }

// learn composes one task of each kind and records its script.
func (c *Composer) learn() error {
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

func (c *Composer) learnKind(state asynq.TaskState, keys []string, unique bool, opts []asynq.Option) error {
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
	s := &Script{SHA: got.sha, Source: got.source, state: state, lockKey: -1, lockTTL: -1}
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
	s.taskKey = slices.Index(got.keys, TaskKey("q", "id"))
	c.scripts[got.sha] = s
	return c.learnMessage(s, &got, info)
}

// learnMessage finds the encoded task and its time among the arguments, and checks that
// what is read off them is what asynq says.
func (c *Composer) learnMessage(s *Script, got *capture, want *asynq.TaskInfo) error {
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
	info, _, err := c.Read(got.sha, got.keys, got.args)
	if err != nil {
		return err
	}
	if !same(info, want) {
		return errors.New("asynq's message reads differently than its TaskInfo")
	}
	return nil
}
