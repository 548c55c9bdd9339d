package queue_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool/crashtest"
)

// childDir and childRedis make the test binary a process that enqueues, printing
// each id once Enqueue has returned, until it is killed.
const (
	childDir   = "QUEUE_TEST_CHILD_DIR"
	childRedis = "QUEUE_TEST_CHILD_REDIS"
	childLimit = "QUEUE_TEST_CHILD_LIMIT" // it enqueues no more than so many, and waits
)

func runChild() {
	limit := -1 // none
	var err error
	if s := os.Getenv(childLimit); s != "" {
		limit, err = strconv.Atoi(s)
	}
	var p *queue.Producer
	if err == nil {
		p, err = queue.New(queue.Config{Redis: server(os.Getenv(childRedis)), SpoolDir: os.Getenv(childDir)})
	}
	for n := 0; err == nil; n++ {
		if n == limit {
			select {} // until it is killed
		}
		var info *asynq.TaskInfo
		if info, err = p.Enqueue(asynq.NewTask("test", []byte("of the child"))); err == nil {
			fmt.Println(info.ID)
		}
	}
	crashtest.Fail(err)
}

func TestProcessKilledWithAFullSpool(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	acked := crashtest.KillAfter(t, 500, childDir+"="+dir, childRedis+"="+r.Addr())

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
