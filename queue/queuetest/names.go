package queuetest

import (
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue/internal/compose"
)

// names are the task ids and unique locks that are taken in one place.
type names struct {
	ids   map[string]time.Time // by asynq's key of the task: until when; zero: for good
	locks map[string]time.Time // by asynq's key of the lock: until when
}

func newNames() names {
	return names{ids: map[string]time.Time{}, locks: map[string]time.Time{}}
}

// free returns asynq's error if a name of the job is taken, its lock first.
func (n names) free(j Job, now time.Time) error {
	until, ok := n.ids[compose.TaskKey(j.Queue, j.ID)]
	switch {
	case j.Unique && now.Before(n.locks[j.lock]):
		return fmt.Errorf("%w", asynq.ErrDuplicateTask)
	case ok && (until.IsZero() || now.Before(until)):
		return fmt.Errorf("%w", asynq.ErrTaskIDConflict)
	}
	return nil
}

// claim takes the names of a job, or returns the error of free.
func (n names) claim(j Job, now time.Time) error {
	if err := n.free(j, now); err != nil {
		return err
	}
	n.ids[compose.TaskKey(j.Queue, j.ID)] = time.Time{}
	if j.Unique {
		n.locks[j.lock] = j.LockUntil
	}
	return nil
}

// complete gives back the names of a job as asynq does when a worker has completed it.
func (n names) complete(j Job, now time.Time) {
	key := compose.TaskKey(j.Queue, j.ID)
	delete(n.ids, key)
	if j.Retention > 0 {
		n.ids[key] = now.Add(j.Retention)
	}
	delete(n.locks, j.lock)
}
