package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// reply is an error sent by Redis, as go-redis types it.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

// sha is how a Redis >= 7 marks an error from inside a script; old is how an
// older one begins it.
const (
	sha = " script: 98d28b42650870a743450ffda9791e9e19c6991b, on @user_script:9."
	old = "ERR Error running script (call to f_98d28b42650870a743450ffda9791e9e19c6991b): @user_script:9: "
)

func TestClassifyReplies(t *testing.T) {
	for want, replies := range map[class][]string{
		notWritten: {
			"LOADING Redis is loading the dataset in memory",
			"READONLY You can't write against a read only replica.",
			"READONLY You can't write against a read only replica." + sha,
			"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
			"ERR Can not execute the command on a stale replica" + sha,
			"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk." + sha,
			"OOM command not allowed when used memory > 'maxmemory'." + sha,
			"NOREPLICAS Not enough good replicas to write." + sha,
			"CLUSTERDOWN Hash slot not served",
			"TRYAGAIN Multiple keys request during rehashing of slot",
			"MOVED 3999 127.0.0.1:6381",
			"ASK 3999 127.0.0.1:6381",
			"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
			"NOAUTH Authentication required.",
			"ERR Protocol error: unauthenticated bulk length",
			"ERR Protocol error: unauthenticated multibulk length",
			"WRONGPASS invalid username-password pair or user is disabled.",
			"ERR invalid password",
			"ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
			"ERR Client sent AUTH, but no password is set",
			"DENIED Redis is running in protected mode because protected mode is enabled",
			"NOPERM this user has no permissions to run the 'evalsha' command",
			"NOPERM this user has no permissions to run the 'evalsha' command or its subcommand",
			"NOPERM User u has no permissions to run the 'evalsha' command",
			"ERR max number of clients reached",
			"ERR max number of clients + cluster connections reached",
			"ERR unknown command 'evalsha', with args beginning with: 'secret'",
			"ERR unknown command `evalsha`, with args beginning with: `" + sha + "`, ",
			"ERR DB index is out of range",
			"ERR This instance has cluster support disabled",
			old + "-READONLY You can't write against a read only replica.",
			old + "@user_script: 9: -NOREPLICAS Not enough good replicas to write.",
			old + "-OOM command not allowed when used memory > 'maxmemory'.",
			old + "-MISCONF Redis is configured to save RDB snapshots",
		},
		denied: {
			"NOPERM this user has no permissions to access one of the keys used as arguments",
			"NOPERM No permissions to access a key",
		},
		odd: {
			"WRONGTYPE Operation against a key holding the wrong kind of value" + sha,
			old + "-WRONGTYPE Operation against a key holding the wrong kind of value",
			"ERR The user executing the script can't run this command or subcommand" + sha,
			"ERR The user executing the script can't access at least one of the keys mentioned in the command arguments" + sha,
			"NOPERM ACL failure in script: User u has no permissions to run the 'lpush' command" + sha,
			"NOPERM ACL failure in script: No permissions to access a key" + sha,
			"NOPERM ACL failure in script: User u has no permissions to run the 'lpush' command",
			old + "@user_script: 9: The user executing the script can't run this command or subcommand",
			"ERR Unknown Redis command called from script" + sha,
			old + "@user_script: 9: Unknown Redis command called from Lua script",
			"NOPERM of a kind not seen yet" + sha,
			"ERR unknown command 'lpush'" + sha,
			"CROSSSLOT Keys in request don't hash to the same slot",
			"BUSYKEY Target key name already exists.",
			"ERR Error running script (call to f_1): Script killed by user with SCRIPT KILL...",
			"ERR never seen before",
			"",
		},
		refused: {
			"ERR Protocol error: invalid bulk length",
			"ERR Protocol error: invalid multibulk length",
		},
	} {
		for _, text := range replies {
			for _, err := range []error{reply(text), scrub(reply(text)), fmt.Errorf("wrapped: %w", scrub(reply(text)))} {
				if got := classify(err); got != want {
					t.Errorf("%v: class %d, want %d", err, got, want)
				}
			}
		}
	}
}

func TestClassify(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	noSentinel := "redis: all sentinels specified in configuration are unreachable"
	for _, c := range []struct {
		err  error
		want class
	}{
		{dial, notWritten},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "x"}}, notWritten},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, notWritten},
		{redis.ErrPoolTimeout, notWritten},
		{redis.ErrPoolExhausted, notWritten},
		{redis.ErrClosed, notWritten},
		{&tls.CertificateVerificationError{Err: errors.New("x")}, notWritten},
		{fmt.Errorf(noSentinel+": %w", errors.Join(redis.Nil)), notWritten},
		{fmt.Errorf(noSentinel+": %w", errors.Join(reply("IDONTKNOW"), io.EOF)), notWritten},
		{errors.New(noSentinel), notWritten},

		{io.EOF, inDoubt},
		{io.ErrUnexpectedEOF, inDoubt},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, inDoubt},
		{&net.OpError{Op: "read", Err: net.ErrClosed}, inDoubt},
		{&net.OpError{Op: "write", Err: syscall.EPIPE}, inDoubt},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, inDoubt},
		{os.ErrDeadlineExceeded, inDoubt},
		{context.DeadlineExceeded, inDoubt},
		{context.Canceled, inDoubt},
		{redis.Nil, inDoubt},
		{ErrIncompatible, inDoubt},
		{errors.New("never seen before"), inDoubt},
		{fmt.Errorf("%w: "+noSentinel, io.EOF), inDoubt}, // somebody else's words
	} {
		for _, err := range []error{c.err, scrub(c.err), fmt.Errorf("wrapped: %w", scrub(c.err))} {
			if got := classify(err); got != c.want {
				t.Errorf("%v: class %d, want %d", err, got, c.want)
			}
		}
	}
}

func TestClassesDivide(t *testing.T) {
	for c, want := range map[class][2]bool{
		inDoubt: {true, false}, notWritten: {true, false}, denied: {false, true}, odd: {false, true}, refused: {false, false},
	} {
		if got := [2]bool{c.outage(), c.ofQueue()}; got != want {
			t.Errorf("class %d: outage and of a queue: %v, want %v", c, got, want)
		}
	}
	if classify(errors.New("x")) != 0 {
		t.Error("what is not known is not the zero class")
	}
}

func TestScrubHidesThePayloadAndNothingElse(t *testing.T) {
	err := fmt.Errorf("outer: %w", scrub(reply("ERR unknown command 'evalsha', with args beginning with: 'secret'")))
	if got := err.Error(); strings.Contains(got, "secret") || !strings.Contains(got, "unknown command") {
		t.Error(got)
	}
	if classify(err) != notWritten || scrub(nil) != nil {
		t.Error("it is no longer what it was")
	}
}
