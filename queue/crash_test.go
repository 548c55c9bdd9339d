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

	childTarget = "QUEUE_TEST_CHILD_TARGET" // Config.Target
	childDrains = "QUEUE_TEST_CHILD_DRAINS" // it enqueues nothing but does something else: a key of drainChildren
)

// childConfig is how a child makes its Producer.
func childConfig() queue.Config {
	return queue.Config{Redis: server(os.Getenv(childRedis)), SpoolDir: os.Getenv(childDir), Target: os.Getenv(childTarget)}
}

func runChild() {
	if name := os.Getenv(childDrains); name != "" {
		drainChildren[name]()
		return
	}
	limit := -1 // none
	var err error
	if s := os.Getenv(childLimit); s != "" {
		limit, err = strconv.Atoi(s)
	}
	var p *queue.Producer
	if err == nil {
		p, err = queue.New(childConfig())
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
