package queue_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// BenchmarkEnqueue compares a Producer with plain asynq on the same healthy Redis,
// and with itself in an outage, where each call is on disk when it returns.
func BenchmarkEnqueue(b *testing.B) {
	payload := make([]byte, 200)
	for _, callers := range []int{1, 8, 64} {
		run := func(name string, enqueue func(*asynq.Task, ...asynq.Option) (*asynq.TaskInfo, error)) {
			b.Run(fmt.Sprintf("%s/%d", name, callers), func(b *testing.B) {
				one := func() {
					if _, err := enqueue(asynq.NewTask("bench", payload)); err != nil {
						b.Error(err)
					}
				}
				if callers == 1 {
					for b.Loop() {
						one()
					}
					return
				}
				b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						one()
					}
				})
			})
		}
		r := redistest.Run(b, redistest.Options{})
		plain := asynq.NewClient(server(r.Addr()))
		run("plain", plain.Enqueue)
		if err := plain.Close(); err != nil {
			b.Error(err)
		}
		run("live", newProducer(b, queue.Config{Redis: server(r.Addr()), SpoolDir: b.TempDir()}).Enqueue)
		if err := r.Kill(); err != nil {
			b.Fatal(err)
		}
		run("outage", newProducer(b, queue.Config{Redis: server(r.Addr()), SpoolDir: b.TempDir()}).Enqueue)
	}
}
