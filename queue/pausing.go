package queue

import (
	"sync"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// pausePoll is how often a replayer looks whether replay is paused.
const pausePoll = 500 * time.Millisecond

// pausing knows whether replay of the SpoolDir is paused. Safe for concurrent use.
type pausing struct {
	dir string

	mu     sync.Mutex // guards what follows
	looked time.Time
	pause  *spool.Pause // nil: none
}

// look looks again if the last look is too old. Where that fails it forgets none that it
// knew of.
func (p *pausing) look(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if age := now.Sub(p.looked); age >= 0 && age < pausePoll {
		return nil
	}
	pause, err := spool.Paused(p.dir)
	if err != nil {
		return err
	}
	p.looked, p.pause = now, pause
	return nil
}

// forget makes the next look a new one.
func (p *pausing) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looked = time.Time{}
}

func (p *pausing) paused() bool { return p.current() != nil }

func (p *pausing) current() *spool.Pause {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pause
}
