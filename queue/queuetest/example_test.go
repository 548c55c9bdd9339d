package queuetest_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/queuetest"
)

// signUp is the code to be tested. In production q is a *queue.Producer.
func signUp(q queue.Enqueuer, user int) error {
	task := asynq.NewTask("email:welcome", fmt.Appendf(nil, `{"user":%d}`, user))
	_, err := q.Enqueue(task, asynq.Queue("mail"), asynq.TaskID(fmt.Sprintf("welcome-%d", user)))
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return nil // it is on its way
	}
	return err
}

func ExampleFake() {
	t := exampleTB{} // in a test, its own t
	fake := queuetest.New(t)

	fmt.Println(signUp(fake, 42), signUp(fake, 42))
	for _, job := range fake.Jobs() {
		fmt.Println(job.Where, job.Queue, job.Type, job.ID, string(job.Payload))
	}

	fake.SetOutage(true)
	fmt.Println(signUp(fake, 43), fake.Jobs()[1].Where)

	fake.FailWith(queue.ErrFull)
	fmt.Println(errors.Is(signUp(fake, 44), queue.ErrFull))
	// Output:
	// <nil> <nil>
	// redis mail email:welcome welcome-42 {"user":42}
	// <nil> spool
	// true
}

// exampleTB stands for the *testing.T that an example has not.
type exampleTB struct{ testing.TB }

func (exampleTB) Helper()        {}
func (exampleTB) Cleanup(func()) {}
