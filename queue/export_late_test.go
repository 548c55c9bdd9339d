package queue

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/queue/internal/intake"
	"github.com/jobspool/jobspool/spool"
)

// ClockAhead is a process whose clock is ahead.
type ClockAhead struct {
	By          time.Duration
	Dir, Target string
}

// Spool spools a task as a call of Enqueue would in that process, and returns its id. The
// process ends with it.
func (c ClockAhead) Spool(tb testing.TB, task *asynq.Task, opts ...asynq.Option) (id string) {
	tb.Helper()
	composer, err := compose.New()
	fatal(tb, err)
	defer func() { _ = composer.Close() }()
	own, err := intake.ReadOptions(opts)
	fatal(tb, err)
	info, cmd, err := composer.Compose(tb.Context(), task, opts...)
	fatal(tb, err)
	j := newJob(info, cmd, time.Now().Add(c.By))
	if !j.ProcessAt.IsZero() {
		j.ProcessAt = j.ProcessAt.Add(c.By)
	}
	if own.MaxAge > 0 {
		j.Expires = j.At.Add(own.MaxAge)
	}
	s, err := spool.Open(spool.Options{Dir: c.Dir, Target: c.Target})
	fatal(tb, err)
	fatal(tb, s.Append(j.record()))
	fatal(tb, s.Close())
	return j.ID
}

func fatal(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
