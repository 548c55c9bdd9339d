package redistest

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// tlsHandshake is the first byte of a TLS connection, in both directions. What
// follows cannot be parsed and is passed on as it comes.
const tlsHandshake = 0x16

// link is one client connection of a [Proxy] and its connection to Redis:
//
//	client -> readRequests -> requests -> writeRequests -> Redis
//	client <- writeReplies <- replies  <- readReplies   <- Redis
//
// When the client closes, what it has sent still reaches Redis. When Redis
// closes, what it has replied still reaches the client.
type link struct {
	p                 *Proxy
	client            *net.TCPConn
	requests, replies *flow
	dead              chan struct{} // closed by reset
	cancel            func()        // ends the dial
	stranded          bool          // guarded by p.mu

	// mu guards all below.
	mu      sync.Mutex
	isDead  bool
	redis   *net.TCPConn // nil until connected
	replica bool         // the client is a replica: no RESP is to come
	pending []string     // names of the commands not replied to, oldest first
}

// run returns when both connections are closed.
func (l *link) run(ctx context.Context) {
	defer l.reset()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.p.target())
	if err != nil {
		return
	}
	redis := conn.(*net.TCPConn)
	if !l.connected(redis) {
		_ = redis.Close()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.readRequests() })
	wg.Go(func() { l.writeRequests(redis) })
	wg.Go(func() { l.readReplies(redis) })
	wg.Go(func() { l.writeReplies() })
	wg.Wait()
	// Both ends have finished; an orderly close, before reset does it harshly.
	_ = l.client.Close()
	_ = redis.Close()
}

func (l *link) connected(redis *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isDead {
		l.redis = redis
	}
	return !l.isDead
}

// reset resets both connections and drops what is on its way.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isDead {
		return
	}
	l.isDead = true
	close(l.dead)
	l.cancel()
	l.requests.abort()
	l.replies.abort()
	resetConn(l.client)
	if l.redis != nil {
		resetConn(l.redis)
	}
}

// resetConn closes with RST in place of FIN.
func resetConn(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

func (l *link) readRequests() {
	defer l.requests.end()
	r := bufio.NewReaderSize(l.client, 64<<10)
	if l.raw(r, l.requests) {
		return
	}
	for {
		data, name, err := readRequest(r)
		if err != nil {
			return
		}
		l.sent(name)
		l.requests.put(chunk{data: data, name: name, due: l.p.dueRequest(name)})
	}
}

func (l *link) readReplies(redis *net.TCPConn) {
	defer l.replies.end()
	r := bufio.NewReaderSize(redis, 64<<10)
	if l.raw(r, l.replies) {
		return
	}
	for {
		if _, err := r.Peek(1); err != nil {
			return
		}
		if l.becameRaw() {
			l.passBytes(r, l.replies)
			return
		}
		data, err := readValue(r, nil)
		if err != nil {
			return
		}
		c := chunk{data: data, due: l.p.due()}
		if data[0] != '>' && isScript(l.replied()) && data[0] == ':' {
			c.cut = l.p.spring()
		}
		l.replies.put(c)
	}
}

// raw passes on a TLS connection and returns true when that has ended, or false
// at once if this is none.
func (l *link) raw(r *bufio.Reader, f *flow) bool {
	if first, err := r.Peek(1); err != nil || first[0] != tlsHandshake {
		return false
	}
	l.passBytes(r, f)
	return true
}

// passBytes passes on what comes until it ends.
func (l *link) passBytes(r *bufio.Reader, f *flow) {
	for {
		if _, err := r.Peek(1); err != nil {
			return
		}
		data := make([]byte, r.Buffered())
		if _, err := io.ReadFull(r, data); err != nil {
			return
		}
		f.put(chunk{data: data, due: l.p.due()})
	}
}

// sent notes that a reply to the command is to come. What (un)subscribes is
// answered by pushes, and a blank line not at all.
func (l *link) sent(name string) {
	switch name {
	case "", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE":
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replica = l.replica || name == "PSYNC"
	l.pending = append(l.pending, name)
}

func (l *link) becameRaw() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.replica
}

// replied returns the name of the command that the next reply belongs to.
func (l *link) replied() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		return ""
	}
	name := l.pending[0]
	l.pending = l.pending[1:]
	return name
}

func (l *link) writeRequests(redis *net.TCPConn) {
	w := bufio.NewWriterSize(redis, 64<<10)
	l.write(l.requests, w, func(c chunk) bool {
		l.p.passed(c.name)
		_, err := w.Write(c.data)
		return err == nil
	})
	_ = redis.CloseWrite()
}

func (l *link) writeReplies() {
	w := bufio.NewWriterSize(l.client, 64<<10)
	lost := false // nothing goes to the client any more
	l.write(l.replies, w, func(c chunk) bool {
		if lost {
			return true
		}
		if c.cut != 0 {
			lost = true
			l.cutClient(w, c)
			return true
		}
		if _, err := w.Write(c.data); err != nil {
			lost = true
		}
		return true
	})
	_ = l.client.Close()
}

// cutClient loses the reply in the chosen way, after those before it.
func (l *link) cutClient(w *bufio.Writer, c chunk) {
	if c.cut == CutHalf {
		_, _ = w.Write(c.data[:len(c.data)/2])
	}
	_ = w.Flush()
	switch c.cut {
	case CutHang:
	case CutRST:
		resetConn(l.client)
	default:
		_ = l.client.CloseWrite()
	}
}

// write hands on the chunks of a flow, each when it is due and the proxy is not
// frozen, and flushes w before each wait. When pass returns false, the rest is
// dropped.
func (l *link) write(f *flow, w *bufio.Writer, pass func(chunk) bool) {
	for {
		c, more, ok := f.take()
		if !ok {
			return
		}
		if gate := l.p.closedGate(l); gate != nil || time.Until(c.due) > 0 {
			_ = w.Flush()
			if !l.wait(c.due) {
				return
			}
		}
		if !pass(c) {
			f.abort()
			return
		}
		if !more {
			_ = w.Flush() // an error stays with w and shows at the next write
		}
	}
}

// wait returns true when the time has come and the proxy is not frozen, and
// false if the link is reset before.
func (l *link) wait(due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.dead:
		return false
	}
	for gate := l.p.closedGate(l); gate != nil; gate = l.p.closedGate(l) {
		select {
		case <-gate:
		case <-l.dead:
			return false
		}
	}
	return true
}
