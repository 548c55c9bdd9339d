package queue

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// RegisterEvery makes a Producer that has not enqueued yet take a queue for registered
// for so long. It returns p.
func (p *Producer) RegisterEvery(d time.Duration) *Producer {
	p.sender.knownFor = d
	return p
}

// Turns counts how often the replayer looks for something to do within d.
func (p *Producer) Turns(d time.Duration) (n int) {
	r := p.replayer
	for end := time.After(d); ; n++ {
		r.mu.Lock()
		stepped := r.stepped
		r.mu.Unlock()
		select {
		case <-stepped:
		case <-end:
			return n
		}
	}
}

// Draining reports whether a Drain has begun.
func (p *Producer) Draining() bool { return p.replayer.draining.Load() > 0 }

// Answered returns a function that returns the number of jobs in each pipeline that Redis
// has answered since.
func (p *Producer) Answered() func() []int {
	h := &pipelineHook{}
	if c := p.sender.cluster; c != nil {
		err := c.ForEachMaster(context.Background(), func(_ context.Context, node *redis.Client) error {
			node.AddHook(h)
			return nil
		})
		if err != nil {
			panic(err)
		}
	} else {
		p.sender.client.AddHook(h)
	}
	return func() []int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.Clone(h.sizes)
	}
}

type pipelineHook struct {
	mu    sync.Mutex
	sizes []int
}

func (*pipelineHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*pipelineHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *pipelineHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if err == nil && cmds[0].Name() == "evalsha" {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.sizes = append(h.sizes, len(cmds))
		}
		return err
	}
}

// NeverYield makes a Producer that replays nothing yet replay without regard to callers.
func (p *Producer) NeverYield() { p.replayer.yield.live = &live{} }
