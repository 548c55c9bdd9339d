package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	scanStep  = 1000
	mostSteps = 1000  // of SCAN, on each server
	mostTasks = 10000 // active ones that are looked at in each queue

	// graceOfLease is after which time asynq has surely taken back a task whose lease
	// has ended: it looks every minute for those that ended 30 s ago.
	graceOfLease = 2 * time.Minute

	// queueKeys fits the keys below, and few others; most keys are those of tasks.
	queueKeys = "asynq:{*}:[acgprs]*[degsy]"
)

// queueOf returns the queue of a key that is there because the queue holds tasks.
func queueOf(key string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(key, "asynq:{")
	i := strings.LastIndex(rest, "}:")
	if !ok || i < 0 {
		return "", false
	}
	return rest[:i], slices.Contains([]string{"pending", "active", "scheduled", "retry", "archived", "completed", "groups"}, rest[i+2:])
}

// queueSet is what Redis holds of asynq.
type queueSet struct {
	registered []string
	found      []string // that have keys; sorted
	scanned    bool     // all keys were seen
	err        error    // of the scan
	regErr     error
}

// lease is what is known of the active tasks of a queue.
type lease struct {
	active  int
	without []string // task ids
	expired []string // for longer than the grace
	cut     bool     // there are more than were looked at
}

// checkAsynq looks at asynq's own keys through c, and through each of the masters.
func checkAsynq(ctx context.Context, c redis.UniversalClient, masters []*redis.Client, skew time.Duration) []finding {
	q := queueSet{scanned: true}
	q.registered, q.regErr = c.SMembers(ctx, queuesKey).Result()
	for _, m := range masters {
		found, all, err := scanQueues(ctx, m, mostSteps)
		q.found, q.scanned, q.err = append(q.found, found...), q.scanned && all, errors.Join(q.err, err)
	}
	slices.Sort(q.found)
	slices.Sort(q.registered)
	out := []finding{judgeQueues(q)}
	if q.regErr != nil && q.err != nil {
		return append(out, notMade("paused", q.regErr), notMade("leases", q.regErr))
	}
	all := slices.Concat(q.registered, q.found)
	slices.Sort(all)
	all = slices.Compact(all)
	return append(out, checkPaused(ctx, c, all), checkLeases(ctx, c, all, skew))
}

// scanQueues returns the queues that have keys on a server. All is false if there are more
// keys than steps.
func scanQueues(ctx context.Context, c *redis.Client, steps int) (found []string, all bool, err error) {
	seen := map[string]bool{}
	var cursor uint64
	for range steps {
		var keys []string
		if keys, cursor, err = c.Scan(ctx, cursor, queueKeys, scanStep).Result(); err != nil {
			return found, false, err
		}
		for _, key := range keys {
			if name, ok := queueOf(key); ok && !seen[name] {
				seen[name] = true
				found = append(found, name)
			}
		}
		if cursor == 0 {
			return found, true, nil
		}
	}
	return found, false, nil
}

// judgeQueues is about H15: asynq's tools look for queues in a set, in which a process enters
// each once.
func judgeQueues(q queueSet) finding {
	const check = "queues"
	var unknown []string
	for _, name := range q.found {
		if !slices.Contains(q.registered, name) {
			unknown = append(unknown, name)
		}
	}
	switch {
	case q.regErr != nil:
		return notMade(check, q.regErr)
	case len(unknown) > 0:
		return warned(check, "not in asynq:queues, so asynq's tools do not show them: "+someOf(unknown, ", "),
			"SADD asynq:queues "+someOf(unknown, " ")+"; a Producer does so with its next job of the queue")
	case q.err != nil:
		return notMade(check, fmt.Errorf("whether all queues are in asynq:queues: %w", q.err))
	case !q.scanned:
		return warned(check, fmt.Sprintf("%s in asynq:queues; not all keys were looked at, there are too many", plural(len(q.registered), "queue")),
			"compare SMEMBERS asynq:queues with the queues of your services")
	}
	return passed(check, plural(len(q.registered), "queue")+" in asynq:queues, no other has keys")
}

func checkPaused(ctx context.Context, c redis.UniversalClient, all []string) finding {
	var names []string
	for _, name := range all {
		n, err := c.Exists(ctx, "asynq:{"+name+"}:paused").Result()
		if err != nil {
			return notMade("paused", err)
		}
		if n > 0 {
			names = append(names, name)
		}
	}
	return judgePaused(names)
}

func judgePaused(names []string) finding {
	if len(names) == 0 {
		return passed("paused", "none")
	}
	return warned("paused", "workers take nothing out of "+someOf(names, ", "), "asynq queue unpause <queue>, if nobody wants that")
}

// checkLeases is about H83: asynq takes back what a worker has not finished by its lease. A
// task without one stays active for ever.
func checkLeases(ctx context.Context, c redis.UniversalClient, all []string, skew time.Duration) finding {
	leases := map[string]lease{}
	for _, name := range all {
		l, err := readLease(ctx, c, name, time.Now().Add(skew))
		if err != nil {
			return notMade("leases", err)
		}
		leases[name] = l
	}
	return judgeLeases(all, leases)
}

// readLease reads both lists at one instant: asynq moves a task into and out of both.
func readLease(ctx context.Context, c redis.UniversalClient, name string, now time.Time) (lease, error) {
	pipe := c.TxPipeline()
	count := pipe.LLen(ctx, "asynq:{"+name+"}:active")
	active := pipe.LRange(ctx, "asynq:{"+name+"}:active", 0, mostTasks-1)
	until := pipe.ZRangeWithScores(ctx, "asynq:{"+name+"}:lease", 0, -1)
	if _, err := pipe.Exec(ctx); err != nil {
		return lease{}, err
	}
	return newLease(active.Val(), until.Val(), int(count.Val()), now), nil
}

func newLease(active []string, until []redis.Z, count int, now time.Time) lease {
	ends := map[string]time.Time{}
	for _, z := range until {
		if id, ok := z.Member.(string); ok {
			ends[id] = time.Unix(int64(z.Score), 0)
		}
	}
	l := lease{active: count, cut: count > len(active)}
	for _, id := range active {
		switch end, ok := ends[id]; {
		case !ok:
			l.without = append(l.without, id)
		case now.Sub(end) > graceOfLease:
			l.expired = append(l.expired, id)
		}
	}
	return l
}

func judgeLeases(names []string, leases map[string]lease) finding {
	active, cut := 0, ""
	var without, expired []string
	for _, name := range names {
		l := leases[name]
		active += l.active
		if l.cut {
			cut = "; of " + name + " only " + strconv.Itoa(mostTasks) + " were looked at"
		}
		if n := len(l.without); n > 0 {
			without = append(without, fmt.Sprintf("%d of %s (%s)", n, name, someOf(l.without, ", ")))
		}
		if n := len(l.expired); n > 0 {
			expired = append(expired, fmt.Sprintf("%d of %s (%s)", n, name, someOf(l.expired, ", ")))
		}
	}
	switch {
	case len(without) > 0:
		return failed("leases", "active without a lease, which asynq never takes back: "+someOf(without, "; ")+cut,
			"if no worker runs it any more, ZADD asynq:{<queue>}:lease 0 <task id>: asynq retries it within a minute")
	case len(expired) > 0:
		return warned("leases", "active, and the lease ended over "+graceOfLease.String()+" ago: "+someOf(expired, "; ")+cut,
			"start a worker server for the queue: it takes them back within a minute")
	case cut != "":
		return warned("leases", plural(active, "active task")+cut, "see that the queue's workers finish what they take")
	}
	return passed("leases", plural(active, "active task")+", none without a lease")
}
