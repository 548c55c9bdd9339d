package queue

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
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
// which answers with the old error for up to a second after Redis is back. It also
// ends dials that go on in the background when the client is closed.
type dialHook struct {
	closing context.Context //nolint:containedctx // ends with the client
	epoch   *atomic.Int64   // of the client's connections
}

// DialHook is part of redis.Hook.
func (h dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(h.closing, cancel)() //nolint:contextcheck // two ends, one context
		born := age{h.epoch.Load(), h.epoch}
		conn, err := next(ctx, network, addr)
		if err != nil {
			return failedConn{unsentError{err}}, nil
		}
		return newSocket(conn, born), nil
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

// socket is a plain socket as a producer needs it.
//
// It lets Redis have its last words: when it refuses a command that is still being
// written, it says why, closes, and the write fails.
//
// And it spares system calls: go-redis sets three deadlines for a command, and looks into
// the socket before it to see whether it still lives. A socket that has just answered does,
// and two of the deadlines are the same.
type socket struct {
	net.Conn
	age
	raw syscall.RawConn

	answered time.Time // when it was last read from
	deadline time.Time // as last set, for reading and writing
}

// lively is how long a socket that has answered is taken to live. It is short, so that the
// first job after Redis has gone away mostly finds a dead socket before it is sent, rather
// than being in doubt.
const lively = time.Millisecond

// newSocket wraps a connection.
func newSocket(conn net.Conn, born age) net.Conn {
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			return &socket{Conn: conn, age: born, raw: raw}
		}
	}
	return veiled{conn, born}
}

func (s *socket) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if err == nil {
		s.answered = time.Now()
	} else {
		s.answered = time.Time{}
	}
	return n, err
}

// wordsWait is how long to wait for what Redis has said.
const wordsWait = 10 * time.Millisecond

func (s *socket) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	s.answered = time.Time{}
	if s.Conn.SetReadDeadline(time.Now().Add(wordsWait)) != nil {
		return n, err
	}
	words := make([]byte, 512)
	if k, rerr := s.Conn.Read(words); rerr == nil {
		if line, _, whole := strings.Cut(string(words[:k]), "\r\n"); whole && strings.HasPrefix(line, "-") {
			return n, lastWordsError(line[1:])
		}
	}
	return n, err
}

// SetDeadline is called by go-redis before it looks whether the socket lives, with no
// deadline.
func (s *socket) SetDeadline(t time.Time) error {
	if t.IsZero() && s.lives() {
		return nil
	}
	s.deadline = t
	return s.Conn.SetDeadline(t)
}

// SetWriteDeadline sets the deadline for reading, too: go-redis is about to set it, mostly
// to the same time.
func (s *socket) SetWriteDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadDeadline sets both deadlines, if they are not the same already.
func (s *socket) SetReadDeadline(t time.Time) error {
	if t.Equal(s.deadline) {
		return nil
	}
	s.deadline = t
	return s.Conn.SetDeadline(t)
}

func (s *socket) lives() bool {
	return !s.answered.IsZero() && time.Since(s.answered) < lively
}

// SyscallConn is what go-redis looks into the socket with.
func (s *socket) SyscallConn() (syscall.RawConn, error) {
	if s.over() {
		return nil, errOver
	}
	if s.lives() {
		return livelySocket{s.raw}, nil
	}
	return s.raw, nil
}

// livelySocket does not look.
type livelySocket struct{ syscall.RawConn }

func (livelySocket) Read(func(fd uintptr) bool) error { return nil }

// age is the epoch in which a connection was dialled. When it is over the connection may lead
// nowhere: go-redis, which looks into each before it uses it again, is told that it is dead.
type age struct {
	born int64
	now  *atomic.Int64
}

var errOver = errors.New("queue: a connection of before an outage")

func (a age) over() bool { return a.now.Load() != a.born }

// veiled is a connection into whose socket nobody can look, for example one of TLS.
type veiled struct {
	net.Conn
	age
}

// SyscallConn lets go-redis know when the epoch is over.
func (v veiled) SyscallConn() (syscall.RawConn, error) {
	if v.over() {
		return nil, errOver
	}
	return livelySocket{}, nil
}

// lastWordsError is the reply of a Redis that has closed the connection upon a command. It
// belongs to the last command written, which of several nobody can tell.
type lastWordsError string

func (w lastWordsError) Error() string { return string(w) }

// RedisError marks it as one of redis.Error.
func (lastWordsError) RedisError() {}
