package queue

import (
	"context"
	"net"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// unsentError is a failure before a byte of the command was sent. It does not unwrap:
// go-redis takes layers off errors, and this one must stay.
type unsentError struct{ err error }

func (e unsentError) Error() string { return e.err.Error() }

// Timeout reports whether the time was up, as net.Error has it.
func (e unsentError) Timeout() bool { return timedOut(e.err) }

// dialHook hands a failed dial to go-redis as a connection that fails at its first use.
// go-redis would log a line for each, and after some of them open a breaker of its own,
// which answers with the old error for up to a second after Redis is back (H17).
type dialHook struct{}

// DialHook is part of redis.Hook.
func (dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return failedConn{unsentError{err}}, nil //nolint:nilerr // the connection has it
		}
		return conn, nil
	}
}

// ProcessHook is part of redis.Hook.
func (dialHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook is part of redis.Hook.
func (dialHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// failedConn is a connection that was never made.
type failedConn struct{ err error }

func (c failedConn) Read([]byte) (int, error)              { return 0, c.err }
func (c failedConn) Write([]byte) (int, error)             { return 0, c.err }
func (failedConn) Close() error                            { return nil }
func (failedConn) LocalAddr() net.Addr                     { return &net.TCPAddr{} }
func (failedConn) RemoteAddr() net.Addr                    { return &net.TCPAddr{} }
func (failedConn) SetDeadline(time.Time) error             { return nil }
func (failedConn) SetReadDeadline(time.Time) error         { return nil }
func (failedConn) SetWriteDeadline(time.Time) error        { return nil }
func (c failedConn) SyscallConn() (syscall.RawConn, error) { return nil, c.err }
