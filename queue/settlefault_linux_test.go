package queue_test

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// replayingChild is a process that replays what is spooled, and nothing else.
type replayingChild struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // of its log
}

func startReplaying(t *testing.T, dir, addr string) *replayingChild {
	t.Helper()
	c := &replayingChild{t: t, cmd: exec.CommandContext(t.Context(), os.Args[0]), lines: make(chan string, 1000)}
	c.cmd.Env = append(os.Environ(), childDir+"="+dir, childRedis+"="+addr, childLimit+"=0")
	log, err := c.cmd.StderrPipe()
	must(t, err)
	must(t, c.cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(log); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-ended
		_ = c.cmd.Wait()
	})
	return c
}

// says waits for a line of the log.
func (c *replayingChild) says(what string) {
	c.t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case line := <-c.lines:
			c.t.Log(line)
			if strings.Contains(line, what) {
				return
			}
		case <-deadline:
			c.t.Fatalf("it does not say %q", what)
		}
	}
}

// diskFails makes each write to a file fail with EFBIG, or lets all succeed again. It holds
// for root, too.
func (c *replayingChild) diskFails(fails bool) {
	c.t.Helper()
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if fails {
		limit.Cur = 0
	}
	must(c.t, unix.Prlimit(c.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil))
}

// TestADiskThatFailsToSettle: what was sent and cannot be recorded is not sent again by the
// process, and nothing else is sent, until the disk works again.
func TestADiskThatFailsToSettle(t *testing.T) {
	t.Parallel()
	const jobs = 1000
	for name, when := range map[string]struct{ outage, wrongType bool }{
		"a batch": {}, "the try in an outage": {outage: true}, "the tries in an outage of the queue": {wrongType: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{})
			admin := client(t, r.Addr())
			learnScripts(t, admin)
			if when.wrongType {
				must(t, admin.Set(t.Context(), "asynq:{default}:pending", "a string", 0).Err())
			}
			proxy := redistest.NewProxy(t, r.Addr())
			proxy.Latency(300 * time.Millisecond)
			dir := t.TempDir()
			ids := spoolFor(t, proxy.Addr(), dir, jobs)
			if when.outage {
				proxy.Refuse()
			}
			c := startReplaying(t, dir, proxy.Addr())
			if when.outage {
				c.says("outage begins")
			} else {
				eventually(t, "it replays", func() bool { return scriptsSent(proxy) > 1 })
			}
			c.diskFails(true)
			proxy.Accept()
			c.says("cannot be recorded")
			sent := scriptsSent(proxy)
			if sent >= jobs || when.outage && sent != 1 {
				t.Fatalf("%d of %d sent", sent, jobs)
			}
			time.Sleep(2500 * time.Millisecond) // for two more tries to settle
			if n := scriptsSent(proxy); n != sent {
				t.Errorf("%d sent while the disk fails", n-sent)
			}
			c.diskFails(false)
			proxy.Latency(0)
			if when.wrongType {
				must(t, admin.Del(t.Context(), "asynq:{default}:pending").Err())
			}
			eventually(t, "all is sent", func() bool { return len(pendingIDs(t, r.Addr())) >= jobs })
			wantOnce(t, pendingIDs(t, r.Addr()), ids)
			time.Sleep(time.Second) // a second copy would be sent by now
			if n := scriptsSent(proxy); n != jobs && !when.wrongType {
				t.Errorf("%d sent for %d jobs", n, jobs)
			}
		})
	}
}

// spoolFor leaves jobs in a spool that are meant for the server at an address.
func spoolFor(t *testing.T, addr, dir string, jobs int) (ids []string) {
	t.Helper()
	away := newProducer(t, queue.Config{Redis: server("127.0.0.1:1"), Target: "redis://" + addr + "/0", SpoolDir: dir})
	infos, err := away.EnqueueBatch(t.Context(), batchOf(jobs))
	must(t, err)
	closeProducer(t, away)
	return idsOf(infos)
}
