package queue

import (
	"cmp"
	"slices"
	"time"

	"github.com/jobspool/jobspool/spool"
	"github.com/jobspool/jobspool/spool/latency"
)

// Stats is what a Producer has done since New, and what it holds now.
//
// The books balance: Accepted = Sent + Spooled, and Spooled + Adopted + Retried + Resent =
// Replayed + AlreadyThere + Superseded + Dead + Removed + Unreadable + Pending, see
// [Stats.Imbalance]. A job that Enqueue refused with ErrMaybeStored may be pending without
// being Spooled.
type Stats struct {
	State       string     `json:"state"` // "up", "partial" or "outage"
	OutageSince *time.Time `json:"outage_since,omitempty"`
	OutageCause string     `json:"outage_cause,omitempty"`
	Queues      []Outage   `json:"queues,omitempty"` // those with an outage of their own
	Target      string     `json:"target"`

	Outages      int64 `json:"outages"`       // begun so far
	QueueOutages int64 `json:"queue_outages"` // of Outages: those of one queue

	// OutageTime is how long outages of all queues have lasted, QueueOutageTime the same for
	// each queue's own, added up. An outage that goes on counts up to now. Neither ever falls.
	OutageTime      time.Duration `json:"outage_time_ns"`
	QueueOutageTime time.Duration `json:"queue_outage_time_ns"`

	Accepted int64 `json:"accepted"` // Enqueue returned nil
	Sent     int64 `json:"sent"`     // Redis acknowledged at once
	Spooled  int64 `json:"spooled"`  // written to the spool
	InDoubt  int64 `json:"in_doubt"` // of Spooled: Redis may have taken it already
	Adopted  int64 `json:"adopted"`  // pending records that dead processes left
	Retried  int64 `json:"retried"`  // dead letters made pending again

	// MaybeStored are jobs that were refused with ErrMaybeStored: not Spooled, but perhaps
	// pending.
	MaybeStored int64 `json:"maybe_stored"`

	Guard        time.Duration `json:"guard_ns"`      // for how long the journal keeps jobs; zero: there is none
	JournalJobs  int64         `json:"journal_jobs"`  // that it has, and that are not known to be finished
	JournalBytes int64         `json:"journal_bytes"` // that it has, finished jobs included
	LastLoss     *time.Time    `json:"last_loss,omitempty"`

	Losses          int64 `json:"losses"`            // times that Redis was found to have lost jobs of a queue
	Lost            int64 `json:"lost"`              // jobs that it had lost, as far as the journal knows them
	Resent          int64 `json:"resent"`            // of Lost: written to the spool
	ResentMaybeDone int64 `json:"resent_maybe_done"` // of Lost: they may have been finished since the last sweep
	JournalSkipped  int64 `json:"journal_skipped"`   // jobs that the journal could not keep

	Replayed     int64 `json:"replayed"`      // Redis took it at a replay
	AlreadyThere int64 `json:"already_there"` // Redis had taken it before
	Superseded   int64 `json:"superseded"`    // another task holds its unique lock
	Dead         int64 `json:"dead"`          // set aside as dead letters
	Removed      int64 `json:"removed"`       // taken out by a person
	Unreadable   int64 `json:"unreadable"`    // damaged on disk; what there is of them is in quarantine

	// DeadBy counts Dead by a few kinds of reasons, all of which are always there:
	// undecodable, expired (MaxSpoolAge), deadline, invalid (asynq refuses it), refused (Redis
	// does), failing (its script fails), id_taken, unknown_reply.
	DeadBy map[string]int64 `json:"dead_by,omitempty"`

	// InDoubtSettled is what became at the replay of jobs that Redis might have had before:
	// of those InDoubt, of those Resent, and of Adopted ones.
	InDoubtSettled Settled `json:"in_doubt_settled"`

	Pending      int        `json:"pending"` // waits in the spool
	PendingBytes int64      `json:"pending_bytes"`
	Oldest       *time.Time `json:"oldest,omitempty"` // when the oldest pending one was accepted
	DeadLetters  int        `json:"dead_letters"`     // that lie in the spool, also from before

	// ReplayRate is how many jobs per second the replay has settled in the last nine to ten
	// seconds, or since it began if that is less; short gaps count. Zero after ten seconds
	// without any.
	ReplayRate float64 `json:"replay_rate"`
	// EmptyIn is the time until nothing is pending, at ReplayRate and if nothing more is
	// spooled. Zero if nothing is pending, and if nothing is replayed.
	EmptyIn time.Duration `json:"empty_in_ns"`

	Paused         *spool.Pause  `json:"paused,omitempty"`       // nil: replay of the SpoolDir is not paused
	ReplayWaits    string        `json:"replay_waits,omitempty"` // why replay waits although Redis takes jobs
	Deferred       int           `json:"deferred"`               // of Pending: Redis does not answer them, they are tried again
	SpoolUsedBytes int64         `json:"spool_used_bytes"`       // disk blocks of everything in SpoolDir but the journal
	SpoolLeftBytes int64         `json:"spool_left_bytes"`       // that it may still take
	SpoolFullIn    time.Duration `json:"spool_full_in_ns"`       // until then at the rate of the last minute; zero if it does not grow
	SpoolStalled   bool          `json:"spool_stalled"`          // the disk does not answer

	Foreign     int      `json:"foreign"`       // owners in SpoolDir of targets that are not adopted
	Orphans     int      `json:"orphans"`       // dead owners whose share this Producer has adopted, and not emptied yet
	Bad         []string `json:"bad,omitempty"` // segment files that cannot be read
	Quarantined int64    `json:"quarantined"`   // damaged segment files put into quarantine
}

// Settled counts jobs by what became of them at the replay.
type Settled struct {
	Replayed     int64 `json:"replayed"`
	AlreadyThere int64 `json:"already_there"`
	Superseded   int64 `json:"superseded"`
	Dead         int64 `json:"dead"`
}

// Imbalance returns by how much the two equations of the books do not hold: jobs that were
// accepted and are neither sent nor spooled, and jobs that came into the spool and are neither
// settled nor pending. Negative is the other way round: more came out than went in.
//
// Under load both are off by a few jobs that are being counted, to either side; an imbalance
// that stays is an error of this package. MaybeStored explains as many jobs that are
// pending and were not spooled, and segments that cannot be read (Bad) hold jobs that are not
// pending.
func (st Stats) Imbalance() (accepted, spooled int64) {
	in := st.Spooled + st.Adopted + st.Retried + st.Resent
	out := st.Replayed + st.AlreadyThere + st.Superseded + st.Dead + st.Removed + st.Unreadable + int64(st.Pending)
	if spooled = in - out; spooled < 0 {
		spooled = min(spooled+st.MaybeStored, 0)
	}
	return st.Accepted - st.Sent - st.Spooled, spooled
}

// Latencies are how long things took since New, whatever came of them.
type Latencies struct {
	Attempt latency.Snapshot // attempts at Redis of Enqueue and EnqueueContext
	Append  latency.Snapshot // writes to the spool, as their callers waited for them
	Commit  latency.Snapshot // commits of those to the disk; many writes share one
	Replay  latency.Snapshot // batches of the replay, from sending to the last reply
}

// Latencies returns how long things took. After Close it returns the last.
func (p *Producer) Latencies() Latencies {
	sp := p.spool.Latencies()
	return Latencies{
		Attempt: p.attempts.Snapshot(), Append: sp.Append, Commit: sp.Commit, Replay: p.replayer.batches.Snapshot(),
	}
}

// Kinds returns what is pending by queue and type, those with the most jobs first. Only as
// many are told apart as the spool counts: 256 in each segment file.
func (p *Producer) Kinds() []Kind { return KindsOf(p.spool.Stats().Classes) }

// Outage is an outage of one queue.
type Outage struct {
	Queue string    `json:"queue"`
	Since time.Time `json:"since"`
	Cause string    `json:"cause"`
}

// States of Stats.
const (
	StateUp      = "up"      // jobs go to Redis
	StatePartial = "partial" // jobs of some queues go to the spool
	StateOutage  = "outage"  // jobs go to the spool
)

// Stats returns the counters. They are read one after the other: under load the
// books balance but for the jobs in flight. After Close it returns the last.
func (p *Producer) Stats() Stats {
	sp := p.spool.Stats()
	st := Stats{
		State: StateUp, Outages: p.counters.outages.Load(), QueueOutages: p.counters.queueOutages.Load(), Target: p.cfg.Target,
		Sent: p.counters.sent.Load(), Spooled: p.counters.spooled.Load(), Accepted: p.counters.accepted.Load(),
		InDoubt: p.counters.inDoubt.Load(), MaybeStored: p.counters.maybeStored.Load(), Adopted: sp.Adopted,
		Replayed: sp.Settled[spool.Delivered], AlreadyThere: sp.Settled[spool.AlreadyThere],
		Superseded: sp.Settled[spool.Superseded], Dead: sp.Settled[spool.Dead], Removed: sp.Settled[spool.Removed],
		Retried: sp.Retried, Unreadable: sp.Settled[spool.Unreadable],
		Pending: sp.Pending, PendingBytes: sp.PendingBytes, DeadLetters: sp.DeadLetters,
		SpoolUsedBytes: sp.UsedBytes, SpoolLeftBytes: sp.LeftBytes, SpoolFullIn: sp.FullIn, SpoolStalled: sp.Stalled,
		Foreign: sp.Foreign, Orphans: sp.Orphans, Bad: sp.Bad, Quarantined: sp.Quarantined,
	}
	if !sp.Oldest.IsZero() {
		st.Oldest = &sp.Oldest
	}
	p.losses.addStats(&st)
	st.OutageTime, st.QueueOutageTime = p.breakers.lasted()
	p.addOutages(&st)
	p.replayer.settles.addStats(&st)
	p.replayer.addStats(&st, time.Now())
	return st
}

func (p *Producer) addOutages(st *Stats) {
	for _, b := range p.breakers.all() {
		o, open := b.current()
		switch {
		case !open: // by now
		case b.queue == "":
			st.State, st.OutageSince, st.OutageCause = StateOutage, &o.since, o.cause
		default:
			st.Queues = append(st.Queues, Outage{Queue: b.queue, Since: o.since, Cause: o.cause})
		}
	}
	slices.SortFunc(st.Queues, func(a, b Outage) int { return cmp.Compare(a.Queue, b.Queue) })
	if len(st.Queues) > 0 && st.State == StateUp {
		st.State = StatePartial
	}
}
