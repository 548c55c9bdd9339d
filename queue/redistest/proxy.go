package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// CutMode is how [Proxy.CutAfterReplies] loses a reply.
type CutMode int

const (
	// CutFIN closes the connection in order: the client reads EOF.
	CutFIN CutMode = iota + 1
	// CutRST resets the connection: the client reads ECONNRESET.
	CutRST
	// CutHalf passes half of the reply, then closes the connection in order.
	CutHalf
	// CutHang leaves the connection open and swallows this and all later
	// replies on it; requests still reach Redis.
	CutHang
)

// Proxy stands between clients and one Redis address and is the network's
// faults: it delays, holds, loses and cuts. It reads RESP2 and RESP3, so that a
// fault can be aimed at one command or reply; of a TLS connection it sees bytes
// only, and what is aimed (CutAfterReplies, HoldRequests, Requests) misses.
//
// What a client has sent before its connection ends, by itself or by
// CutAfterReplies, still reaches Redis. The methods may be called from several
// goroutines.
type Proxy struct {
	tb   testing.TB
	addr string
	wg   sync.WaitGroup

	// mu guards all below.
	mu       sync.Mutex
	backend  string
	listener net.Listener // nil while refusing
	links    map[*link]struct{}
	closed   bool
	oneWay   time.Duration
	hold     time.Duration
	gate     chan struct{} // not nil while frozen; closed by Thaw
	trap     *trap         // nil when none is set
	counts   map[string]int
}

// trap is a cut that waits for its reply.
type trap struct {
	pass   int
	how    CutMode
	sprung chan struct{}
}

// NewProxy listens on a free port of 127.0.0.1 and forwards to addr, which need
// not accept connections yet: a client that connects while addr does not is
// accepted and then reset. The proxy is closed when the test ends, which waits
// for its goroutines.
func NewProxy(tb testing.TB, addr string) *Proxy {
	tb.Helper()
	p := &Proxy{tb: tb, backend: addr, links: map[*link]struct{}{}, counts: map[string]int{}}
	for try := 1; p.addr == ""; try++ {
		port, err := freePort()
		if err == nil {
			err = p.listen(loopback(port))
		}
		if err != nil && try == portTries {
			tb.Fatal(err)
		}
	}
	tb.Cleanup(p.close)
	return p
}

// Addr returns "127.0.0.1:port", which stays the same over Refuse and Accept.
func (p *Proxy) Addr() string { return p.addr }

// SetTarget makes new connections go to addr. Existing ones stay where they are.
func (p *Proxy) SetTarget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backend = addr
}

// Latency makes a round trip take d longer: what is read from now on is passed
// on d/2 later, in each direction. Throughput is not limited: what comes behind
// waits at the same time, not afterwards. Zero: no delay, as at the start.
func (p *Proxy) Latency(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.oneWay = d / 2
}

// CutAfterReplies passes n more integer replies to EVALSHA or EVAL, which is
// what asynq's enqueue scripts answer, counted over all connections, and then
// loses the next one in the way how: Redis has executed the command, and the
// client does not learn it. It happens once; a later call replaces an earlier
// one that has not happened. Errors such as NOSCRIPT are not counted, nor is
// what is inside MULTI. What was passed before is delivered first.
//
// The channel is closed when the reply to be lost has been read from Redis.
func (p *Proxy) CutAfterReplies(n int, how CutMode) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = &trap{pass: n, how: how, sprung: make(chan struct{})}
	return p.trap.sprung
}

// HoldRequests makes the next EVALSHA or EVAL reach Redis only d later, even if
// the client closes its connection meanwhile: a packet delayed in the network.
// Later commands on the same connection wait behind it. It happens once.
func (p *Proxy) HoldRequests(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = d
}

// Freeze stops forwarding in both directions. Connections stay open and new ones
// are accepted. A write that has begun is finished. Freezing twice is freezing
// once.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate == nil {
		p.gate = make(chan struct{})
	}
}

// Thaw forwards what Freeze has held, also what was sent by clients that have
// closed meanwhile. A proxy that is not frozen does not notice.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate != nil {
		close(p.gate)
		p.gate = nil
	}
}

// Cut resets all connections now, on both sides, and drops what is on its way.
// New ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		l.reset()
	}
}

// Strand leaves all connections of now hanging for ever: nothing passes, and nobody learns
// of it, as when a host or a firewall has forgotten them. New ones are well.
func (p *Proxy) Strand() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.stranded = true
	}
}

// Refuse closes the listener: the port refuses connections on return. Existing
// connections stay; see [Proxy.Cut].
func (p *Proxy) Refuse() {
	p.mu.Lock()
	ln := p.listener
	p.listener = nil
	p.mu.Unlock()
	if ln != nil {
		_ = ln.Close()
	}
}

// Accept listens again on the same port after Refuse; it fails the test if
// another process has taken it. Accepting twice is accepting once.
func (p *Proxy) Accept() {
	p.tb.Helper()
	if err := p.listen(p.addr); err != nil {
		p.tb.Error(err)
	}
}

// Requests returns how many commands with that name, upper case, have been
// passed on to Redis.
func (p *Proxy) Requests(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[name]
}

func (p *Proxy) listen(addr string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.listener != nil {
		return nil
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return fmt.Errorf("redistest: proxy: %w", err)
	}
	p.addr, p.listener = addr, ln
	p.wg.Go(func() { p.serve(ln) })
	return nil
}

func (p *Proxy) serve(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(pollEvery) // out of file descriptors, or gone before we looked
			continue
		}
		p.serveClient(conn.(*net.TCPConn))
	}
}

func (p *Proxy) serveClient(client *net.TCPConn) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	l := &link{
		p: p, client: client, cancel: cancel, dead: make(chan struct{}),
		requests: newFlow(), replies: newFlow(),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		cancel()
		resetConn(client)
		return
	}
	p.links[l] = struct{}{}
	p.wg.Go(func() {
		l.run(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.links, l)
	})
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Refuse()
	p.Cut()
	p.wg.Wait()
}

func (p *Proxy) target() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.backend
}

// closedGate returns nil if the link may pass on, else what Thaw closes, or for a stranded
// one nobody does.
func (p *Proxy) closedGate(l *link) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.stranded {
		return make(chan struct{})
	}
	return p.gate
}

// due is when what is read now goes on.
func (p *Proxy) due() time.Time { return p.dueRequest("") }

// dueRequest is due for a command; it takes the hold if it is meant.
func (p *Proxy) dueRequest(name string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := time.Now().Add(p.oneWay)
	if isScript(name) {
		due = due.Add(p.hold)
		p.hold = 0
	}
	return due
}

func (p *Proxy) passed(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[name]++
}

// spring is asked for each reply that counts and returns how to cut, or 0.
func (p *Proxy) spring() CutMode {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.trap
	if t == nil {
		return 0
	}
	if t.pass > 0 {
		t.pass--
		return 0
	}
	p.trap = nil
	close(t.sprung)
	return t.how
}

func isScript(name string) bool { return name == "EVALSHA" || name == "EVAL" }
