package queue

import (
	"context"
	"net"
	"strings"
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
		return withWords(conn), nil
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

// largeBytes is the size from which a command is never coalesced: it would hold up the
// others, and one that Redis does not take breaks the connection that they share.
const largeBytes = 64 << 10

// wordsConn lets Redis have its last words: when it refuses a command that is still
// being written, it says why, closes, and the write fails.
type wordsConn struct {
	net.Conn
	raw syscall.Conn
}

// withWords wraps a connection if it is a plain socket.
func withWords(conn net.Conn) net.Conn {
	if raw, ok := conn.(syscall.Conn); ok {
		return wordsConn{Conn: conn, raw: raw}
	}
	return conn
}

// wordsWait is how long to wait for what Redis has said.
const wordsWait = 10 * time.Millisecond

func (c wordsConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil || c.SetReadDeadline(time.Now().Add(wordsWait)) != nil {
		return n, err
	}
	words := make([]byte, 512)
	if k, rerr := c.Read(words); rerr == nil {
		if line, _, whole := strings.Cut(string(words[:k]), "\r\n"); whole && strings.HasPrefix(line, "-") {
			return n, lastWords(line[1:])
		}
	}
	return n, err
}

// SyscallConn is what go-redis looks for to see whether the connection still lives.
func (c wordsConn) SyscallConn() (syscall.RawConn, error) { return c.raw.SyscallConn() }

// lastWords is the reply of a Redis that has closed the connection upon a command. It
// belongs to the last command written, which of several nobody can tell.
type lastWords string

func (w lastWords) Error() string { return string(w) }

// RedisError marks it as one of redis.Error.
func (lastWords) RedisError() {}
