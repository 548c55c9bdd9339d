package redistest

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// BlackHole returns an address of 127.0.0.1 at which connecting neither succeeds
// nor is refused: SYNs are never answered. It lasts until the test ends.
// It is there on Linux only; elsewhere the test is skipped.
func BlackHole(tb testing.TB) string {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	if err := noBacklog(ln.(*net.TCPListener)); err != nil {
		tb.Fatal(err)
	}
	// Linux drops SYNs while the queue of connections not accepted is full.
	for range 16 {
		d := net.Dialer{Timeout: 200 * time.Millisecond}
		conn, err := d.DialContext(context.Background(), "tcp", ln.Addr().String())
		if isTimeout(err) {
			return ln.Addr().String()
		}
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = conn.Close() })
	}
	tb.Fatal("redistest: the listener's queue does not fill up")
	return ""
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// noBacklog calls listen(2) again, with a backlog of 0.
func noBacklog(ln *net.TCPListener) error {
	raw, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	var again error
	err = raw.Control(func(fd uintptr) { again = syscall.Listen(int(fd), 0) })
	return errors.Join(err, again)
}
