package queue

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/spool"
)

// sweep finds out which jobs of the journal are finished, or old enough, and lets go of them:
// so no more of what is finished can be sent again after a loss than what was finished
// since the last sweep.
func (g *lossGuard) sweep() error {
	g.adopt()
	g.j.flush()
	began := time.Now()
	for id, m := range g.marks {
		if id.owner == g.j.store.OwnName() && !m.set.IsZero() {
			g.j.marked(m.queue, m.value) // the entry that says so may be let go of
		}
	}
	g.j.flush()
	for _, at := range g.j.takeTrimmed() {
		g.forget(at)
	}
	for n := 0; n < sweepMost; {
		blobs, err := g.reader.Read(16, journalSegment)
		if err != nil {
			return err
		}
		if len(blobs) == 0 { // begin anew
			g.reader.Rewind()
			return nil
		}
		var free []spool.Entry
		for _, b := range blobs {
			jobs, left, err := g.sweepBlob(b)
			if err != nil {
				return err
			}
			if n += jobs; left == 0 && b.At.Before(began) {
				free = append(free, b)
			}
		}
		if err := g.j.release(free); err != nil {
			return err
		}
		for _, b := range free {
			g.forget(b.Position)
		}
	}
	return nil
}

// sweepBlob lets go of the finished jobs of a blob, and of all if it is old. It returns how
// many jobs it has, and how many of them are to be kept.
func (g *lossGuard) sweepBlob(b spool.Entry) (jobs, left int, err error) {
	if jobs, err = countEntries(b.Data); err != nil {
		return 0, 0, nil //nolint:nilerr // damaged, as after a power cut: nothing can be had of it
	}
	if time.Since(b.At) > g.keep && !g.losing() {
		return jobs, 0, nil
	}
	byQueue := map[string][]checked{}
	index := -1
	_ = readEntries(b.Data, func(e entry) error {
		if e.record.ID == "" {
			return nil
		}
		if index++; !g.done[b.Position].has(index) && !g.lost[b.Position].has(index) {
			byQueue[e.queue] = append(byQueue[e.queue], checked{index, e.seq, compose.TaskKey(e.queue, e.record.ID)})
		}
		return nil
	})
	for _, q := range slices.Sorted(maps.Keys(byQueue)) {
		if err := g.sweepQueue(b, q, byQueue[q]); err != nil {
			return 0, 0, err
		}
	}
	return jobs, jobs - g.done[b.Position].count(), nil
}

// checked is a job of a blob that is looked up.
type checked struct {
	index int
	seq   uint64
	key   string
}

// sweepQueue lets go of those jobs of one queue that are gone from Redis or finished, if
// the marker, read behind them, shows that Redis has lost nothing.
func (g *lossGuard) sweepQueue(b spool.Entry, queue string, jobs []checked) error {
	m := g.marks[markID{b.Position.Owner(), queue}]
	if m == nil || m.found != nil || m.set.IsZero() || g.p.breakers.stops(queue) {
		return nil
	}
	for chunk := range slices.Chunk(jobs, lookMost) {
		ctx, cancel := context.WithTimeout(g.ctx, markTimeout)
		keys := make([]string, len(chunk))
		for i, c := range chunk {
			keys[i] = c.key
		}
		states, mark, err := g.p.sender.states(ctx, queue, keys, m.key())
		cancel()
		if err != nil {
			return err
		}
		if !slices.Contains(m.possible, mark) {
			if err := m.lose(mark); err != nil {
				return err
			}
			return g.recover(m)
		}
		for i, c := range chunk {
			if states[i] != stateHeldYet && c.seq <= m.value {
				g.noteDone(b.Position, c.index)
			}
		}
	}
	return nil
}

// losing reports whether a loss goes on.
func (g *lossGuard) losing() bool {
	for _, m := range g.marks {
		if m.found != nil {
			return true
		}
	}
	return false
}

// adopt takes over the journals of dead processes. What their markers hold tells whether Redis
// has lost something since.
func (g *lossGuard) adopt() {
	n, err := g.j.store.Adopt()
	if err != nil {
		g.complain(err)
	}
	if n == 0 {
		return
	}
	marked := map[markID]uint64{} // the highest value that a marker is known to have had
	known := map[string]bool{g.j.store.OwnName(): true}
	for id := range g.targets {
		known[id.owner] = true
	}
	var old []spool.Entry
	err = g.eachBlob(func(b spool.Entry) error {
		owner := b.Position.Owner()
		if owner == g.j.store.OwnName() {
			return nil
		}
		if time.Since(b.At) > g.keep { // by now the markers may have expired, which is no loss
			old = append(old, spool.Entry{Position: b.Position})
			return nil
		}
		_ = readEntries(b.Data, func(e entry) error { // as far as it can be read
			id := markID{owner, e.queue}
			switch {
			case e.record.ID == "":
				marked[id] = max(marked[id], e.seq)
			case !known[owner]:
				g.j.jobs.Add(1)
			}
			g.targets[id] = max(g.targets[id], e.seq)
			return nil
		})
		return nil
	})
	g.complain(errors.Join(err, g.j.release(old)))
	for id := range g.targets {
		if g.marks[id] == nil {
			m := newMark(id.owner, id.queue, g.markKeep())
			m.atLeast, m.possible = marked[id], nil
			g.marks[id] = m
		}
	}
}
