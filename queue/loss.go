package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/spool"
)

// LossPolicy says what to do about jobs that Redis had acknowledged and has lost.
type LossPolicy int

const (
	// ResendLost sends them again, under their ids, by way of the spool.
	ResendLost LossPolicy = iota

	// ReportLost counts and logs them. As long as this process lives, and for
	// Config.Guard, they stay in the journal: spool guard --check sends them.
	ReportLost
)

const (
	// sweepEvery is how often it is looked which jobs of the journal are finished.
	sweepEvery = 5 * time.Second

	// sweepMost is how many jobs a step of a sweep has, one for each time that the markers
	// are advanced: 20,000 in a second. Of more, a sweep takes longer.
	sweepMost = 2000

	// sweepBlobs is how many blobs are looked at together.
	sweepBlobs = 32

	// lookMost is how many jobs are looked up in one pipeline.
	lookMost = 500

	// recoverAgain is the time from one failed attempt to send lost jobs again to the next.
	recoverAgain = time.Second

	// markTimeout bounds each of these exchanges with Redis.
	markTimeout = 2 * time.Second
)

// lossGuard notices when Redis has lost jobs that it had acknowledged, and sends those again
// that the journal has and Redis has not. All but its counters belongs to one goroutine.
type lossGuard struct {
	p      *Producer
	j      *journal
	ctx    context.Context //nolint:containedctx // ends the goroutine; set once
	stop   context.CancelFunc
	ended  chan struct{}
	asides asides
	policy LossPolicy
	keep   time.Duration

	marks   map[markID]*mark
	targets map[markID]uint64 // of adopted journals: the last entry of each queue
	unread  bool              // journals were adopted, and not all could be read yet
	done    map[spool.Position]*bitset
	lost    map[spool.Position]*bitset // reported, and not sent again
	reader  *spool.Reader
	seen    map[string]bool // owners of what the reader has read since it was rewound

	sweeping bool
	swept    time.Time // when the last sweep began
	told     string    // what was last complained of

	losses, missing, resent, maybeDone atomic.Int64

	finished atomic.Int64 // bits in done
	lastLoss atomic.Int64 // Unix nanoseconds
}

type markID struct{ owner, queue string }

func (id markID) compare(other markID) int {
	return cmp.Or(cmp.Compare(id.owner, other.owner), cmp.Compare(id.queue, other.queue))
}

// key is that of the marker in Redis.
func (id markID) key() string { return compose.QueuePrefix(id.queue) + "spool:mark:" + id.owner }

func newLossGuard(p *Producer, j *journal) *lossGuard {
	g := &lossGuard{
		p: p, j: j, ended: make(chan struct{}), asides: make(asides), policy: p.cfg.OnLoss, keep: p.cfg.Guard,
		marks: map[markID]*mark{}, targets: map[markID]uint64{},
		done: map[spool.Position]*bitset{}, lost: map[spool.Position]*bitset{},
		reader: j.store.Reader(journalFlow),
	}
	g.rewind()
	g.ctx, g.stop = context.WithCancel(context.Background())
	j.first = &firstMarks{owner: j.store.OwnName(), keep: g.markKeep()}
	p.sender.first = j.first
	return g
}

// run keeps the markers up to date and sweeps, until stop is called.
func (g *lossGuard) run() {
	defer close(g.ended)
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	g.adopt()
	for {
		g.advance()
		g.sweep()
		select {
		case <-tick.C:
		case a := <-g.asides:
			a.done <- a.fn()
		case <-g.j.fresh: // without a marker nobody could tell whether it was lost
		case <-g.ctx.Done():
			return
		}
	}
}

// finish ends the goroutine.
func (g *lossGuard) finish() {
	g.stop()
	<-g.ended
}

// last brings the markers up to date when no more jobs come: those who adopt the journal are
// to find one of each queue. The goroutine has ended.
func (g *lossGuard) last() {
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	g.ctx = ctx
	g.advance()
}

func (g *lossGuard) complain(err error) {
	if err == nil && g.troubled() {
		return // it is said again only when that is over
	}
	text := ""
	if err != nil && g.ctx.Err() == nil {
		text = err.Error()
	}
	if text != "" && g.told == "" { // that it goes on need not be said
		g.p.cfg.Logger.Warn("queue: jobs that Redis has lost cannot be found out, or not be sent again", "err", err)
	}
	g.told = text
}

// troubled reports whether a loss goes on, or a marker could not be set.
func (g *lossGuard) troubled() bool {
	for _, m := range g.marks {
		if m.failing || m.found != nil {
			return true
		}
	}
	return false
}

// advance brings the markers up to date of queues that have had traffic.
func (g *lossGuard) advance() {
	for q, seq := range g.j.lasts() {
		id := markID{g.j.store.OwnName(), q}
		if g.marks[id] == nil {
			g.marks[id] = newMark(id.owner, q, g.markKeep())
			if at, set := g.p.sender.first.when(q); set {
				g.marks[id].introduced(at)
			}
		}
		g.advanceTo(g.marks[id], seq)
	}
	for id, seq := range g.targets {
		g.advanceTo(g.marks[id], seq)
	}
}

// markKeep is how long a marker stays in Redis.
func (g *lossGuard) markKeep() time.Duration { return 2*g.keep + markSlack }

// advanceTo sets one marker, if there is no outage, and follows a loss that shows.
func (g *lossGuard) advanceTo(m *mark, seq uint64) {
	if g.ctx.Err() != nil || g.p.breakers.stops(m.queue) || m.found == nil && m.covers(seq) {
		return
	}
	if m.found != nil {
		if time.Since(m.tried) >= recoverAgain {
			g.complain(g.recover(m))
		}
		return
	}
	ctx, cancel := context.WithTimeout(g.ctx, markTimeout)
	defer cancel()
	lost, err := m.advance(ctx, g.p.sender, seq, time.Now())
	m.failing = err != nil
	switch {
	case lost:
		g.complain(errors.Join(err, g.recover(m)))
	case err != nil:
		g.complain(err)
	case m.owner == g.j.store.OwnName():
		g.j.marked(m.queue, seq)
	}
}

// recover finds out what is missing since the marker that Redis went back to was set, and
// sends it again. An error leaves the loss as it is; it is gone on with later.
func (g *lossGuard) recover(m *mark) error {
	m.tried = time.Now()
	ctx, cancel := context.WithTimeout(g.ctx, markTimeout)
	defer cancel()
	if err := m.acknowledge(ctx, g.p.sender); err != nil {
		return err
	}
	if m.until == 0 {
		if err := g.p.flights.wait(ctx); err != nil {
			return fmt.Errorf("queue: jobs on their way have not arrived: %w", err)
		}
		m.until = g.latest(m)
	}
	g.p.sender.forget() // the queues' registrations may be lost, too
	g.j.flush()
	err := g.eachPage(func(blobs []spool.Entry) error { return g.recoverPage(m, blobs) })
	if err != nil {
		return err
	}
	g.lastLoss.Store(time.Now().UnixNano())
	g.losses.Add(1)
	g.p.cfg.Logger.Warn("queue: Redis has lost jobs that it had acknowledged", "queue", m.queue, "target", g.p.cfg.Target,
		"missing", m.missing, "sent_again", m.resent)
	m.accept()
	return nil
}

// latest returns the last entry that a marker is to cover. What is sent after a loss was
// acknowledged is not suspect: were it lost, the marker would show that again. It would be
// taken for lost whenever a worker is quicker than the look-up, and when it was sent again too.
func (g *lossGuard) latest(m *mark) uint64 {
	if m.owner == g.j.store.OwnName() {
		return g.j.lasts()[m.queue]
	}
	return g.targets[markID{m.owner, m.queue}]
}

// recoverPage sends again what is missing of some blobs.
func (g *lossGuard) recoverPage(m *mark, blobs []spool.Entry) error {
	var left []suspect
	for _, b := range blobs {
		if b.Position.Owner() == m.owner {
			left = g.suspects(b, m, left)
		}
	}
	lost, err := g.lookUp(m.queue, left)
	if err != nil || len(lost) == 0 {
		return err
	}
	return g.recoverPart(m, lost)
}

// recoverPart sends lost jobs again. A spool that has no room for all may have for some.
func (g *lossGuard) recoverPart(m *mark, lost []suspect) error {
	n, err := g.resend(lost)
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
		g.dealtWith(s)
		if g.policy == ResendLost && !s.job.ProcessAt.After(m.tried) {
			g.maybeDone.Add(1)
		}
	}
	return nil
}

// dealtWith notes that a lost job was sent again, or only reported.
func (g *lossGuard) dealtWith(s suspect) {
	if g.policy == ResendLost {
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

// suspects appends the jobs of a queue in a blob that were acknowledged since a marker was
// set, up to when the loss was acknowledged. What cannot be read is left out.
func (g *lossGuard) suspects(b spool.Entry, m *mark, left []suspect) []suspect {
	index := -1
	_ = readEntries(b.Data, func(e entry) error {
		if e.record.ID == "" {
			return nil
		}
		if index++; e.queue != m.queue || g.done[b.Position].has(index) || g.lost[b.Position].has(index) || e.seq <= *m.found || e.seq > m.until {
			return nil
		}
		if one, err := readJob(e.record); err == nil {
			left = append(left, suspect{b.Position, index, one})
		}
		return nil
	})
	return left
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

// eachPage reads the whole journal, some blobs at a time. What is still to be read stays.
func (g *lossGuard) eachPage(fn func([]spool.Entry) error) error {
	r := g.j.store.Reader(journalFlow)
	defer g.j.unread.Store(nil)
	for {
		blobs, err := r.Read(sweepBlobs, journalMost)
		if err != nil || len(blobs) == 0 {
			return err
		}
		g.j.unread.Store(&blobs[0].Position)
		if err := errors.Join(g.ctx.Err(), fn(blobs)); err != nil {
			return err
		}
	}
}

// addStats adds what was found out. A nil lossGuard has nothing.
func (g *lossGuard) addStats(st *Stats) {
	if g == nil {
		return
	}
	st.Losses, st.Lost, st.Resent, st.ResentMaybeDone = g.losses.Load(), g.missing.Load(), g.resent.Load(), g.maybeDone.Load()
	st.JournalSkipped = g.j.skipped.Load()
	st.Guard, st.JournalJobs, st.JournalBytes = g.keep, max(g.j.jobs.Load()-g.finished.Load(), 0), g.j.store.Stats().PendingBytes
	if at := g.lastLoss.Load(); at != 0 {
		st.LastLoss = known(time.Unix(0, at))
	}
}
