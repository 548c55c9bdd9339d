package queue

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/internal/compose"
)

// releaseLock deletes a unique lock if it is held by the id.
const releaseLock = `if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end return 0`

// settleLock is settleLocks for one command. It returns r.
func (s *sender) settleLock(ctx context.Context, cmd command, r result) result {
	s.settleLocks(ctx, []command{cmd}, []result{r})
	return r
}

// settleLocks gives back the unique locks that asynq's scripts have taken before they found
// that the id exists: nothing else would, until they expire. One whose release fails
// stays until then, as with asynq.
func (s *sender) settleLocks(ctx context.Context, cmds []command, results []result) {
	var releases []command
	for i, r := range results {
		if lock := cmds[i].Lock(); r.err == nil && r.verdict == conflict && lock != "" {
			releases = append(releases, command{Script: s.release, Queue: cmds[i].Queue, Keys: []string{lock}, Args: []any{cmds[i].ID}})
		}
	}
	if len(releases) > 0 {
		s.pipelines(ctx, releases, ConfirmConfig{})
	}
}

// lockHolder returns the id of the task that holds a unique lock, empty for none.
func (s *sender) lockHolder(ctx context.Context, lock string) (string, error) {
	server, err := s.serverOf(ctx, lock)
	if err != nil {
		return "", scrub(err)
	}
	id, err := server.Get(ctx, lock).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return id, scrub(err)
}

// message returns asynq's message of a task: redis.Nil if there is no such task, and no
// bytes if something else has its name.
func (s *sender) message(ctx context.Context, queue, id string) ([]byte, error) {
	server, err := s.server(ctx, queue)
	if err != nil {
		return nil, scrub(err)
	}
	key := compose.TaskKey(queue, id)
	b, err := server.HGet(ctx, key, "msg").Bytes()
	if !errors.Is(err, redis.Nil) {
		return b, scrub(err)
	}
	if n, err := server.Exists(ctx, key).Result(); n > 0 || err != nil {
		return nil, scrub(err)
	}
	return nil, redis.Nil
}

// score asks for a score in a set, whose error shows whether it is one.
func (s *sender) score(ctx context.Context, queue, set string) error {
	server, err := s.server(ctx, queue)
	if err != nil {
		return err
	}
	return server.ZScore(ctx, set, "").Err()
}
