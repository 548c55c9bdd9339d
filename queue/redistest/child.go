package redistest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// errPortTaken says that redis-server could not listen; Start tries the next port.
var errPortTaken = errors.New("redistest: port is taken")

// child is one run of redis-server. Its goroutine starts the process, waits for
// it, and closes done when it has ended.
type child struct {
	cmd  *exec.Cmd
	out  *tail
	done chan struct{}
	exit error // how it ended; set before done is closed
}

// startChild returns when the process exists; it is not ready then.
func startChild(bin string, args []string) (*child, error) {
	c := &child{out: &tail{}, done: make(chan struct{})}
	c.cmd = exec.CommandContext(context.Background(), bin, args...)
	c.cmd.SysProcAttr = sysProcAttr()
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	// A child of redis-server that rewrites its file has our pipe open too and
	// would keep Wait waiting.
	c.cmd.WaitDelay = time.Second
	started := make(chan error, 1)
	go c.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("redistest: start redis-server: %w", err)
	}
	return c, nil
}

// run holds one thread from fork to exit, because Linux sends Pdeathsig when the
// thread that forked ends, not when its process does.
func (c *child) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	err := c.cmd.Start()
	started <- err
	if err == nil {
		c.exit = c.cmd.Wait()
	}
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// kill returns when the process is gone. SIGKILL ends a frozen process too;
// thawing it first would let it run what it has been sent.
func (c *child) kill() error {
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("redistest: kill: %w", err)
	}
	select {
	case <-c.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("redistest: process %d is still there %v after SIGKILL", c.pid(), patience)
	}
}

// waitReady returns when the process answers PING with PONG at addr, over TLS if
// conf is not nil.
func (c *child) waitReady(addr string, conf *tls.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := ready(ctx, addr, conf, c.pid())
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return c.startError("ended", c.exit)
		case <-ctx.Done():
			return c.startError(fmt.Sprintf("not ready within %v", patience), err)
		case <-tick.C:
		}
	}
}

func (c *child) startError(what string, cause error) error {
	out := c.out.String()
	if strings.Contains(out, "Failed listening on port") || strings.Contains(out, "Address already in use") {
		cause = errPortTaken
	}
	if cause == nil {
		cause = errors.New("exit status 0")
	}
	return fmt.Errorf("redistest: redis-server %s: %w; it printed:\n%s", what, cause, out)
}
