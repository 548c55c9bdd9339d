package chaos_test

import (
	"slices"
	"strings"

	"github.com/hibiken/asynq"
)

// group is where jobs wait to be aggregated, for ever: no worker here does it.
const (
	group   = "chaos"
	grouped = "aggregating" // the state of one
)

// heldJob is a job that Redis has.
type heldJob struct{ name, id, sum, state string }

// inRedis returns the jobs that Redis has, in some queues and in all that asynq knows of.
func inRedis(opt asynq.RedisConnOpt, queues []string) (held []heldJob, err error) {
	in := asynq.NewInspector(opt)
	defer func() { _ = in.Close() }()
	known, err := in.Queues()
	if err != nil {
		return nil, err
	}
	lists := map[string]func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
		grouped: func(queue string, opts ...asynq.ListOption) ([]*asynq.TaskInfo, error) {
			return in.ListAggregatingTasks(queue, group, opts...)
		},
		"pending": in.ListPendingTasks, "active": in.ListActiveTasks, "scheduled": in.ListScheduledTasks,
		"retry": in.ListRetryTasks, "archived": in.ListArchivedTasks, "completed": in.ListCompletedTasks,
	}
	all := slices.Concat(queues, known)
	slices.Sort(all)
	for _, q := range slices.Compact(all) {
		for state, list := range lists {
			for page := 1; ; page++ {
				const size = 1000
				tasks, err := list(q, asynq.PageSize(size), asynq.Page(page))
				if err != nil && strings.Contains(err.Error(), "not found") {
					break // no job of this queue was accepted
				}
				if err != nil {
					return nil, err
				}
				for _, task := range tasks {
					held = append(held, heldJob{nameOf(task.Payload), task.ID, sumOf(task.Payload), state})
				}
				if len(tasks) < size {
					break
				}
			}
		}
	}
	return held, nil
}

// busy reports whether workers have something to do.
func busy(held []heldJob) bool {
	return slices.ContainsFunc(held, func(h heldJob) bool {
		return h.state == "pending" || h.state == "scheduled" || h.state == "retry"
	})
}
