package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"
)

// DefaultEnqueueTimeout is the budget of an attempt at Redis.
const DefaultEnqueueTimeout = 500 * time.Millisecond

// Config configures a Producer. New copies it.
type Config struct {
	// Redis says where the jobs go. Required: any of asynq's options, or
	// FromClient. Of their timeouts none is used; EnqueueTimeout takes their
	// place.
	Redis asynq.RedisConnOpt

	// SpoolDir is where jobs lie while Redis cannot be reached. Required. It is
	// created with mode 0700. Several processes and targets may share it. It
	// must survive the process: a host path or a StatefulSet's volume.
	SpoolDir string

	// Target names the Redis the jobs are meant for. Jobs that a dead process
	// left are replayed only by Producers of the same Target. Empty means
	// derived from Redis, without user and password: scheme, address and
	// database; for Sentinel the master's name; for Cluster the seed addresses.
	// It is written to disk.
	Target string

	// EnqueueTimeout bounds what one Enqueue spends on Redis, all included: the
	// wait for a connection, dialling, sending and the reply. The write to disk
	// comes on top. Zero means DefaultEnqueueTimeout. Negative means no bound but
	// that of the caller's context and of the sockets, 5 s each.
	EnqueueTimeout time.Duration

	// Spool bounds what the spool takes of its disk.
	Spool SpoolConfig

	// DrainOnly makes a Producer that replays what dead processes left and takes
	// no jobs: it creates nothing, SpoolDir must exist, and Enqueue returns
	// ErrDrainOnly.
	DrainOnly bool

	// Logger gets one line when an outage begins, one when it ends, and what
	// needs a person. Nil means slog.Default().
	Logger *slog.Logger
}

// SpoolConfig bounds what the spool takes of its disk. A full spool is an error to the
// caller, ErrFull; nothing in it is ever dropped to make room.
type SpoolConfig struct {
	// MaxBytes bounds the disk blocks of everything in SpoolDir, other processes'
	// shares included. Zero means spool.DefaultMaxBytes, 1 GiB. Negative means no
	// bound.
	MaxBytes int64

	// MinFreeBytes is what is left free on the disk. Zero means
	// spool.DefaultMinFreeBytes, 64 MiB, but at most 5 % of the file system. Negative
	// means nothing.
	MinFreeBytes int64

	// Timeout bounds the wait for a disk that does not answer. Then Enqueue fails
	// with ErrMaybeStored, and later calls at once, until it answers. Zero means
	// spool.DefaultTimeout, 5 s. Negative means no bound.
	Timeout time.Duration
}

// normalized returns a copy with defaults in place, or every complaint at once.
func (c Config) normalized() (Config, error) {
	var errs []error
	if c.Redis == nil {
		errs = append(errs, errors.New("queue: Config.Redis is required"))
	}
	if c.SpoolDir == "" {
		errs = append(errs, errors.New("queue: Config.SpoolDir is required"))
	}
	if c.EnqueueTimeout == 0 {
		c.EnqueueTimeout = DefaultEnqueueTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, errors.Join(errs...)
}

// reserve is what an attempt leaves of the caller's deadline for the disk.
const reserve = 100 * time.Millisecond

// budget returns how long an attempt may take, and whether the caller's deadline
// made it shorter than the timeout. left is the time to that deadline, negative
// for none.
func budget(timeout, left time.Duration) (d time.Duration, shortened bool) {
	if left < 0 {
		return timeout, false
	}
	d = max(left-reserve, left/2)
	if timeout >= 0 && timeout <= d {
		return timeout, false
	}
	return d, true
}

// redisError prefixes what is wrong with Config.Redis.
func redisError(err error) error { return fmt.Errorf("queue: Config.Redis %w", err) }
