// Package redistest runs a real redis-server of the caller's own: for tests
// that must see what Redis does when it is killed, frozen or restarted, and
// for the command line's demonstration.
//
// For tests there are, besides, several of them as one: [Sentinel] and
// [Cluster]; certificates for one that speaks TLS: [TLS]; and the faults of the
// network before it: [Proxy] and [BlackHole].
//
// Each [Server] is one redis-server process on a port of 127.0.0.1 that stays
// the same over restarts. It reads no configuration file, is reachable from this
// host only, and has no password: give it nothing that matters.
//
// The process does not outlive its parent on Linux, however the parent ends.
// Elsewhere a parent that is killed leaves it behind (and everywhere a temporary
// data directory, which only Close removes). It is in a process group
// of its own, so Ctrl-C in a terminal does not reach it.
package redistest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	// ErrNotFound is returned by [Start] when there is no redis-server on PATH.
	ErrNotFound = errors.New("redistest: no redis-server on PATH; install it (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis)")

	// ErrClosed is returned by the methods of a [Server] after its Close.
	ErrClosed = errors.New("redistest: server is closed")

	// ErrNotRunning is returned by Freeze and Thaw when the process has ended,
	// by [Server.Kill] or by itself.
	ErrNotRunning = errors.New("redistest: server is not running")
)

const (
	// patience bounds each wait: for PONG, for the process to end, for the
	// port to refuse.
	patience = 10 * time.Second

	// pollEvery is how often a wait looks again.
	pollEvery = 5 * time.Millisecond

	// portTries is how many ports Start tries before it gives up.
	portTries = 5
)

// Options says how the server is to run. The zero value is a server that
// forgets everything when it ends.
type Options struct {
	// Dir is the data directory, created if absent.
	// Empty: a temporary one, removed by Close.
	Dir string

	// AppendOnly makes each write durable before it is acknowledged
	// (appendonly yes, appendfsync always): Restart finds what Kill left.
	// False: nothing is written to disk, and Kill loses all data.
	AppendOnly bool

	// TLS makes the server speak TLS at Addr, and nothing else, with clients that
	// have the TLS's certificate. Nil: no TLS. It is not for [RunSentinel] and
	// [RunCluster].
	TLS *TLS

	// UnixSocket is the path of a Unix socket at which the server listens too.
	// The system limits it to about 100 bytes. Empty: none.
	UnixSocket string

	// Args are added to redis-server's command line, for example
	// "--maxmemory", "8mb". Directory, port, bind address and password are not
	// to be among them; a password can be set by CONFIG SET once it runs.
	Args []string

	// sentinel makes the process a sentinel: its configuration file, without
	// the port. Empty: a redis-server.
	sentinel string
}

// Server is a redis-server process. Its methods may be called from several
// goroutines; those that act on the process take turns, so one may wait for
// another, each for at most a few times 10 seconds.
type Server struct {
	bin    string
	opts   Options
	port   int
	dir    string
	tmpDir bool
	child  atomic.Pointer[child] // the newest one; stays when it has ended

	// turn is held for the whole of each call that acts on the process: it
	// orders those calls rather than guarding memory. Addr and Pid do not take it.
	turn   sync.Mutex
	closed bool
}

// Start starts a redis-server and returns once it has answered PING with PONG.
//
// It fails with [ErrNotFound] if there is none on PATH, and after about
// 10 seconds if it does not answer; the error then ends with the last lines
// that redis-server printed. The caller must Close the server.
func Start(opts Options) (*Server, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, ErrNotFound
	}
	opts.Args = append([]string(nil), opts.Args...)
	s := &Server{bin: bin, opts: opts}
	if err := s.makeDir(); err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	if err := s.startOnFreePort(); err != nil {
		return nil, errors.Join(err, s.removeDir())
	}
	return s, nil
}

// Run is [Start] for a test: it ends the test if the server does not start, and
// closes the server when the test ends.
func Run(tb testing.TB, opts Options) *Server {
	tb.Helper()
	s, err := Start(opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// Addr returns "127.0.0.1:port". It is the same over restarts.
func (s *Server) Addr() string { return loopback(s.port) }

// Pid returns the process ID of the running server, which every Restart
// changes, or 0 if it is not running.
func (s *Server) Pid() int {
	c := s.child.Load()
	if c == nil || c.ended() {
		return 0
	}
	return c.pid()
}

// Kill ends the server by SIGKILL. On return the process is gone and its port
// refuses connections. A server that has ended already, or is frozen, is fine.
func (s *Server) Kill() error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.child.Load().kill(); err != nil {
		return err
	}
	return waitRefused(s.Addr())
}

// Freeze stops the server by SIGSTOP: the kernel goes on accepting connections
// for it, but nothing is answered until Thaw. Freezing twice is freezing once.
// It is not supported on Windows: [errors.ErrUnsupported].
func (s *Server) Freeze() error { return s.signal("freeze", freeze) }

// Thaw lets a frozen server go on by SIGCONT; it then answers what it was sent
// meanwhile. A server that is not frozen does not notice.
// It is not supported on Windows: [errors.ErrUnsupported].
func (s *Server) Thaw() error { return s.signal("thaw", thaw) }

// Restart starts the server again, on the same port and data directory, after
// Kill or after it ended by itself. It returns as [Start] does, when the data is
// loaded and PING is answered with PONG. It fails if the server still runs.
func (s *Server) Restart() error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.closed {
		return ErrClosed
	}
	if c := s.child.Load(); !c.ended() {
		return fmt.Errorf("redistest: restart: process %d still runs", c.pid())
	}
	return s.launch()
}

// Close ends the server by SIGKILL, frozen or not, waits until the process is
// gone, and removes the data directory if it was a temporary one. Closing again
// does nothing and returns nil.
func (s *Server) Close() error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.child.Load().kill(), s.removeDir())
}

func (s *Server) signal(verb string, send func(*os.Process) error) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.closed {
		return ErrClosed
	}
	c := s.child.Load()
	if c.ended() {
		return ErrNotRunning
	}
	err := send(c.cmd.Process)
	if errors.Is(err, os.ErrProcessDone) {
		return ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("redistest: %s: %w", verb, err)
	}
	return nil
}

// startOnFreePort launches on one free port after another: between the
// choice of a port and its use, another process may take it.
func (s *Server) startOnFreePort() error {
	var err error
	for range portTries {
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err = s.configure(); err != nil {
			return err
		}
		if err = s.launch(); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// configure writes the file that a sentinel needs, and in which it keeps what
// it learns: Restart leaves it as it is.
func (s *Server) configure() error {
	if s.opts.sentinel == "" {
		return nil
	}
	conf := fmt.Sprintf("port %d\n%s", s.port, s.opts.sentinel)
	if err := os.WriteFile(s.sentinelConf(), []byte(conf), 0o600); err != nil {
		return fmt.Errorf("redistest: %w", err)
	}
	return nil
}

func (s *Server) sentinelConf() string { return filepath.Join(s.dir, "sentinel.conf") }

// launch starts a process and waits until it is ready; if that fails, no
// process is left.
func (s *Server) launch() error {
	c, err := startChild(s.bin, s.args())
	if err != nil {
		return err
	}
	s.child.Store(c)
	if err := c.waitReady(s.Addr(), s.tlsConfig()); err != nil {
		return errors.Join(err, c.kill())
	}
	return nil
}

func (s *Server) args() []string {
	if s.opts.sentinel != "" {
		return []string{s.sentinelConf(), "--sentinel"}
	}
	port := fmt.Sprint(s.port)
	args := []string{
		"--bind", "127.0.0.1",
		"--protected-mode", "no",
		"--daemonize", "no",
		"--dir", s.dir,
		"--save", "",
	}
	if s.opts.TLS != nil {
		args = append(args, "--port", "0", "--tls-port", port)
		args = append(args, s.opts.TLS.ServerArgs()...)
	} else {
		args = append(args, "--port", port)
	}
	if s.opts.UnixSocket != "" {
		args = append(args, "--unixsocket", s.opts.UnixSocket, "--unixsocketperm", "700")
	}
	if s.opts.AppendOnly {
		args = append(args, "--appendonly", "yes", "--appendfsync", "always")
	} else {
		args = append(args, "--appendonly", "no")
	}
	return append(args, s.opts.Args...)
}

// tlsConfig returns nil if the server speaks no TLS.
func (s *Server) tlsConfig() *tls.Config {
	if s.opts.TLS == nil {
		return nil
	}
	return s.opts.TLS.ClientConfig()
}

func (s *Server) makeDir() (err error) {
	if s.opts.Dir == "" {
		s.tmpDir = true
		s.dir, err = os.MkdirTemp("", "redistest-")
		return err
	}
	if s.dir, err = filepath.Abs(s.opts.Dir); err != nil {
		return err
	}
	return os.MkdirAll(s.dir, 0o700)
}

func (s *Server) removeDir() error {
	if !s.tmpDir {
		return nil
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("redistest: %w", err)
	}
	return nil
}
