package queue

import "time"

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
