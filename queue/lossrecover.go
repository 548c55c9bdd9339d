package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/spool"
)

// follow begins to recover when a marker shows a loss. What has lost jobs of one queue has
// mostly lost those of others too: so all markers are looked at before anything else is done,
// and what comes from now on is suspect of none.
func (g *lossGuard) follow() {
	g.protect()
	g.look(func(*mark, uint64) bool { return true })
	g.complain(g.recover())
}

// mend looks for losses now, also where nothing was sent lately, and of dead processes too, and
// puts what is lost into the spool.
func (g *lossGuard) mend(ctx context.Context) error {
	return g.aside(ctx, func() error { //nolint:contextcheck // what goes on in the guard's goroutine ends with the guard
		g.adopt()
		g.follow()
		if g.losing(nil) {
			return errLosing
		}
		return nil
	})
}

var errLosing = errors.New("queue: Redis has lost jobs that it had acknowledged, and they could not all be sent again")

// protect has the journal keep what it has, as long as a loss goes on: what is lost is not to make
// room for what is not.
func (g *lossGuard) protect() {
	if g.losing(nil) {
		g.j.unread.Store(&spool.Position{})
		return
	}
	g.j.unread.Store(nil)
}

// losing reports whether a loss goes on, of others than some.
func (g *lossGuard) losing(but map[markID]*mark) bool {
	for id, m := range g.marks {
		if m.found != nil && but[id] == nil {
			return true
		}
	}
	return false
}

// recover finds out what is missing since the markers that Redis went back to were set, and
// sends it again, of all queues while the journal is read once. An error leaves the loss of
// a queue as it is; it is gone on with later.
func (g *lossGuard) recover() error {
	g.tried = time.Now()
	losses, unknown := g.acknowledge()
	if len(losses) == 0 {
		return unknown
	}
	g.p.sender.forget() // the queues' registrations may be lost, too
	g.j.flush()
	var failed error
	err := g.eachPage(losses, func(blobs []spool.Entry) error {
		failed = errors.Join(failed, g.recoverPage(losses, blobs))
		if len(losses) == 0 {
			return failed
		}
		return nil
	})
	if err != nil {
		return errors.Join(unknown, err)
	}
	for _, id := range slices.SortedFunc(maps.Keys(losses), markID.compare) {
		g.recovered(losses[id])
	}
	g.protect()
	return errors.Join(unknown, failed)
}

// acknowledge says in Redis which losses are known, and notes up to where entries are suspect.
// It returns those losses that can be recovered from.
func (g *lossGuard) acknowledge() (losses map[markID]*mark, err error) {
	losses = map[markID]*mark{}
	var errs []error
	for id, m := range g.marks {
		if m.found == nil || g.p.breakers.stops(m.queue) {
			continue
		}
		ctx, cancel := context.WithTimeout(g.ctx, markTimeout)
		err := m.acknowledge(ctx, g.p.sender)
		cancel()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		losses[id] = m
	}
	if err := g.bound(losses); err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	return losses, errors.Join(errs...)
}

// bound notes the last entry of each loss that is suspect. What is sent after a loss was
// acknowledged is not: were it lost, the marker would show that again. It would be taken for
// lost whenever a worker is quicker than the look-up, and when it was sent again too.
func (g *lossGuard) bound(losses map[markID]*mark) error {
	isNew := func(m *mark) bool { return m.until == 0 }
	if !slices.ContainsFunc(slices.Collect(maps.Values(losses)), isNew) {
		return nil
	}
	ctx, cancel := context.WithTimeout(g.ctx, markTimeout)
	defer cancel()
	if err := g.p.flights.wait(ctx); err != nil {
		return fmt.Errorf("queue: jobs on their way have not arrived: %w", err)
	}
	lasts := g.lasts()
	for id, m := range losses {
		if isNew(m) {
			m.until = lasts[id]
		}
	}
	return nil
}

// recovered ends a loss. A Redis that never had what another had acknowledged has lost nothing.
func (g *lossGuard) recovered(m *mark) {
	log := g.p.cfg.Logger.With("queue", m.queue, "target", g.p.cfg.Target, "missing", m.missing, "sent_again", m.resent)
	switch {
	case !m.elsewhere:
		log.Warn("queue: Redis has lost jobs that it had acknowledged")
	case m.missing > 0:
		log.Warn("queue: jobs that another target had acknowledged are not here and may still run there; if it is gone for good, spool guard --check sends them")
	}
	if !m.elsewhere || m.missing > 0 {
		g.lastLoss.Store(time.Now().UnixNano())
		g.losses.Add(1)
	}
	m.accept()
}

// recoverPage sends again what is missing of some blobs. Losses of which that fails are taken out.
func (g *lossGuard) recoverPage(losses map[markID]*mark, blobs []spool.Entry) error {
	left := map[markID][]suspect{}
	for _, b := range blobs {
		g.suspects(b, losses, left)
	}
	var errs []error
	for _, id := range slices.SortedFunc(maps.Keys(left), markID.compare) {
		lost, err := g.lookUp(id.queue, left[id])
		if err == nil && len(lost) > 0 {
			err = g.recoverPart(losses[id], lost)
		}
		if err != nil {
			delete(losses, id)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// recoverPart sends lost jobs again. A spool that has no room for all may have for some.
func (g *lossGuard) recoverPart(m *mark, lost []suspect) error {
	resends := g.policy == ResendLost && !m.elsewhere
	n, err := 0, error(nil)
	if resends {
		n, err = g.sendAgain(lost)
	}
	if half := len(lost) / 2; errors.Is(err, spool.ErrFull) && half > 0 {
		if err := g.recoverPart(m, lost[:half]); err != nil {
			return err
		}
		return g.recoverPart(m, lost[half:])
	}
	if err != nil {
		return err
	}
	m.missing, m.resent = m.missing+len(lost), m.resent+n
	g.missing.Add(int64(len(lost)))
	g.resent.Add(int64(n))
	for _, s := range lost {
		g.dealtWith(s, resends)
		if resends && !s.job.ProcessAt.After(g.tried) {
			g.maybeDone.Add(1)
		}
	}
	return nil
}

// dealtWith notes that a lost job was sent again, or only reported.
func (g *lossGuard) dealtWith(s suspect, resent bool) {
	if resent {
		g.noteDone(s.blob, s.index)
		return
	}
	if g.lost[s.blob] == nil {
		g.lost[s.blob] = &bitset{}
	}
	g.lost[s.blob].set(s.index)
}

// suspect is a job of a blob that Redis may have lost.
type suspect struct {
	blob  spool.Position
	index int
	job   job
}

// suspects adds the jobs of a blob that may be lost. What cannot be read is left out.
func (g *lossGuard) suspects(b spool.Entry, losses map[markID]*mark, left map[markID][]suspect) {
	index := -1
	_ = readEntries(b.Data, func(e entry) error {
		if e.record.ID == "" {
			return nil
		}
		id := markID{b.Position.Owner(), e.queue}
		if index++; !losses[id].suspects(e.seq) || g.done[b.Position].has(index) || g.lost[b.Position].has(index) {
			return nil
		}
		if one, err := readJob(e.record); err == nil {
			left[id] = append(left[id], suspect{b.Position, index, one})
		}
		return nil
	})
}

// hasSuspects reports whether a blob has jobs that may be lost.
func (g *lossGuard) hasSuspects(b spool.Entry) (some bool) {
	_ = readEntries(b.Data, func(e entry) error {
		some = some || e.record.ID != "" && g.marks[markID{b.Position.Owner(), e.queue}].suspects(e.seq)
		return nil
	})
	return some
}

// lookUp returns those jobs of a queue that Redis does not have.
func (g *lossGuard) lookUp(queue string, left []suspect) (lost []suspect, err error) {
	for chunk := range slices.Chunk(left, lookMost) {
		ctx, cancel := context.WithTimeout(g.ctx, markTimeout)
		keys := make([]string, len(chunk))
		for i, s := range chunk {
			keys[i] = compose.TaskKey(queue, s.job.ID)
		}
		states, _, err := g.p.sender.states(ctx, queue, keys, "")
		cancel()
		if err != nil {
			return nil, err
		}
		for i, s := range chunk {
			if states[i] == stateGone {
				lost = append(lost, s)
			}
		}
	}
	return lost, nil
}

// eachPage reads the whole journal, some blobs at a time. What was read may be given up, but for
// a loss that goes on and is none of those that are dealt with.
func (g *lossGuard) eachPage(losses map[markID]*mark, fn func([]spool.Entry) error) error {
	r := g.j.store.Reader(journalFlow)
	defer g.protect()
	for {
		blobs, err := r.Read(sweepBlobs, journalMost)
		if err != nil || len(blobs) == 0 {
			return err
		}
		if !g.losing(losses) {
			g.j.unread.Store(&blobs[0].Position)
		}
		if err := errors.Join(g.ctx.Err(), fn(blobs)); err != nil {
			return err
		}
	}
}
