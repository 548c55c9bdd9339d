package queue

import "time"

// RegisterEvery makes a Producer that has not enqueued yet take a queue for registered
// for so long. It returns p.
func (p *Producer) RegisterEvery(d time.Duration) *Producer {
	p.sender.knownFor = d
	return p
}
