// Package intake is what a Producer and its fake look at in a call of Enqueue before asynq
// sees it: the size of the task, and options of ours. The options themselves are types of
// package queue, which asynq passes by; here is how they are found and read.
package intake

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/hibiken/asynq"
)

// ErrTooLarge says that a task is larger than it may be.
var ErrTooLarge = errors.New("queue: the task is too large")

// Option is an asynq.Option that is ours.
type Option interface {
	asynq.Option

	// Apply enters the option among those of its call.
	Apply(to *Options) error
}

// Options are the options of ours that a call was given.
type Options struct {
	Where      *int // a queue.Where of the caller's, may be nil
	NoSpool    bool
	SpoolFirst bool
	MaxAge     time.Duration // zero: no bound
}

// ReadOptions picks our options out of those of a call.
func ReadOptions(opts []asynq.Option) (o Options, err error) {
	for _, opt := range opts {
		if own, ok := opt.(Option); ok {
			if err := own.Apply(&o); err != nil {
				return o, err
			}
		}
	}
	if o.NoSpool && o.SpoolFirst {
		return o, errors.New("queue: NoSpool and SpoolFirst exclude each other")
	}
	return o, nil
}

// Report tells the caller where the job is, if it wants to know.
func (o Options) Report(where int) {
	if o.Where != nil {
		*o.Where = where
	}
}

// CheckTask returns an error if the task itself was given an option of ours, which asynq
// would keep to itself: its options are private, but their Go types can be seen.
func CheckTask(task *asynq.Task) error {
	if task == nil {
		return nil // asynq has words for that
	}
	field := optsField()
	if field < 0 {
		return nil
	}
	ours := reflect.TypeFor[Option]()
	opts := reflect.ValueOf(task).Elem().Field(field)
	for i := range opts.Len() {
		opt := opts.Index(i)
		if opt.Kind() != reflect.Interface || opt.IsNil() {
			continue
		}
		if t := opt.Elem().Type(); t.Implements(ours) {
			return fmt.Errorf("queue: %s is an option of Enqueue, not of asynq.NewTask", t.Name())
		}
	}
	return nil
}

// optsField returns the index of the field of asynq.Task that holds its options, or -1.
//
//nolint:gochecknoglobals // a constant, but for the compiler
var optsField = sync.OnceValue(func() int {
	f, ok := reflect.TypeFor[asynq.Task]().FieldByName("opts")
	if !ok || f.Type.Kind() != reflect.Slice {
		return -1
	}
	return f.Index[0]
})

// CheckSize returns ErrTooLarge for a task that is larger than the limit in bytes;
// negative: no limit.
func CheckSize(limit int, typename string, payload []byte, headers map[string]string) error {
	size := len(typename) + len(payload)
	for k, v := range headers {
		size += len(k) + len(v)
	}
	if limit >= 0 && size > limit {
		return fmt.Errorf("%w: %d bytes of type, payload and headers, the limit is %d", ErrTooLarge, size, limit)
	}
	return nil
}
