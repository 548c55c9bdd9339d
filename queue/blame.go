package queue

import (
	"context"
	"errors"
	"strings"

	"github.com/jobspool/jobspool/queue/internal/compose"
)

// oddError is odd whatever it wraps: it comes from a look at what stands in a record's way.
type oddError struct{ error }

func (e oddError) Unwrap() error { return e.error }

// ofLook returns the error of a look at what stands in a record's way. Redis has answered
// the record's command just before, so that it denies the look is no outage of everything.
func ofLook(err error) error {
	reply, ok := replyText(err)
	if ok && (classifyReply(reply) == odd || strings.HasPrefix(reply, "NOPERM ")) {
		return oddError{err}
	}
	return err
}

// blame finds out which odd errors are the record's own: Redis took another job of the queue, or
// something is of the wrong type that is the record's alone, what stands in its way or the set
// of its group. The other keys that scripts write to are the whole queue's.
func (b *batch) blame(ctx context.Context) {
	broken := map[string]bool{}
	for i := range b.left {
		t := &b.left[i]
		switch {
		case t.class != odd:
		case t.blamed, b.delivered[t.job.Queue]:
			t.own = true
		case wrongType(t.err):
			var look oddError
			t.own = errors.As(t.err, &look) || b.brokenGroup(ctx, t.job, broken)
		}
	}
}

// brokenGroup reports whether the set of a job's group is none. It remembers what it has seen.
func (b *batch) brokenGroup(ctx context.Context, j job, seen map[string]bool) bool {
	if j.Group == "" {
		return false
	}
	key := compose.QueuePrefix(j.Queue) + "g:" + j.Group
	if _, ok := seen[key]; !ok {
		seen[key] = wrongType(b.r.p.sender.score(ctx, j.Queue, key))
	}
	return seen[key]
}

func wrongType(err error) bool {
	reply, ok := replyText(err)
	return ok && strings.Contains(reply, "WRONGTYPE ")
}
