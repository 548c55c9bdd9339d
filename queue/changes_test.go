package queue_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// slowSpool is an Observer that holds up the writes to the spool.
type slowSpool struct{ begun, goOn chan struct{} }

func (s slowSpool) Begin(ctx context.Context, op *queue.Operation) context.Context {
	if op.Kind == queue.OpSpool {
		s.begun <- struct{}{}
		<-s.goOn
	}
	return ctx
}

func (slowSpool) End(context.Context, *queue.Operation, error) {}

// TestStateChangesComeInOrder: an outage is over while the call that met it first still writes
// its job to the spool. That it ends is not told before that it began.
func TestStateChangesComeInOrder(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []bool
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(told)
	}
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	slow := slowSpool{begun: make(chan struct{}), goOn: make(chan struct{})}
	p := newProducer(t, queue.Config{
		Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), Observer: slow,
		OnStateChange: func(c queue.StateChange) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, c.Outage)
		},
	})
	enqueue(t, p, 1)
	proxy.Refuse()
	proxy.Cut()
	rest()
	var wg sync.WaitGroup
	wg.Go(func() { enqueue(t, p, 1) })
	<-slow.begun
	proxy.Accept()
	eventually(t, "the end is told", func() bool { return count() > 0 && p.Stats().State == queue.StateUp })
	close(slow.goOn)
	wg.Wait()
	drain(t, p)
	eventually(t, "both are told", func() bool { return count() == 2 })
	mu.Lock()
	defer mu.Unlock()
	if !told[0] || told[1] {
		t.Errorf("began: %v", told)
	}
}
