package redistest

import (
	"sync"
	"time"
)

// maxFlowBytes is how much a flow holds before its reader waits, as a sender
// waits when the network takes no more.
const maxFlowBytes = 8 << 20

// chunk is one request or reply on its way through a [Proxy].
type chunk struct {
	data []byte
	due  time.Time // not before
	name string    // the command, of a request
	cut  CutMode   // what is done in place of passing it on, of a reply
}

// flow is the queue between the reader and the writer of one direction.
type flow struct {
	// mu guards all below; changed is signalled at each change.
	mu      sync.Mutex
	changed *sync.Cond
	chunks  []chunk
	bytes   int
	ended   bool // no more to come
}

func newFlow() *flow {
	f := &flow{}
	f.changed = sync.NewCond(&f.mu)
	return f
}

// put waits while the flow is full. After end it drops the chunk.
func (f *flow) put(c chunk) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.bytes > maxFlowBytes && !f.ended {
		f.changed.Wait()
	}
	if f.ended {
		return
	}
	f.chunks = append(f.chunks, c)
	f.bytes += len(c.data)
	f.changed.Broadcast()
}

// take waits for the next chunk and says if more are there already. It returns
// ok false when the flow has ended and is empty.
func (f *flow) take() (c chunk, more, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.chunks) == 0 && !f.ended {
		f.changed.Wait()
	}
	if len(f.chunks) == 0 {
		return chunk{}, false, false
	}
	c = f.chunks[0]
	f.chunks[0] = chunk{}
	f.chunks = f.chunks[1:]
	f.bytes -= len(c.data)
	f.changed.Broadcast()
	return c, len(f.chunks) > 0, true
}

// end says that nothing more comes; what is there can still be taken.
func (f *flow) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.changed.Broadcast()
}

// abort ends the flow and drops what is in it.
func (f *flow) abort() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended, f.chunks, f.bytes = true, nil, 0
	f.changed.Broadcast()
}
