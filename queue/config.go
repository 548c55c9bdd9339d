package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/spool"
)

// DefaultEnqueueTimeout is the budget of an attempt at Redis.
const DefaultEnqueueTimeout = 500 * time.Millisecond

// DefaultMaxTaskBytes is how large a task may be.
const DefaultMaxTaskBytes = 1 << 20

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
	// left are replayed only by Producers of the same target, see SameTarget, or
	// that accept it. Empty means derived from Redis, without user and password:
	// scheme, address and database; for Sentinel the master's name and the database;
	// for Cluster the seed addresses. It is written to disk; a URI with a user name or
	// password is refused.
	Target string

	// AcceptTargets are further targets whose dead owners this Producer adopts: it
	// sends the jobs that they left to its own Redis. Meant for a Redis that is gone
	// for good, for example after a move to a standby under a new name, or to a Cluster
	// with none of the old seeds. Each is written as Stats.Target and spool status
	// show it. None may be empty, or be a URI with a user name or password. Nil or
	// empty: none.
	//
	// A job in doubt, which the old Redis may have taken, is sent too: if the old Redis
	// is still served by workers, or its data came along, it may run twice.
	//
	// With Guard their journals are adopted, too. Where the old Redis's data came along, what is
	// missing of it is sent again. Where it did not, workers may still be busy with it: what is
	// missing is reported once, and sent only by spool guard --check.
	AcceptTargets []string

	// EnqueueTimeout bounds what one Enqueue spends on Redis, all included: the
	// wait for a connection, dialling, sending and the reply. The write to disk
	// comes on top. Zero means DefaultEnqueueTimeout. Negative means no bound but
	// that of the caller's context and of the sockets, 5 s each.
	EnqueueTimeout time.Duration

	// MaxTaskBytes is how many bytes the type, payload and headers of a task may have
	// together; a larger one is refused with ErrTooLarge, whether Redis is there or
	// not. Zero means DefaultMaxTaskBytes, 1 MiB. Negative means no bound but Redis's
	// and the disk's.
	MaxTaskBytes int

	// DedupeWindow is the least Retention of tasks whose id asynq mints. A job whose
	// reply was lost is replayed under its id, and Redis refuses the second copy for as
	// long as it knows the first: until a worker has finished it, and for its retention
	// after that. So with a DedupeWindow longer than the outages to come, such a job
	// runs once also where it was finished before the replay. It costs Redis's memory
	// for each task that was finished within the window; see the README. It does not
	// reach the ticks of a scheduler, see SchedulerClient. Zero or negative: off. Whole
	// seconds.
	DedupeWindow time.Duration

	// Guard is for how long a job that Redis has acknowledged is kept in a journal in SpoolDir
	// as well, in case Redis loses it: by a crash without appendonly, the promotion of a
	// replica that lagged, FLUSHALL, or an old backup. It should be longer than a failover
	// takes. Finished jobs are let go of earlier. The journal is
	// written behind the caller's back, without fsync; as measured it takes about a tenth of
	// the rate from a single caller, and less from many. Zero or negative: off.
	//
	// Of each queue, what was acknowledged in the last 100 ms before a loss may be lost with
	// no notice, if the loss is no larger.
	Guard time.Duration

	// GuardBytes bounds the journal of all processes in SpoolDir; beyond, the oldest entries
	// go. It is on top of Spool.MaxBytes. Zero means DefaultGuardBytes, 256 MiB. Negative
	// means no bound.
	GuardBytes int64

	// OnLoss says what to do about jobs that Redis has lost: ResendLost, the default, or
	// ReportLost. It has no value for off: that is a Guard of zero, which keeps no journal and
	// sets no markers.
	OnLoss LossPolicy

	// Confirm asks that replicas have a job before it counts as acknowledged.
	Confirm ConfirmConfig

	// Spool bounds what the spool takes of its disk.
	Spool SpoolConfig

	// Replay says how what is spooled is sent.
	Replay ReplayConfig

	// OnStateChange, if not nil, is called when an outage begins and when it ends: one call at
	// a time, in the order of the changes, so it may come from another goroutine than the one
	// in which the thing happened.
	//
	// The four callbacks are called one by one from the goroutine in which the thing
	// happened, of a caller of Enqueue before that returns or of the replayer, without
	// any lock. They may call Enqueue and Stats, but not Drain, Shutdown or Close, and
	// should be quick: the replayer waits. They must be safe for concurrent use. A panic
	// of theirs is logged and goes no further.
	OnStateChange func(StateChange)

	// OnSpooled is called for each job that was written to the spool.
	OnSpooled func(JobEvent)

	// OnReplayed is called for each job of the spool that Redis has now.
	OnReplayed func(JobEvent)

	// OnDead is called for each job that became a dead letter.
	OnDead func(JobEvent)

	// Observer, if not nil, is told of each operation when it begins and when it ends, for
	// tracing, and may add headers to tasks. It is called inside of the operations: in the
	// goroutine of a caller of Enqueue, who waits for it, and in those of the replayer and of Guard. It
	// must be quick, safe for concurrent use, and call no method of the Producer's. A panic of
	// its is logged and goes no further; after one of Begin's there is no End. Nil costs nothing.
	Observer Observer

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
	// shares and quarantine included, but for the journal, which Config.GuardBytes
	// bounds. Zero means spool.DefaultMaxBytes, 1 GiB. Negative means no bound.
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

// ReplayConfig says how what is spooled is sent.
type ReplayConfig struct {
	// Ordering is FreshFirst, the default, or FIFO.
	Ordering Ordering

	// Weights are the shares of queues that have jobs to be replayed, as asynq's
	// Config.Queues has them for workers: one of weight 3 gets three times what one of
	// weight 1 gets, and what others leave. A queue that is not mentioned, and one with a
	// weight below 1, has 1.
	Weights map[string]int

	// Rate bounds the jobs per second. Zero or negative means no bound.
	Rate int

	// MaxMemory is the share of Redis's maxmemory up to which a replay fills it: beyond, it
	// waits for room. With its memory full Redis takes no job out of a queue either, so
	// workers could not make room (asynq needs writes for that). Zero means
	// DefaultMaxMemory. Negative means that replay never waits. It needs Redis's INFO;
	// without, and without a maxmemory, replay does not wait. A Redis that is a cache too,
	// and always full of what it may evict, needs a negative one.
	MaxMemory float64

	// DeliverLate sends jobs whose deadline passed while they were spooled. A worker fails
	// them until their retries are used up. By default they become dead letters.
	DeliverLate bool

	// Only, if not nil, says which jobs may be sent; all others stay pending, and Drain does
	// not wait for them. It is called from goroutines of the replayer, also more than once
	// for a job, and must be quick and safe for concurrent use. Outcome and Reason are empty.
	Only func(JobEvent) bool
}

// Ordering says which jobs of a queue go first.
type Ordering int

const (
	// FreshFirst sends new jobs to Redis at once while older ones are replayed.
	FreshFirst Ordering = iota

	// FIFO keeps the order of each queue: while older jobs of its queue wait in this
	// Producer's spool, those that it has adopted included, a new one goes to the spool,
	// behind them; or, when few are left and there is no outage, it waits up to 100 ms for
	// their replay and goes to Redis. What dead processes left comes first. Nothing orders jobs of different
	// processes, nor calls that run at the same time. A job that Redis does not answer
	// while it takes others, and one that it refuses, are overtaken: else they would stop
	// their queue for ever.
	FIFO
)

// normalized returns a copy with defaults in place, or every complaint at once.
func (c Config) normalized() (Config, error) {
	var errs []error
	if c.Redis == nil {
		errs = append(errs, errors.New("queue: Config.Redis is required"))
	}
	if c.SpoolDir == "" {
		errs = append(errs, errors.New("queue: Config.SpoolDir is required"))
	}
	errs = append(errs, c.checkTargets()...)
	c.AcceptTargets = slices.Clone(c.AcceptTargets)
	if c.EnqueueTimeout == 0 {
		c.EnqueueTimeout = DefaultEnqueueTimeout
	}
	if c.MaxTaskBytes == 0 {
		c.MaxTaskBytes = DefaultMaxTaskBytes
	}
	if c.DedupeWindow > 0 && c.DedupeWindow < time.Second {
		errs = append(errs, errors.New("queue: Config.DedupeWindow is less than a second, which is the least retention"))
	}
	errs = append(errs, c.Replay.normalize()...)
	errs = append(errs, c.Confirm.normalize(c.EnqueueTimeout)...)
	if c.OnLoss != ResendLost && c.OnLoss != ReportLost {
		errs = append(errs, fmt.Errorf("queue: Config.OnLoss is %d; it can be ResendLost or ReportLost", c.OnLoss))
	}
	if c.GuardBytes == 0 {
		c.GuardBytes = DefaultGuardBytes
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, errors.Join(errs...)
}

// normalize puts defaults in place and returns every complaint.
func (r *ReplayConfig) normalize() (errs []error) {
	if r.Ordering != FreshFirst && r.Ordering != FIFO {
		errs = append(errs, fmt.Errorf("queue: Config.Replay.Ordering is %d; it can be FreshFirst or FIFO", r.Ordering))
	}
	if r.MaxMemory == 0 {
		r.MaxMemory = DefaultMaxMemory
	}
	if r.MaxMemory > 1 || math.IsNaN(r.MaxMemory) {
		errs = append(errs, fmt.Errorf("queue: Config.Replay.MaxMemory is %v; it is a share of Redis's maxmemory, at most 1", r.MaxMemory))
	}
	r.Weights = maps.Clone(r.Weights)
	return errs
}

// checkTargets complains about names of targets.
func (c Config) checkTargets() (errs []error) {
	if err := checkTarget(c.Target); err != nil {
		errs = append(errs, fmt.Errorf("queue: Config.Target %w", err))
	}
	for i, target := range c.AcceptTargets {
		err := checkTarget(target)
		if strings.TrimSpace(target) == "" {
			err = errors.New("is empty")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("queue: Config.AcceptTargets[%d] %w", i, err))
		}
	}
	return errs
}

// maxRecordBytes is how large a record must be able to be, for the largest task.
func (c Config) maxRecordBytes() int {
	const beside = 64 << 10 // queue, id, group, lock and the record's own fields
	if c.MaxTaskBytes < 0 {
		return -1
	}
	return max(c.MaxTaskBytes+beside, spool.DefaultMaxRecordBytes)
}

// redisError prefixes what is wrong with Config.Redis.
func redisError(err error) error { return fmt.Errorf("queue: Config.Redis %w", err) }
