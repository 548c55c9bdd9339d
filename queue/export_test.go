package queue

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
func (p *Producer) Turns(d time.Duration) int {
	before := p.replayer.now().turns
	time.Sleep(d)
	return int(p.replayer.now().turns - before)
}

// Tries returns a function that returns how often jobs or probes were sent since, or were to
// be.
func (p *Producer) Tries() func() int64 {
	h := &tryCount{}
	p.onServers(h)
	return h.n.Load
}

type tryCount struct{ n atomic.Int64 }

func (h *tryCount) count(cmd redis.Cmder) {
	if name := cmd.Name(); name == "evalsha" || name == "eval" || name == "set" {
		h.n.Add(1)
	}
}

func (*tryCount) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *tryCount) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.count(cmd)
		return next(ctx, cmd)
	}
}

func (h *tryCount) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.count(cmds[0])
		return next(ctx, cmds)
	}
}

// onServers adds a hook to the clients of the servers that are known.
func (p *Producer) onServers(h redis.Hook) {
	if p.sender.cluster == nil {
		p.sender.client.AddHook(h)
		return
	}
	err := p.sender.cluster.ForEachMaster(context.Background(), func(_ context.Context, node *redis.Client) error {
		node.AddHook(h)
		return nil
	})
	if err != nil {
		panic(err)
	}
}

// Dials returns a function that returns how many connections were asked for since.
func (p *Producer) Dials() func() int64 {
	h := &dialCount{}
	p.onServers(h)
	return h.n.Load
}

type dialCount struct{ n atomic.Int64 }

func (h *dialCount) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		h.n.Add(1)
		return next(ctx, network, addr)
	}
}

func (*dialCount) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (*dialCount) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Draining reports whether a Drain has begun.
func (p *Producer) Draining() bool { return p.replayer.draining.Load() > 0 }

// Answered returns a function that returns the number of jobs in each pipeline that Redis
// has answered since.
func (p *Producer) Answered() func() []int {
	h := &pipelineHook{}
	p.onServers(h)
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
		if err == nil && strings.HasPrefix(cmds[0].Name(), "eval") {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.sizes = append(h.sizes, len(cmds))
		}
		return err
	}
}

// NeverYield makes a Producer that replays nothing yet replay without regard to callers.
func (p *Producer) NeverYield() { p.replayer.yield.live = &live{} }

// Journalled returns how many jobs there are in the blobs of the journal that are kept. It
// returns -1 if the journal cannot be read.
func (p *Producer) Journalled() (jobs int) {
	p.journal.flush()
	r := p.journal.store.Reader(journalFlow)
	for {
		blobs, err := r.Read(sweepBlobs, journalMost)
		switch {
		case err != nil:
			return -1
		case len(blobs) == 0:
			return jobs
		}
		for _, b := range blobs {
			n, _ := countEntries(b.Data)
			jobs += n
		}
	}
}

// Covered reports whether the markers cover all that Redis has acknowledged.
func (p *Producer) Covered() (all bool) {
	g := p.losses
	err := g.aside(context.Background(), func() error {
		all = true
		for q, seq := range g.j.lasts() {
			m := g.marks[markID{g.j.store.OwnName(), q}]
			all = all && m != nil && m.found == nil && m.covers(seq)
		}
		return nil
	})
	return all && err == nil
}
