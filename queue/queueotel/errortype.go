package queueotel

import (
	"context"
	"errors"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
)

// errorType returns error.type of an error of a Producer's: of those that it wraps, the first in
// this order.
func errorType(err error) string {
	for _, known := range []struct {
		err  error
		name string
	}{
		{queue.ErrClosed, "closed"},
		{queue.ErrDrainOnly, "drain_only"},
		{queue.ErrTooLarge, "too_large"},
		{queue.ErrIncompatible, "incompatible"},
		{asynq.ErrDuplicateTask, "duplicate_task"},
		{asynq.ErrTaskIDConflict, "task_id_conflict"},
		{queue.ErrFull, "full"},
		{queue.ErrMaybeStored, "maybe_stored"},
		{queue.ErrMaybeEnqueued, "maybe_enqueued"},
		{queue.ErrUnavailable, "unavailable"},
		{context.DeadlineExceeded, "deadline_exceeded"},
		{context.Canceled, "canceled"},
	} {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	return "_OTHER"
}
