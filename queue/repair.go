package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/spool"
)

// unlessThere goes before one of asynq's enqueue scripts, which gets its own keys and
// arguments first. It ends the script where the task is where its hash says it is.
// Otherwise it deletes what an attempt that failed inside has left, and asynq's script does
// the rest as it would have done then. It deletes nothing but a hash whose message is the
// one that was looked at, in no list, and a lock that the id itself holds.
//
//	the hash says     the task is there if its id is
//	pending           in the list pending
//	scheduled         in the set scheduled
//	aggregating       in its group's set, or in an aggregation set, where a worker has it
//	anything else     a worker has it, or had it
//
// asynq aggregates only groups that are named in the set groups: the last thing its script
// does, so that may be all that is missing.
const unlessThere = `
local task, lock = KEYS[#KEYS - 1], KEYS[#KEYS]
local id, seen, queue = ARGV[#ARGV - 2], ARGV[#ARGV - 1], ARGV[#ARGV]
if (redis.call("HGET", task, "msg") or "") ~= seen then
	return 3
end
if seen ~= "" then
	local state = redis.call("HGET", task, "state")
	local there = true
	if state == "pending" then
		there = redis.call("LPOS", queue .. "pending", id)
	elseif state == "scheduled" then
		there = redis.call("ZSCORE", queue .. "scheduled", id)
	elseif state == "aggregating" then
		local group = redis.call("HGET", task, "group") or ""
		there = redis.call("ZSCORE", queue .. "g:" .. group, id)
		if there and redis.call("SADD", queue .. "groups", group) == 1 then
			return 1
		end
		for _, set in ipairs(there and {} or redis.call("ZRANGE", queue .. "aggregation_sets", 0, -1)) do
			there = there or redis.call("ZSCORE", set, id)
		end
	end
	if there then
		return 2
	end
	redis.call("DEL", task)
end
if lock ~= task and redis.call("GET", lock) == id then
	redis.call("DEL", lock)
end
`

// The answers of unlessThere beside those of asynq's scripts.
const (
	there   verdict = 2 // nothing was missing
	changed verdict = 3 // the message is not the one that was looked at
)

// repairRights are what the user needs for a repair beside what enqueueing takes.
const repairRights = "+lpos +zscore +zrange"

// maxRepairs bounds the repairs of one batch. Each takes two round trips of its own, and
// Redis some 30 ms to look through a list of a million.
const maxRepairs = 4

// errLater leaves a record to the next batch.
var errLater = fmt.Errorf("%w: enough was repaired at a time", errUnclear)

// half reports whether Redis may hold half a task: the reply to an earlier attempt of the
// record's was an error from inside a script, which Redis does not undo.
func (it item) half() bool { return it.job.HalfDone || it.entry.Attempts > 0 }

// repair repairs some records, first those that failed least often, so that what cannot be
// repaired holds up nothing else.
func (b *batch) repair(ctx context.Context) {
	slices.SortStableFunc(b.half, func(x, y trouble) int { return cmp.Compare(x.entry.Attempts, y.entry.Attempts) })
	for i, t := range b.half {
		if i >= maxRepairs {
			b.judged(t, 0, death{}, errLater)
			continue
		}
		o, why, err := b.r.repair(ctx, t.item)
		b.judged(t, o, why, err)
	}
}

// repair settles a record that Redis refuses because of its id or its lock, where that may
// be what an earlier attempt of its own has left.
func (r *replayer) repair(ctx context.Context, it item) (o spool.Outcome, why death, err error) {
	message, why, err := r.held(ctx, it.job)
	switch {
	case err != nil && !errors.Is(err, redis.Nil):
		return r.judgeError(err)
	case why.kind != alive:
		r.p.sender.settleLock(ctx, it.cmd, result{verdict: conflict}) // which is not the other task's
		return spool.Dead, why, nil
	}
	res := r.p.sender.repair(ctx, it.cmd, message)
	switch {
	case res.err != nil:
		return r.judgeError(res.err)
	case res.verdict == enqueued:
		r.p.cfg.Logger.Debug("queue: a task is whole that a failed script had left half done", "queue", it.job.Queue, "task_id", it.job.ID)
		return spool.Delivered, death{}, nil
	case res.verdict == there:
		return spool.AlreadyThere, death{}, nil
	case res.verdict == duplicate:
		return spool.Superseded, death{}, nil // its own lock was none
	}
	return 0, death{}, errUnclear // conflict or changed: somebody was faster
}

// repair enqueues what is missing of a task of which Redis holds this message, or none.
func (s *sender) repair(ctx context.Context, cmd command, message []byte) result {
	lock := cmd.Lock()
	if lock == "" {
		lock = cmd.TaskKey()
	}
	source := unlessThere + cmd.Script.Source
	res := s.once(ctx, command{
		Script: &compose.Script{Source: source, SHA: redis.NewScript(source).Hash()}, Queue: cmd.Queue, ID: cmd.ID,
		Keys: append(slices.Clip(cmd.Keys), cmd.TaskKey(), lock),
		Args: append(slices.Clip(cmd.Args), cmd.ID, message, compose.QueuePrefix(cmd.Queue)),
	})
	if lacksRight(res.err) {
		res.err = fmt.Errorf("%w; a repair takes %s beside what enqueueing takes", res.err, repairRights)
	}
	return res
}

// lacksRight reports whether a command inside a script was denied.
//
//	Redis < 6.0.6 ERR Unknown Redis command called from script (LPOS)
//	Redis < 7.2   ERR The user executing the script can't run this command or subcommand
//	Redis >= 7.2  NOPERM ACL failure in script: User app has no permissions to run the 'lpos' command
func lacksRight(err error) bool {
	reply, ok := replyText(err)
	return ok && (strings.Contains(reply, "can't run this command") || strings.Contains(reply, "ermissions to run") ||
		strings.Contains(reply, "nknown Redis command"))
}
