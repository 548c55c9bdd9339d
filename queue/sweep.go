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
// since the last sweep. It goes on step by step: Redis is to be at the disposal of others.
func (g *lossGuard) sweep() {
	if !g.sweeping {
		if time.Since(g.swept) < sweepEvery {
			return
		}
		g.beginSweep()
	}
	over, err := g.sweepStep()
	if over || err != nil { // after an error the next one goes on behind what was done
		g.sweeping = false
		g.complain(err)
	}
}

func (g *lossGuard) beginSweep() {
	g.sweeping, g.swept = true, time.Now()
	g.adopt()
	if err := g.j.tidy(g.keep); err != nil {
		g.complain(err)
	}
	g.j.flush()
	for id, m := range g.marks {
		if id.owner == g.j.store.OwnName() && !m.set.IsZero() {
			g.j.marked(m) // the entry that says so may be let go of
		}
	}
	g.j.flush()
	for _, at := range g.j.takeTrimmed() {
		g.forget(at)
	}
}

// sweepStep goes on with a sweep, and reports whether it is over.
func (g *lossGuard) sweepStep() (over bool, err error) {
	for n := 0; n < sweepMost; {
		blobs, err := g.reader.Read(sweepBlobs, journalMost)
		if err != nil {
			return false, err
		}
		if len(blobs) == 0 {
			g.forgetOwners()
			g.rewind()
			return true, nil
		}
		jobs, err := g.sweepPage(blobs)
		if err != nil {
			return false, err
		}
		n += jobs
	}
	return false, nil
}

// rewind has the sweep go on at the beginning of the journal.
func (g *lossGuard) rewind() {
	g.reader.Rewind()
	g.seen = map[string]bool{}
}

// forgetOwners forgets the markers of dead processes whose journals are gone: the sweep has
// come to the end, and has seen nothing of them.
func (g *lossGuard) forgetOwners() {
	for id := range g.targets {
		if !g.seen[id.owner] {
			delete(g.targets, id)
			delete(g.marks, id)
		}
	}
}

// sweepPage lets go of the finished jobs of some blobs, and of blobs that are done with or
// old. Those that were written since the sweep began stay, with what they say of markers. It
// returns how many jobs they have.
func (g *lossGuard) sweepPage(blobs []spool.Entry) (jobs int, err error) {
	counts := make([]int, len(blobs))
	byMark := map[markID][]checked{}
	for i, b := range blobs {
		g.seen[b.Position.Owner()] = true
		counts[i] = g.sweepBlob(b, byMark)
		jobs += counts[i]
	}
	for _, id := range slices.SortedFunc(maps.Keys(byMark), markID.compare) {
		if err := g.sweepQueue(g.marks[id], byMark[id]); err != nil {
			return 0, err
		}
	}
	var free []spool.Position
	freed := 0
	for i, b := range blobs {
		if b.At.Before(g.swept) && (g.expired(b) || counts[i] == g.done[b.Position].count()) {
			free = append(free, b.Position)
			freed += counts[i]
		}
	}
	if err := g.j.release(free, freed); err != nil {
		return 0, err
	}
	for _, at := range free {
		g.forget(at)
	}
	return jobs, nil
}

// sweepBlob adds the jobs of a blob that are to be looked up, and returns how many jobs it
// has. A damaged one, as after a power cut, has those in front of the damage.
func (g *lossGuard) sweepBlob(b spool.Entry, byMark map[markID][]checked) (jobs int) {
	expired := g.expired(b)
	done, lost := g.done[b.Position], g.lost[b.Position]
	_ = readEntries(b.Data, func(e entry) error {
		if e.record.ID == "" {
			return nil
		}
		if !expired && !done.has(jobs) && !lost.has(jobs) {
			id := markID{b.Position.Owner(), e.queue}
			byMark[id] = append(byMark[id], checked{b.Position, jobs, e.seq, compose.TaskKey(e.queue, e.record.ID)})
		}
		jobs++
		return nil
	})
	return jobs
}

// expired reports whether a blob is older than jobs are kept. One with jobs that may be lost
// stays until that is mended.
func (g *lossGuard) expired(b spool.Entry) bool {
	return time.Since(b.At) > g.keep && (!g.losing(nil) || !g.hasSuspects(b))
}

// checked is a job of a blob that is looked up.
type checked struct {
	blob  spool.Position
	index int
	seq   uint64
	key   string
}

// sweepQueue lets go of those jobs of one marker's queue that are gone from Redis or
// finished, if the marker, read behind them, shows that Redis has lost nothing.
func (g *lossGuard) sweepQueue(m *mark, jobs []checked) error {
	if m == nil || m.found != nil || m.set.IsZero() || g.p.breakers.stops(m.queue) {
		return nil
	}
	for chunk := range slices.Chunk(jobs, lookMost) {
		ctx, cancel := context.WithTimeout(g.ctx, markTimeout)
		keys := make([]string, len(chunk))
		for i, c := range chunk {
			keys[i] = c.key
		}
		states, mark, err := g.p.sender.states(ctx, m.queue, keys, m.key())
		cancel()
		if err != nil {
			return err
		}
		if !slices.Contains(m.possible, mark) {
			lost, err := m.meet(mark)
			if err != nil {
				return err
			}
			if lost {
				g.follow()
				return nil
			}
		}
		for i, c := range chunk {
			if states[i] != stateHeldYet && c.seq <= m.value {
				g.noteDone(c.blob, c.index)
			}
		}
	}
	return nil
}

// adopt takes over the journals of dead processes. What their markers hold tells whether Redis
// has lost something since.
func (g *lossGuard) adopt() {
	n, err := g.j.store.Adopt()
	if err != nil {
		g.complain(err)
	}
	if g.unread = g.unread || n > 0; !g.unread {
		return
	}
	g.rewind()
	a := adopted{marked: map[markID]uint64{}, stays: map[markID]int64{}, last: map[markID]uint64{}}
	known := map[string]bool{}
	for id := range g.targets {
		known[id.owner] = true
	}
	var old []spool.Position
	err = g.eachPage(nil, func(blobs []spool.Entry) error {
		for _, b := range blobs {
			owner := b.Position.Owner()
			switch {
			case owner == g.j.store.OwnName():
			case !known[owner] && time.Since(b.At) > g.keep: // by now the markers may have expired, which is no loss
				old = append(old, b.Position)
			default:
				a.add(b, known[owner])
			}
		}
		return nil
	})
	foreign, ferr := g.foreign()
	if err = errors.Join(err, ferr); err != nil { // it is read again by the next sweep
		g.complain(err)
		return
	}
	g.unread = false
	if err := g.j.release(old, 0); err != nil {
		g.complain(err)
	}
	g.j.jobs.Add(a.jobs)
	for id, seq := range a.last {
		g.targets[id] = max(g.targets[id], seq)
		if g.marks[id] == nil {
			g.marks[id] = a.newMark(id, g.markKeep())
			g.marks[id].foreign = foreign[id.owner]
		}
	}
}

// foreign returns which owners had another target.
func (g *lossGuard) foreign() (map[string]bool, error) {
	foreign := map[string]bool{}
	if len(g.p.cfg.AcceptTargets) == 0 {
		return foreign, nil
	}
	owners, err := spool.Inspect(g.j.dir)
	for _, o := range owners {
		foreign[o.Name] = !SameTarget(g.p.cfg.Target, o.Identity.Target)
	}
	return foreign, err
}

// adopted is what was read in the journals of dead processes.
type adopted struct {
	jobs   int64             // that were not known
	marked map[markID]uint64 // the highest value that a marker is known to have had
	stays  map[markID]int64  // up to when it stays in Redis, in Unix milliseconds
	last   map[markID]uint64 // entry
}

// newMark returns a marker of a dead process. It is kept for no less long than that had set it to.
func (a *adopted) newMark(id markID, keep time.Duration) *mark {
	m := newMark(id.owner, id.queue, keep)
	m.atLeast, m.possible = a.marked[id], nil
	if ms := a.stays[id]; ms != 0 {
		m.stays = time.UnixMilli(ms)
		m.keep = max(keep, time.Until(m.stays)+markSlack/2)
	}
	return m
}

// add adds a blob of a process, whose journal may be known, as far as it can be read.
func (a *adopted) add(b spool.Entry, known bool) {
	_ = readEntries(b.Data, func(e entry) error {
		id := markID{b.Position.Owner(), e.queue}
		switch {
		case e.record.ID == "":
			a.marked[id] = max(a.marked[id], e.seq)
			a.stays[id] = max(a.stays[id], e.stays)
		case !known:
			a.jobs++
		}
		a.last[id] = max(a.last[id], e.seq)
		return nil
	})
}
