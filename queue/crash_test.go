package queue_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// childDir and childRedis make the test binary a process that enqueues, printing
// each id once Enqueue has returned, until it is killed.
const (
	childDir   = "QUEUE_TEST_CHILD_DIR"
	childRedis = "QUEUE_TEST_CHILD_REDIS"
)

func runChild() {
	p, err := queue.New(queue.Config{Redis: server(os.Getenv(childRedis)), SpoolDir: os.Getenv(childDir)})
	for err == nil {
		var info *asynq.TaskInfo
		if info, err = p.Enqueue(asynq.NewTask("test", []byte("of the child"))); err == nil {
			fmt.Println(info.ID)
		}
	}
	fmt.Println("ERROR", err)
	os.Exit(1)
}

func TestProcessKilledWithAFullSpool(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	acked := killChildAfter(t, dir, r.Addr(), 500)

	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir}) // started again, Redis still down
	ids := enqueue(t, p, 10)
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	drain(t, p)
	there := pendingIDs(t, r.Addr())
	// The child may have been killed between the commit and the line.
	known := map[string]bool{}
	for _, id := range append(ids, acked...) {
		known[id] = true
	}
	var unprinted []string
	for _, id := range there {
		if !known[id] {
			unprinted = append(unprinted, id)
		}
	}
	if len(unprinted) > 1 {
		t.Errorf("%d jobs nobody enqueued", len(unprinted))
	}
	wantOnce(t, there, append(append(ids, acked...), unprinted...))
}

// killChildAfter runs a child, kills it after n acknowledgements and returns them.
func killChildAfter(t *testing.T, dir, addr string, n int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childRedis+"="+addr)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if id := lines.Text(); strings.HasPrefix(id, "ERROR") {
			t.Error(id)
		} else {
			ids = append(ids, id)
		}
		if len(ids) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // killed
	return ids
}
