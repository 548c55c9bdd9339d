package queue

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// socketGrace is how long the close of a control socket lets requests end.
const socketGrace = 500 * time.Millisecond

// controlSocket serves the admin API on a Unix socket in the owner's directory, to processes
// of the same user and of root. The zero one serves nothing.
type controlSocket struct {
	path    string
	server  *http.Server
	ended   chan struct{}
	closing sync.Once
	grace   context.Context //nolint:containedctx // of closing; set once by listen
	giveUp  context.CancelFunc
}

// listen begins to serve. The socket belongs to the spool's directory: only those who may
// enter that can reach it, and who they are is asked on top.
func (s *controlSocket) listen(path string, h http.Handler) error {
	l, err := listenUnix(path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	s.path, s.ended = path, make(chan struct{})
	s.grace, s.giveUp = context.WithCancel(context.Background())
	s.server = &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(s.ended)
		_ = s.server.Serve(ownersOnly{l}) // ends by close
	}()
	return nil
}

// close gives requests a moment to end. Only the first call does something.
func (s *controlSocket) close() (err error) {
	if s.server == nil {
		return nil
	}
	s.closing.Do(func() {
		defer s.giveUp()
		defer time.AfterFunc(socketGrace, s.giveUp).Stop()
		if err = s.server.Shutdown(s.grace); err != nil {
			err = s.server.Close()
		}
		<-s.ended
		if rerr := os.Remove(s.path); !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	})
	return err
}

// ownersOnly accepts connections of those who may use the socket, and drops others.
type ownersOnly struct{ net.Listener }

func (l ownersOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || ownerCalls(conn) {
			return conn, err
		}
		_ = conn.Close()
	}
}

// DialSocket connects to the control socket at a path, which may be longer than a socket's
// address can be: see Handler for what it serves.
func DialSocket(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	if len(path) <= maxSocketPath {
		return d.DialContext(ctx, "unix", path)
	}
	var conn net.Conn
	err := viaShortPath(path, func(short string) (err error) {
		conn, err = d.DialContext(ctx, "unix", short)
		return err
	})
	return conn, err
}

// maxSocketPath is what the shortest address of a socket takes: 104 bytes on macOS, with
// a NUL at the end.
const maxSocketPath = 103

func listenUnix(path string) (net.Listener, error) {
	var l net.Listener
	bind := func(at string) (err error) {
		l, err = (&net.ListenConfig{}).Listen(context.Background(), "unix", at)
		return err
	}
	err := error(nil)
	if len(path) <= maxSocketPath {
		err = bind(path)
	} else {
		err = viaShortPath(path, bind)
	}
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // by its true path
	return l, nil
}

// viaShortPath runs fn with a short path to the same file.
func viaShortPath(path string, fn func(short string) error) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	short, err := pathOf(dir)
	if err == nil {
		err = fn(filepath.Join(short, filepath.Base(path)))
	}
	return errors.Join(err, dir.Close())
}
