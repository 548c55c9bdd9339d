package queue

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
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
	// denied: Redis does not let this user write the keys of this queue. It surely
	// did not take the job, and may take those of other queues.
	denied
	// odd: Redis answered with an error that is no sign of an outage, but of this
	// queue or job, for example from inside the script, which may have done half
	// its work: Redis undoes nothing of a script that fails.
	odd
	// refused: Redis will not take this job, ever; there is no outage.
	refused
)

// outage reports whether the error speaks of Redis as a whole.
func (c class) outage() bool { return c == inDoubt || c == notWritten }

// ofQueue reports whether the error speaks of the queue or the job, so that other
// queues may work.
func (c class) ofQueue() bool { return c == denied || c == odd }

// classify reads an error of one attempt, made by a client that does not retry.
// The rows of classify_real_test.go show where they come from.
func classify(err error) class {
	if noSentinel(err) {
		return notWritten
	}
	if e := (oddError{}); errors.As(err, &e) {
		return odd
	}
	if reply, ok := replyText(err); ok {
		return classifyReply(reply)
	}
	var op *net.OpError
	var cert *tls.CertificateVerificationError
	var unsent unsentError
	switch {
	case errors.As(err, &unsent):
		return notWritten
	case errors.As(err, &op) && op.Op == "dial", errors.As(err, &cert):
		return notWritten
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted), errors.Is(err, redis.ErrClosed):
		return notWritten
	}
	return inDoubt
}

// noSentinel reports whether go-redis got no master's address. It asks for one
// before it dials, so nothing that a Sentinel said is an answer to a job.
func noSentinel(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if strings.HasPrefix(err.Error(), "redis: all sentinels specified in configuration are unreachable") {
			return true
		}
	}
	return false
}

// classifyReply reads an error that Redis sent.
func classifyReply(reply string) class {
	reply = withoutArgs(reply)
	if inner, ok := fromScript(reply); ok {
		if hasPrefix(inner, scriptOutages()) {
			return notWritten
		}
		return odd
	}
	switch {
	case hasPrefix(reply, refusals()):
		return refused
	case strings.HasPrefix(reply, "NOPERM") && aboutKeys(reply):
		return denied
	case hasPrefix(reply, outages()):
		return notWritten
	}
	return odd
}

// fromScript reports whether the reply comes from inside a running script, and
// returns it as the command in the script got it.
//
//	Redis < 7     ERR Error running script (call to f_<sha>): @user_script:5: -OOM command not ...
//	Redis >= 7    OOM command not ... script: <sha>, on @user_script:5.
//	Redis >= 7.2  NOPERM ACL failure in script: User ... script: <sha>, on @user_script:5.
func fromScript(reply string) (inner string, ok bool) {
	if strings.HasPrefix(reply, "ERR Error running script") {
		_, inner, _ = strings.Cut(reply, ": -")
		return inner, true
	}
	return reply, strings.Contains(reply, "@user_script:") || strings.Contains(reply, "failure in script")
}

// scriptOutages are the replies to a script's first write when Redis takes no
// writes, or to its first command. Later ones get none of these: Redis lets a
// script that has written finish, and nothing else happens while it runs.
func scriptOutages() []string {
	return []string{
		"READONLY ", "OOM ", "MISCONF ", "NOREPLICAS ", "MASTERDOWN ", "ERR Can not execute the command on a stale replica",
	}
}

// outages are the beginnings of replies with which Redis says, before it executes
// anything, that it takes no writes now, or none from us. Some answer the
// handshake of the connection, which comes before any job.
func outages() []string {
	return []string{
		"LOADING ", "READONLY ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "MOVED ", "ASK ", "OOM ", "MISCONF ", "NOREPLICAS ", "BUSY ",
		"NOAUTH ", "WRONGPASS ", "NOPERM ", "DENIED ", "ERR max number of clients", "ERR unknown command", "NOSCRIPT ",
		"ERR Protocol error: unauthenticated",                       // in place of NOAUTH, for what is large
		"ERR AUTH ", "ERR Client sent AUTH", "ERR invalid password", // Redis < 6: of AUTH
		"ERR DB index is out of range", "ERR invalid DB index", "ERR SELECT is not", // of SELECT
		"ERR This instance has cluster support disabled", // of CLUSTER, which a cluster's client asks first
	}
}

// refusals answer a command that is too large for Redis, which then closes the
// connection.
func refusals() []string {
	return []string{"ERR Protocol error: invalid bulk length", "ERR Protocol error: invalid multibulk length"}
}

// aboutKeys tells a NOPERM of the keys from one of the command.
//
//	Redis < 7.2   this user has no permissions to access one of the keys used as arguments
//	Redis >= 7.2  No permissions to access a key
func aboutKeys(reply string) bool {
	return strings.Contains(reply, "one of the keys") || strings.Contains(reply, "ermissions to access a key")
}

func hasPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
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
// arguments of a command it does not know, and with them the payload.
type scrubbedError struct{ err error }

func (e scrubbedError) Error() string {
	return withoutArgs(e.err.Error())
}

func withoutArgs(text string) string {
	text, _, _ = strings.Cut(text, ", with args beginning with")
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
