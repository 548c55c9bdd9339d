package redistest_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jobspool/jobspool/queue/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// try sends one inline command and returns the first line of the reply, and for
// a string reply the string. It gives up after the time given.
func try(addr, command string, within time.Duration) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, within)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err == nil && line[0] == '$' && line[1] != '-' {
		line, err = r.ReadString('\n')
	}
	return strings.TrimSpace(line), err
}

func expect(t *testing.T, addr, command, want string) {
	t.Helper()
	if got, err := try(addr, command, 10*time.Second); err != nil || got != want {
		t.Fatalf("%s: got %q, %v; want %q", command, got, err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestKillAndRestart(t *testing.T) {
	for _, tc := range []struct {
		name       string
		appendOnly bool
		left       string
	}{
		{"in memory", false, "$-1"},
		{"append only", true, "here"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := redistest.Run(t, redistest.Options{AppendOnly: tc.appendOnly})
			addr, pid := s.Addr(), s.Pid()
			expect(t, addr, "SET job here", "+OK")

			must(t, s.Kill())
			if got, err := try(addr, "PING", time.Second); err == nil {
				t.Errorf("PING after Kill: %q; want a refused connection", got)
			}
			if s.Pid() != 0 {
				t.Errorf("Pid after Kill is %d, want 0", s.Pid())
			}
			must(t, s.Kill()) // dead already: nothing to do

			must(t, s.Restart())
			if s.Addr() != addr {
				t.Errorf("Addr after Restart is %s, was %s", s.Addr(), addr)
			}
			if s.Pid() == pid || s.Pid() == 0 {
				t.Errorf("Pid after Restart is %d, was %d", s.Pid(), pid)
			}
			expect(t, addr, "GET job", tc.left)
		})
	}
}

func TestRestartWhileRunning(t *testing.T) {
	s := redistest.Run(t, redistest.Options{})
	if err := s.Restart(); err == nil {
		t.Error("Restart of a running server: no error")
	}
	expect(t, s.Addr(), "PING", "+PONG")
}

func TestRestartAfterShutdown(t *testing.T) {
	s := redistest.Run(t, redistest.Options{})
	if got, err := try(s.Addr(), "SHUTDOWN NOSAVE", 10*time.Second); !errors.Is(err, io.EOF) {
		t.Fatalf("SHUTDOWN: %q, %v; want EOF", got, err)
	}
	must(t, s.Kill()) // waits for the end
	must(t, s.Restart())
	expect(t, s.Addr(), "PING", "+PONG")
}

func TestFreezeAndThaw(t *testing.T) {
	s := redistest.Run(t, redistest.Options{})
	must(t, s.Freeze())
	if got, err := try(s.Addr(), "PING", 200*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("PING while frozen: %q, %v; want a timeout", got, err)
	}
	must(t, s.Thaw())
	expect(t, s.Addr(), "PING", "+PONG")
}

func TestFrozenServerDies(t *testing.T) {
	s := redistest.Run(t, redistest.Options{})
	must(t, s.Freeze())
	must(t, s.Kill())
	if err := s.Thaw(); !errors.Is(err, redistest.ErrNotRunning) {
		t.Errorf("Thaw after Kill: %v, want ErrNotRunning", err)
	}
	must(t, s.Restart())
	must(t, s.Freeze())
	must(t, s.Close())
}

func TestClose(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := redistest.Start(redistest.Options{AppendOnly: true})
	must(t, err)
	must(t, s.Close())
	must(t, s.Close())
	if left, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*")); len(left) > 0 {
		t.Errorf("Close left %q", left)
	}
	if s.Pid() != 0 {
		t.Errorf("Pid after Close is %d, want 0", s.Pid())
	}
	for name, call := range map[string]func() error{
		"Kill": s.Kill, "Freeze": s.Freeze, "Thaw": s.Thaw, "Restart": s.Restart,
	} {
		if err := call(); !errors.Is(err, redistest.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
}

func TestDirIsKept(t *testing.T) {
	opts := redistest.Options{Dir: filepath.Join(t.TempDir(), "new"), AppendOnly: true}
	s := redistest.Run(t, opts)
	expect(t, s.Addr(), "SET job here", "+OK")
	must(t, s.Close())
	expect(t, redistest.Run(t, opts).Addr(), "GET job", "here")
}

func TestArgs(t *testing.T) {
	s := redistest.Run(t, redistest.Options{Args: []string{"--maxmemory", "1"}})
	expect(t, s.Addr(), "SET job here", "-OOM command not allowed when used memory > 'maxmemory'.")
}

func TestStartFails(t *testing.T) {
	_, err := redistest.Start(redistest.Options{Args: []string{"--no-such-option", "1"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-option") {
		t.Errorf("got %v; want what redis-server printed", err)
	}
}

func TestRestartOnTakenPort(t *testing.T) {
	s := redistest.Run(t, redistest.Options{})
	must(t, s.Kill())
	ln, err := net.Listen("tcp", s.Addr())
	must(t, err)
	if err := s.Restart(); err == nil {
		t.Error("Restart on a taken port: no error")
	}
	must(t, ln.Close())
	must(t, s.Restart())
}

func TestNotFound(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := redistest.Start(redistest.Options{}); !errors.Is(err, redistest.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}
