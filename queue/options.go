package queue

import (
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue/internal/intake"
)

// Where tells where a job is.
type Where int

// The places a job can be in when Enqueue returns.
const (
	Nowhere Where = iota // Enqueue has not accepted it
	InRedis              // Redis has acknowledged it
	InSpool              // it is on disk, Redis surely does not have it
	InDoubt              // it is on disk, Redis may have it as well: an attempt got no reply
)

// String returns "nowhere", "redis", "spool" or "in doubt".
func (w Where) String() string {
	switch w {
	case Nowhere:
		return "nowhere"
	case InRedis:
		return "redis"
	case InSpool:
		return "spool"
	case InDoubt:
		return "in doubt"
	}
	return fmt.Sprintf("Where(%d)", int(w))
}

// ReportTo is an option of Enqueue that tells the caller where the job is, which
// TaskInfo cannot: its State says pending also while the job only lies on disk. *where
// is set before Enqueue returns, to Nowhere with every error. For EnqueueBatch it is the
// last of the places, in the order of the constants, in which any accepted task is.
//
// Like the package's other options it belongs to the call. Given to asynq.NewTask it is
// an error of the call.
func ReportTo(where *Where) asynq.Option { return reportTo{where} }

// NoSpool is an option of Enqueue for a job that is worthless if it comes late: without
// Redis, Enqueue fails with ErrUnavailable instead of writing the job to the spool. The
// error wraps ErrMaybeEnqueued as well if Redis may have the job.
func NoSpool() asynq.Option { return noSpool{} }

// SpoolFirst is an option of Enqueue that takes a job through the spool although Redis is
// there, to see that this works before it is needed: Enqueue makes no attempt at Redis and
// returns when the spool has fsynced the job, ReportTo says InSpool, and the job is replayed
// at once, like any other. As in an outage, asynq.ErrDuplicateTask and
// asynq.ErrTaskIDConflict hold against what waits in this Producer's spool; against what
// Redis has, only the replay finds out. Together with NoSpool it is an error of the call.
func SpoolFirst() asynq.Option { return spoolFirst{} }

// MaxSpoolAge is an option of Enqueue that bounds how long the job may wait in the spool.
// What could not be replayed within d of the call becomes a dead letter, also if Redis
// may have had it since the call. d is cut to milliseconds; zero and less are an error.
func MaxSpoolAge(d time.Duration) asynq.Option { return maxSpoolAge(d) }

// The types of our options, which asynq passes by: it knows its own by their Go types.
const (
	reportToOpt asynq.OptionType = -1 - iota
	noSpoolOpt
	maxSpoolAgeOpt
	spoolFirstOpt
)

type (
	reportTo    struct{ where *Where }
	noSpool     struct{}
	spoolFirst  struct{}
	maxSpoolAge time.Duration
)

func (reportTo) String() string            { return "ReportTo()" }
func (reportTo) Type() asynq.OptionType    { return reportToOpt }
func (o reportTo) Value() any              { return o.where }
func (noSpool) String() string             { return "NoSpool()" }
func (noSpool) Type() asynq.OptionType     { return noSpoolOpt }
func (noSpool) Value() any                 { return nil }
func (spoolFirst) String() string          { return "SpoolFirst()" }
func (spoolFirst) Type() asynq.OptionType  { return spoolFirstOpt }
func (spoolFirst) Value() any              { return nil }
func (d maxSpoolAge) String() string       { return fmt.Sprintf("MaxSpoolAge(%v)", time.Duration(d)) }
func (maxSpoolAge) Type() asynq.OptionType { return maxSpoolAgeOpt }
func (d maxSpoolAge) Value() any           { return time.Duration(d) }

func (o reportTo) Apply(to *intake.Options) error {
	to.Where = (*int)(o.where)
	to.Report(int(Nowhere))
	return nil
}

func (noSpool) Apply(to *intake.Options) error {
	to.NoSpool = true
	return nil
}

func (spoolFirst) Apply(to *intake.Options) error {
	to.SpoolFirst = true
	return nil
}

func (d maxSpoolAge) Apply(to *intake.Options) error {
	if to.MaxAge = time.Duration(d).Truncate(time.Millisecond); to.MaxAge <= 0 {
		return errors.New("queue: MaxSpoolAge must be at least a millisecond")
	}
	return nil
}

// ownOptions are the options of ours that a call was given.
type ownOptions = intake.Options
