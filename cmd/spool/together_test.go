package main

import (
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/jobspool/jobspool/queue"
)

// TestCommandsAndAProducerTogether has two drains in processes of their own, looks at the
// status and dry runs, and a living Producer of the same target, all in one SpoolDir with
// what ten dead owners left. Every job is in Redis once, and nothing is left.
func TestCommandsAndAProducerTogether(t *testing.T) {
	t.Parallel()
	const owners, each = 10, 400
	r, uri := downServer(t)
	dir := t.TempDir()
	var dead []*queue.Producer
	for range owners {
		dead = append(dead, living(t, dir, r.Addr(), each, queue.Config{}))
	}
	for _, p := range dead {
		closeProducer(t, p)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	var commands []*exec.Cmd
	for range 2 {
		commands = append(commands, command(t, "drain", "--dir", dir, "--redis", uri, "--rate", "4000"))
	}
	for _, line := range []string{"status", "drain --dry-run", "status --json"} {
		commands = append(commands, command(t, append(strings.Fields(line), "--dir", dir, "--redis", uri)...))
	}
	outputs := make([]string, len(commands))
	var wg sync.WaitGroup
	for i, c := range commands {
		wg.Go(func() {
			out, err := c.CombinedOutput()
			if code := c.ProcessState.ExitCode(); err != nil && code != exitLeft { // another has it
				t.Errorf("%v: %v: %s", c.Args, err, out)
			}
			outputs[i] = string(out)
		})
	}
	p := living(t, dir, r.Addr(), 100, queue.Config{})
	wg.Wait()
	code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri)
	if code != exitOK {
		t.Errorf("%d\n%s\n%s\n%s", code, stdout, stderr, strings.Join(outputs, "\n"))
	}
	if n, different := inQueues(t, r.Addr()); n != owners*each+100 || different != n {
		t.Errorf("%d jobs in Redis, %d different", n, different)
	}
	if st := p.Stats(); st.AlreadyThere != 0 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
	closeProducer(t, p)
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("left on disk: %v", left)
	}
}
