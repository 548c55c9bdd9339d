package chaos_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds each wait for what must come.
const patience = 60 * time.Second

// report is a line that a child prints.
type report struct {
	Kind string `json:"k"`

	// Of a job:
	Name  string        `json:"n,omitempty"` // that its payload begins with
	ID    string        `json:"i,omitempty"`
	Sum   string        `json:"s,omitempty"` // of its payload
	Where string        `json:"w,omitempty"` // where it is, of one that was accepted
	Took  time.Duration `json:"t,omitempty"`
	At    int64         `json:"e,omitempty"` // when Enqueue returned, in Unix nanoseconds
	Group bool          `json:"g,omitempty"` // it is one that no worker runs
	Again int           `json:"a,omitempty"` // how often asynq itself has retried it

	Text string          `json:"x,omitempty"`
	Data json.RawMessage `json:"d,omitempty"`
}

// Kinds of reports.
const (
	reportReady    = "ready"
	reportTry      = "try"   // about to call Enqueue
	reportOK       = "ok"    // Enqueue returned nil
	reportNo       = "no"    // it returned an error, and the job is nowhere
	reportMaybe    = "maybe" // it returned an error that says that nobody knows
	reportRan      = "ran"   // a worker has it
	reportFinished = "finished"
	reportTrouble  = "trouble"
	reportAnswer   = "answer" // to an order
	reportMidway   = "midway" // a producer kills itself, see orderMidway
)

var printing sync.Mutex

// say prints reports, in one write: a child can be killed at any moment.
func say(reports ...report) {
	var b []byte
	for _, r := range reports {
		line, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		b = append(append(b, line...), '\n')
	}
	printing.Lock()
	defer printing.Unlock()
	_, _ = os.Stdout.Write(b)
}

// exit ends a child.
func exit(err error) {
	if err != nil {
		say(report{Kind: reportTrouble, Text: err.Error()})
		os.Exit(1)
	}
	os.Exit(0)
}

// child is a process of a world. Its reports go to the oracle.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	ready chan struct{} // closed when it has said so
	ended chan struct{} // closed when it has ended and all that it said is known

	answers chan report // to orders; capacity 1
	err     error       // of the process; after ended
	last    report      // of kind finished; after ended
	crash   string      // what it said on stderr; after ended
}

// startChild runs a test binary in a role. It ends with the test at the latest.
func startChild(tb testing.TB, o *oracle, binary, role string, setup any) *child {
	tb.Helper()
	text, err := json.Marshal(setup)
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), roleEnv+"="+role, setupEnv+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stderr := &tail{}
	cmd.Stderr = stderr
	c := &child{cmd: cmd, in: in, ready: make(chan struct{}), ended: make(chan struct{}), answers: make(chan report, 1)}
	started := make(chan error, 1)
	go c.follow(o, out, stderr, started)
	if err := <-started; err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		c.signal(syscall.SIGCONT)
		c.kill()
	})
	select {
	case <-c.ready:
	case <-c.ended:
		tb.Fatalf("a %s did not start: %v %v %s", role, c.err, o.said(), c.crash)
	case <-time.After(patience):
		tb.Fatalf("a %s does not get ready", role)
	}
	return c
}

// setupEnv has what a child is to do, as JSON.
const setupEnv = "CHAOS_SETUP"

// follow runs the child. It starts it in the thread that waits for it: the child dies with
// that thread.
func (c *child) follow(o *oracle, out io.Reader, stderr *tail, started chan<- error) {
	defer close(c.ended)
	runtime.LockOSThread() // for good
	err := c.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r report
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			o.trouble(fmt.Sprintf("a child said %q", lines.Text()))
			continue
		}
		switch r.Kind {
		case reportReady:
			close(c.ready)
		case reportFinished:
			c.last = r
		case reportAnswer:
			c.answers <- r
		default:
			o.note(r)
		}
	}
	c.err = c.cmd.Wait()
	c.crash = stderr.String()
}

func (c *child) signal(s syscall.Signal) { _ = c.cmd.Process.Signal(s) }

// kill ends it by SIGKILL and returns when all that it said is known.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}

// tell gives it an order.
func (c *child) tell(order string) { _, _ = io.WriteString(c.in, order+"\n") }

// ask gives it an order that it answers.
func (c *child) ask(tb testing.TB, order string) (answer report) {
	tb.Helper()
	c.tell(order)
	select {
	case answer = <-c.answers:
	case <-c.ended:
		tb.Fatalf("asked to %s, it has ended: %v %s", order, c.err, c.crash)
	case <-time.After(patience):
		tb.Fatalf("asked to %s, it does not answer", order)
	}
	return answer
}

// tail keeps the first and last of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (w *tail) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.text = append(w.text, b...); len(w.text) > 64<<10 {
		w.text = append(w.text[:32<<10:32<<10], w.text[len(w.text)-(16<<10):]...)
	}
	return len(b), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}
