package spool

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// TwinsError is returned by Append for records of which some have a twin. Nothing was
// stored: leave those out, and append the rest again.
type TwinsError struct {
	Errs []error // one for each record of the call: nil, ErrKeyHeld or ErrLockHeld
}

func (e *TwinsError) Error() string {
	return fmt.Sprintf("spool: %d of %d records have a twin that is pending", len(e.Unwrap()), len(e.Errs))
}

// Unwrap returns the errors that are not nil.
func (e *TwinsError) Unwrap() []error {
	var errs []error
	for _, err := range e.Errs {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Twin tells whether Append would refuse a record with this key and this lock for a twin:
// nil, [ErrKeyHeld] or [ErrLockHeld]. An empty string is none. It never touches the disk,
// and where no record with a key or a lock is pending it costs next to nothing.
//
// Errors: [ErrClosed].
func (s *Spool) Twin(key, lock string) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if s.twins.some.Load() == 0 {
		return nil
	}
	s.twins.mu.Lock()
	defer s.twins.mu.Unlock()
	return s.twins.find(s.claims(), hashOf(hashKey, key), hashOf(hashLock, lock), time.Now().UnixNano())
}

// twins are the claims of a Spool: those of its segments, and those of records on their
// way to one.
type twins struct {
	some atomic.Int64 // segments that have claims, and calls of Append that do

	mu     sync.Mutex // held to look and claim in one; taken before Spool.mu and claims.mu
	flying map[hash]*twin
}

// find looks for whoever holds the lock, and then for whoever holds the key.
func (t *twins) find(shares []*claims, key, lock hash, now int64) error {
	if tw := t.flying[lock]; tw != nil && (tw.until == 0 || tw.until > now) {
		return ErrLockHeld
	}
	var err error
	if t.flying[key] != nil {
		err = ErrKeyHeld
	}
	for _, c := range shares {
		switch held := c.find(key, lock, now); {
		case errors.Is(held, ErrLockHeld):
			return held
		case held != nil:
			err = held
		}
	}
	return err
}

// claim takes the names of a batch for as long as it is on its way, or none of them. A
// record that is refused claims nothing from others in its call.
func (s *Spool) claim(batch []encoded, now time.Time) error {
	t := &s.twins
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.closed.Load() {
		return ErrClosed
	}
	shares := s.claims()
	errs, refused := make([]error, len(batch)), false
	t.some.Add(1)
	for i := range batch {
		tw := batch[i].twin
		if tw == nil {
			continue
		}
		if errs[i] = t.find(shares, tw.key, tw.lock, now.UnixNano()); errs[i] != nil {
			refused = true
			continue
		}
		t.fly(tw)
	}
	if refused {
		t.landLocked(batch)
		return &TwinsError{Errs: errs}
	}
	return nil
}

func (t *twins) fly(tw *twin) {
	if t.flying == nil {
		t.flying = map[hash]*twin{}
	}
	for _, h := range []hash{tw.key, tw.lock} {
		if h != (hash{}) {
			t.flying[h] = tw
		}
	}
}

// land gives up what claim took. Where the batch was stored, its segment has the claims by
// now; where it was not, or nobody can tell, nobody has.
func (t *twins) land(batch []encoded) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.landLocked(batch)
}

func (t *twins) landLocked(batch []encoded) {
	t.some.Add(-1)
	for i := range batch {
		tw := batch[i].twin
		if tw == nil {
			continue
		}
		for _, h := range []hash{tw.key, tw.lock} {
			if t.flying[h] == tw { // an expired lock may be another's by now
				delete(t.flying, h)
			}
		}
	}
}

// claims returns those of all segments.
func (s *Spool) claims() (shares []*claims) {
	s.mu.Lock()
	defer s.mu.Unlock()
	add := func(o *owner) {
		for _, seg := range o.segs {
			shares = append(shares, &seg.claims)
		}
	}
	for _, o := range s.adopted {
		add(o)
	}
	if s.own != nil {
		add(s.own)
	}
	return shares
}
