package queue

import (
	"cmp"
	"context"
	"maps"
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
	tried    time.Time // when it was last tried to recover
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
	g.advance()
	g.sweep()
	for {
		select {
		case <-tick.C:
			g.advance()
			g.sweep()
		case a := <-g.asides:
			a.done <- a.fn()
		case <-g.j.fresh: // without a marker nobody could tell whether it was lost
			g.advanceSome(func(m *mark, _ uint64) bool { return m.set.IsZero() })
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

// advance brings the markers up to date of queues that have had traffic, and follows losses.
func (g *lossGuard) advance() {
	g.advanceSome(func(m *mark, last uint64) bool { return !m.covers(last) })
	if g.losing(nil) && time.Since(g.tried) >= recoverAgain {
		g.complain(g.recover())
	}
}

// advanceSome advances the markers that are picked, and begins to recover if they show a loss.
func (g *lossGuard) advanceSome(pick func(m *mark, last uint64) bool) {
	if g.look(pick) {
		g.follow()
	}
}

// markKeep is how long a marker stays in Redis.
func (g *lossGuard) markKeep() time.Duration { return 2*g.keep + markSlack }

// look sets those markers that are picked, to the last entries that they are to cover. It
// reports whether one of them shows a loss.
func (g *lossGuard) look(pick func(m *mark, last uint64) bool) (lost bool) {
	for id, last := range g.lasts() {
		m := g.marks[id]
		if m == nil {
			m = newMark(id.owner, id.queue, g.markKeep())
			if at, set := g.p.sender.first.when(id.queue); set {
				m.introduced(at)
			}
			g.marks[id] = m
		}
		if m.found == nil && pick(m, last) && g.advanceTo(m, last) {
			lost = true
		}
	}
	return lost
}

// lasts returns the last entry of each queue, of the own journal and of adopted ones.
func (g *lossGuard) lasts() map[markID]uint64 {
	lasts := maps.Clone(g.targets)
	for q, seq := range g.j.lasts() {
		lasts[markID{g.j.store.OwnName(), q}] = seq
	}
	return lasts
}

// advanceTo sets one marker, if there is no outage. It reports whether a loss shows.
func (g *lossGuard) advanceTo(m *mark, last uint64) (lost bool) {
	if g.ctx.Err() != nil || g.p.breakers.stops(m.queue) {
		return false
	}
	ctx, cancel := context.WithTimeout(g.ctx, markTimeout)
	defer cancel()
	last = max(last, m.value)
	lost, err := m.advance(ctx, g.p.sender, last, time.Now())
	switch m.failing = err != nil; {
	case err != nil:
		g.complain(err)
	case !lost && m.owner == g.j.store.OwnName():
		g.j.marked(m)
	}
	return lost
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
