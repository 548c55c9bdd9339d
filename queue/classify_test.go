package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// reply is an error sent by Redis, as go-redis types it.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

func TestClassify(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, c := range []struct {
		err  error
		want class
	}{
		{dial, notWritten},
		{fmt.Errorf("wrapped: %w", dial), notWritten},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "x"}}, notWritten},
		{redis.ErrPoolTimeout, notWritten},
		{redis.ErrClosed, notWritten},
		{reply("LOADING Redis is loading the dataset in memory"), notWritten},
		{reply("READONLY You can't write against a read only replica."), notWritten},
		{reply("MASTERDOWN Link with MASTER is down"), notWritten},
		{reply("MISCONF Redis is configured to save RDB snapshots"), notWritten},
		{reply("OOM command not allowed when used memory > 'maxmemory'."), notWritten},
		{reply("NOREPLICAS Not enough good replicas to write."), notWritten},
		{reply("CLUSTERDOWN Hash slot not served"), notWritten},
		{reply("BUSY Redis is busy running a script."), notWritten},
		{reply("NOAUTH Authentication required."), notWritten},
		{reply("WRONGPASS invalid username-password pair"), notWritten},
		{reply("NOPERM this user has no permissions to run the 'evalsha' command"), notWritten},
		{reply("ERR max number of clients reached"), notWritten},
		{reply("ERR unknown command 'evalsha', with args beginning with: 'secret'"), notWritten},
		{reply("ERR Error running script (call to f_1): @user_script:5: -READONLY You can't write against a read only replica."), notWritten},
		{reply("ERR Error running script (call to f_1): @user_script:9: -WRONGTYPE Operation"), odd},
		{io.EOF, inDoubt},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, inDoubt},
		{&net.OpError{Op: "write", Err: syscall.EPIPE}, inDoubt},
		{context.DeadlineExceeded, inDoubt},
		{context.Canceled, inDoubt},
		{fmt.Errorf("redis: all sentinels specified are unreachable: %w", redis.Nil), inDoubt},
		{errors.New("never seen before"), inDoubt},
		{reply("ERR Protocol error: invalid bulk length"), refused},
		{reply("WRONGTYPE Operation against a key holding the wrong kind of value script: x, on @user_script:9."), odd},
		{reply("ERR The user executing the script can't run this command"), odd},
	} {
		if got := classify(c.err); got != c.want {
			t.Errorf("%v: class %d, want %d", c.err, got, c.want)
		}
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
