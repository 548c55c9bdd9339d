package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// The states of a task that matter here.
const (
	stateGone     = ""
	stateFinished = "finished"
	stateHeldYet  = "held"
)

// states returns the state of each task of one queue, and behind them what a marker holds,
// if there is one.
func (s *sender) states(ctx context.Context, queue string, keys []string, marker string) (states []string, mark string, err error) {
	server, err := s.server(ctx, queue)
	if err != nil {
		return nil, "", scrub(err)
	}
	pipe := server.Pipeline()
	replies := make([]*redis.StringCmd, len(keys))
	for i, k := range keys {
		replies[i] = pipe.HGet(ctx, k, "state")
	}
	var last *redis.StringCmd
	if marker != "" {
		last = pipe.Get(ctx, marker)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, "", scrub(err)
	}
	states = make([]string, len(keys))
	for i, r := range replies {
		switch state, err := r.Result(); {
		case errors.Is(err, redis.Nil):
			states[i] = stateGone
		case err != nil:
			return nil, "", scrub(err)
		case state == "completed" || state == "archived":
			states[i] = stateFinished
		default:
			states[i] = stateHeldYet
		}
	}
	if last != nil {
		if mark, err = last.Result(); err != nil && !errors.Is(err, redis.Nil) {
			return nil, "", fmt.Errorf("queue: a marker: %w", scrub(err))
		}
	}
	return states, mark, nil
}
