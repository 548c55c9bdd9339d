package queue_test

import (
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// underLoad lets 16 callers enqueue, each with a pause, until it is over, and returns the ids
// that were accepted.
func underLoad(tb testing.TB, p *queue.Producer, over func() bool) (ids []string) {
	tb.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				info, err := p.Enqueue(asynq.NewTask("t", []byte("payload")))
				if err != nil {
					tb.Error(err)
					return
				}
				mu.Lock()
				ids = append(ids, info.ID)
				mu.Unlock()
			}
		})
	}
	eventually(tb, "it is over", over)
	close(stop)
	wg.Wait()
	return ids
}

func after(d time.Duration) func() bool {
	at := time.Now().Add(d)
	return func() bool { return time.Now().After(at) }
}

// TestARedisThatForgetsAllIsGivenItsJobsAgain kills a server without appendonly under load,
// and empties one under live connections.
func TestARedisThatForgetsAllIsGivenItsJobsAgain(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]func(*redistest.Server) error{
		"kill -9": func(r *redistest.Server) error {
			if err := r.Kill(); err != nil {
				return err
			}
			return r.Restart()
		},
		"FLUSHALL": func(r *redistest.Server) error { return client(t, r.Addr()).FlushAll(t.Context()).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{})
			p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), Guard: time.Minute})
			ids := underLoad(t, p, after(700*time.Millisecond))
			done := make(chan struct{})
			go func() {
				defer close(done)
				ids = append(ids, underLoad(t, p, after(2*time.Second))...)
			}()
			time.Sleep(500 * time.Millisecond)
			must(t, forget(r))
			<-done
			eventually(t, "the loss is noticed", func() bool { return p.Stats().Losses > 0 })
			drain(t, p)
			wantOnce(t, pendingIDs(t, r.Addr()), ids)
			t.Logf("%d jobs, %+v", len(ids), p.Stats())
		})
	}
}
