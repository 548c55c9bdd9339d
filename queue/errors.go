package queue

import (
	"errors"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/queue/internal/intake"
)

var (
	// ErrClosed is returned by every method of a Producer after Close.
	ErrClosed = errors.New("queue: producer is closed")

	// ErrMaybeEnqueued is wrapped by an error of Enqueue when Redis may have
	// taken the job although no reply came, and the spool could not take it. To
	// try again without a second job, use asynq.TaskID.
	ErrMaybeEnqueued = errors.New("queue: the job may be in Redis all the same")

	// ErrMaybeStored is wrapped by an error of Enqueue when the disk failed in
	// the middle of the commit: the job may be in the spool, and be replayed.
	ErrMaybeStored = errors.New("queue: the job may be in the spool all the same")

	// ErrFull is wrapped by an error of Enqueue when Redis could not be reached and
	// the spool has reached a bound of Config.Spool or the end of the disk. The job
	// is not in the spool.
	ErrFull = errors.New("queue: the spool is full")

	// ErrTooLarge is wrapped by an error of Enqueue for a task that is larger than
	// Config.MaxTaskBytes or than Redis takes. Nothing was written.
	ErrTooLarge = intake.ErrTooLarge

	// ErrUnavailable is wrapped by an error of Enqueue with the option NoSpool when
	// Redis cannot be reached.
	ErrUnavailable = errors.New("queue: Redis is not available")

	// ErrIncompatible is returned by New when the asynq this program is built
	// with speaks to Redis in a way this package does not know.
	ErrIncompatible = compose.ErrIncompatible

	// ErrPaused is wrapped by an error of Drain while replay of the SpoolDir is paused, see
	// spool.PauseReplay. What is pending stays so.
	ErrPaused = errors.New("queue: replay is paused")

	// ErrDrainOnly is returned by Enqueue of a Producer with Config.DrainOnly.
	ErrDrainOnly = errors.New("queue: producer only drains")
)
