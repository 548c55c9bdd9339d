package queue

import (
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// class says what an error of an attempt means for the job.
type class int

const (
	// inDoubt: no reply came, Redis may have taken the job now or later. What is
	// not known to be something else is this.
	inDoubt class = iota
	// notWritten: an outage, and Redis surely did not take the job.
	notWritten
	// refused: Redis will not take this job, ever; there is no outage.
	refused
	// odd: Redis answered with an error that is no sign of an outage, for example
	// from inside the script, which may have done half its work (H7).
	odd
)

// outage reports whether the error speaks of Redis rather than of the job.
func (c class) outage() bool { return c == inDoubt || c == notWritten }

// outageReplies are the beginnings of replies with which Redis says that it takes
// no writes now. Scripts are refused before they begin.
func outageReplies() []string {
	return []string{
		"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "OOM", "MISCONF", "NOREPLICAS", "BUSY ",
		"NOAUTH", "WRONGPASS", "NOPERM", "ERR max number of clients reached", "ERR unknown command", "NOSCRIPT",
	}
}

// classify reads an error of one attempt, made by a client that does not retry.
// See hazards.md, section 1, for where each came from.
func classify(err error) class {
	if reply, ok := replyText(err); ok {
		if strings.HasPrefix(reply, "ERR Protocol error: invalid bulk length") {
			return refused
		}
		// Redis before 7 wraps what a script ran into.
		oldScriptError := strings.HasPrefix(reply, "ERR Error running script")
		for _, prefix := range outageReplies() {
			if strings.HasPrefix(reply, prefix) || (oldScriptError && strings.Contains(reply, ": -"+prefix)) {
				return notWritten
			}
		}
		return odd
	}
	var op *net.OpError
	var unsent unsentError
	switch {
	case errors.As(err, &unsent):
		return notWritten
	case errors.As(err, &op) && op.Op == "dial":
		return notWritten
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrClosed):
		return notWritten
	}
	return inDoubt
}

// timedOut reports whether an attempt ended because its time was up. The context
// itself may learn of that a moment later than the socket.
func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// replyText returns the text of an error that Redis itself sent. redis.Nil looks
// like one and is wrapped by the error of a client that found no Sentinel.
func replyText(err error) (string, bool) {
	var reply redis.Error
	if !errors.As(err, &reply) || errors.Is(err, redis.Nil) {
		return "", false
	}
	return reply.Error(), true
}

// scrubbedError is an error of Redis's whose text may be shown: Redis quotes the
// arguments of a command it does not know, and with them the payload (H20).
type scrubbedError struct{ err error }

func (e scrubbedError) Error() string {
	text, _, _ := strings.Cut(e.err.Error(), ", with args beginning with")
	return text
}

func (e scrubbedError) Unwrap() error { return e.err }

// scrub returns err, if there is one, without what must not be shown.
func scrub(err error) error {
	if err == nil {
		return nil
	}
	return scrubbedError{err}
}
