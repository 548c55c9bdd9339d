package queue

import "sync"

// changes are the beginnings and ends of outages that OnStateChange has still to be told of.
// Different goroutines come upon them, and the one that meets the beginning may be busy with
// its job until the end. Safe for concurrent use.
type changes struct {
	mu      sync.Mutex // guards what follows, and their order: the breakers change under it
	waiting []StateChange
	telling bool // somebody is at it
}

// note makes a change to a breaker, if there is one to be made, and has it told in its turn by
// a note.
func (c *changes) note(p *Producer, n *notes, fn func() (StateChange, bool)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	change, made := fn()
	if made && p.cfg.OnStateChange != nil {
		c.waiting = append(c.waiting, change)
		n.add(func() { c.tell(p) })
	}
	return made
}

// tell calls OnStateChange for all that waits, in order, and leaves that to another goroutine
// if one is at it: it may be this one, whose callback calls Enqueue.
func (c *changes) tell(p *Producer) {
	c.mu.Lock()
	if c.telling {
		c.mu.Unlock()
		return
	}
	c.telling = true
	for len(c.waiting) > 0 {
		next := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.mu.Unlock()
		p.safely(func() { p.cfg.OnStateChange(next) })
		c.mu.Lock()
	}
	c.telling = false
	c.mu.Unlock()
}
