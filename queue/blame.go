package queue

import (
	"context"
	"errors"
	"strings"

	"github.com/jobspool/jobspool/queue/internal/compose"
)

// oddError is odd whatever it wraps.
type oddError struct {
	error
	own bool // it is the record's own for certain, whether Redis takes others of its queue or not
}

func (e oddError) Unwrap() error { return e.error }

// ofLook returns the error of a look at what stands in a record's way. Redis has answered
// the record's command just before, so that it denies the look is no outage of everything.
func ofLook(err error) error {
	reply, ok := replyText(err)
	if ok && (classifyReply(reply) == odd || strings.HasPrefix(reply, "NOPERM ")) {
		return oddError{error: err, own: wrongType(err)}
	}
	return err
}

// own reports whether an odd error is the record's own.
func (b *batch) own(t trouble) bool {
	var e oddError
	return classify(t.err) == odd && (t.blamed || b.delivered[t.job.Queue] || errors.As(t.err, &e) && e.own)
}

// blame finds the errors that come from a group whose set is none. The other keys that
// scripts write to are the whole queue's.
func (b *batch) blame(ctx context.Context) {
	broken := map[string]bool{}
	for i, t := range b.left {
		if t.job.Group == "" || b.own(t) || !wrongType(t.err) {
			continue
		}
		key := compose.QueuePrefix(t.job.Queue) + "g:" + t.job.Group
		if _, ok := broken[key]; !ok {
			broken[key] = wrongType(b.r.p.sender.score(ctx, t.job.Queue, key))
		}
		if broken[key] {
			b.left[i].err = oddError{error: t.err, own: true}
		}
	}
}

func wrongType(err error) bool {
	reply, ok := replyText(err)
	return ok && strings.Contains(reply, "WRONGTYPE ")
}
