package queue_test

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestCloseWhileACallbackEnqueues: a callback of the replayer's, for which Close waits, may call
// Enqueue, and gets ErrClosed by then.
func TestCloseWhileACallbackEnqueues(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	var p atomic.Pointer[queue.Producer]
	called := make(chan struct{}, 1)
	made, err := queue.New(queue.Config{
		Redis: server(r.Addr()), SpoolDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler),
		OnReplayed: func(queue.JobEvent) {
			called <- struct{}{}
			for { // through the whole of Close
				if _, err := p.Load().Enqueue(asynq.NewTask("follow-up", nil)); err != nil {
					if !errors.Is(err, queue.ErrClosed) {
						t.Errorf("a follow-up: %v", err)
					}
					return
				}
			}
		},
	})
	must(t, err)
	p.Store(made)
	_, err = made.Enqueue(asynq.NewTask("first", nil), queue.SpoolFirst())
	must(t, err)
	<-called
	closed := make(chan error, 2)
	for range cap(closed) {
		go func() { closed <- made.Close() }()
	}
	for range cap(closed) {
		select {
		case err := <-closed:
			must(t, err)
		case <-time.After(patience):
			t.Fatal("Close waits for a callback, and that for Close")
		}
	}
	if _, err := made.Enqueue(asynq.NewTask("late", nil)); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
