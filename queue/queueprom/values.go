package queueprom

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jobspool/jobspool/queue"
)

const prefix = "jobspool_"

// value is a metric with one sample, or with one for each value of a label.
type value struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(st queue.Stats, now time.Time) []sample
}

// sample is one number; label is empty where the metric has none.
type sample struct {
	label string
	n     float64
}

func (v value) collect(ch chan<- prometheus.Metric, st queue.Stats, now time.Time) {
	for _, s := range v.read(st, now) {
		var labels []string
		if s.label != "" {
			labels = []string{s.label}
		}
		ch <- prometheus.MustNewConstMetric(v.desc, v.kind, s.n, labels...)
	}
}

// builder makes the list of values.
type builder struct {
	labels prometheus.Labels
	values []value
}

func (b *builder) add(kind prometheus.ValueType, name, help, label string, read func(queue.Stats, time.Time) []sample) {
	var labels []string
	if label != "" {
		labels = []string{label}
	}
	b.values = append(b.values, value{prometheus.NewDesc(prefix+name, help, labels, b.labels), kind, read})
}

func (b *builder) counter(name, help string, of func(queue.Stats) int64) {
	b.add(prometheus.CounterValue, name, help, "", func(st queue.Stats, _ time.Time) []sample {
		return []sample{{n: float64(of(st))}}
	})
}

func (b *builder) counters(name, help, label string, of func(queue.Stats) []sample) {
	b.add(prometheus.CounterValue, name, help, label, func(st queue.Stats, _ time.Time) []sample { return of(st) })
}

func (b *builder) gauge(name, help string, of func(queue.Stats) float64) {
	b.add(prometheus.GaugeValue, name, help, "", func(st queue.Stats, _ time.Time) []sample {
		return []sample{{n: of(st)}}
	})
}

func (b *builder) gauges(name, help, label string, of func(queue.Stats) []sample) {
	b.add(prometheus.GaugeValue, name, help, label, func(st queue.Stats, _ time.Time) []sample { return of(st) })
}

// values returns all metrics that have the same samples at every scrape.
func values(labels prometheus.Labels) []value {
	b := &builder{labels: labels}
	b.books()
	b.outages()
	b.pending()
	b.replay()
	b.disk()
	b.guard()
	return b.values
}

// books are the terms of both equations, and what is known of some of them.
func (b *builder) books() {
	b.counter("jobs_accepted_total", "Jobs for which Enqueue returned nil.", func(st queue.Stats) int64 { return st.Accepted })
	b.counter("jobs_sent_total", "Jobs that Redis acknowledged at once.", func(st queue.Stats) int64 { return st.Sent })
	b.counter("jobs_spooled_total", "Jobs written to the spool.", func(st queue.Stats) int64 { return st.Spooled })
	b.counter("jobs_adopted_total", "Pending jobs that dead processes left and this one took over.", func(st queue.Stats) int64 { return st.Adopted })
	b.counter("jobs_retried_total", "Dead letters made pending again.", func(st queue.Stats) int64 { return st.Retried })
	b.counter("jobs_resent_total", "Jobs that Redis had lost, written to the spool.", func(st queue.Stats) int64 { return st.Resent })
	b.counters("jobs_settled_total", "Jobs that left the spool, by what became of them.", "outcome", func(st queue.Stats) []sample {
		return []sample{
			{"replayed", float64(st.Replayed)},
			{"already_there", float64(st.AlreadyThere)},
			{"superseded", float64(st.Superseded)},
			{"dead", float64(st.Dead)},
			{"removed", float64(st.Removed)},
			{"unreadable", float64(st.Unreadable)},
		}
	})
	b.counters("jobs_dead_total", "Jobs that became dead letters, by the kind of reason.", "reason", func(st queue.Stats) (samples []sample) {
		for _, reason := range slices.Sorted(maps.Keys(st.DeadBy)) {
			samples = append(samples, sample{reason, float64(st.DeadBy[reason])})
		}
		return samples
	})
	b.counter("jobs_in_doubt_total", "Spooled jobs that Redis may have had already.", func(st queue.Stats) int64 { return st.InDoubt })
	b.counters("jobs_in_doubt_settled_total", "Jobs in doubt, resent and adopted ones included, by what became of them.", "outcome", func(st queue.Stats) []sample {
		return []sample{
			{"replayed", float64(st.InDoubtSettled.Replayed)},
			{"already_there", float64(st.InDoubtSettled.AlreadyThere)},
			{"superseded", float64(st.InDoubtSettled.Superseded)},
			{"dead", float64(st.InDoubtSettled.Dead)},
		}
	})
	b.counter("jobs_maybe_stored_total", "Jobs refused with ErrMaybeStored, which may be in the spool all the same.", func(st queue.Stats) int64 { return st.MaybeStored })
	b.gauges("imbalance_jobs", "By how much the books do not balance; zero but for jobs being counted.", "equation", func(st queue.Stats) []sample {
		accepted, spooled := st.Imbalance()
		return []sample{{"accepted", float64(accepted)}, {"spooled", float64(spooled)}}
	})
}

func (b *builder) outages() {
	b.gauges("state", "1 for the state that the Producer is in, 0 for the others.", "state", func(st queue.Stats) (samples []sample) {
		for _, state := range []string{queue.StateUp, queue.StatePartial, queue.StateOutage} {
			samples = append(samples, sample{state, flag(st.State == state)})
		}
		return samples
	})
	b.counters("outages_total", "Outages that have begun: of all jobs, or of one queue's.", "scope", func(st queue.Stats) []sample {
		return []sample{{"all", float64(st.Outages - st.QueueOutages)}, {"queue", float64(st.QueueOutages)}}
	})
	b.counters("outage_seconds_total", "How long outages have lasted, up to now; those of several queues add up.", "scope", func(st queue.Stats) []sample {
		return []sample{{"all", st.OutageTime.Seconds()}, {"queue", st.QueueOutageTime.Seconds()}}
	})
}

func (b *builder) pending() {
	b.gauge("pending_jobs", "Jobs that wait in the spool.", func(st queue.Stats) float64 { return float64(st.Pending) })
	b.gauge("pending_bytes", "Size of the jobs that wait in the spool.", func(st queue.Stats) float64 { return float64(st.PendingBytes) })
	b.add(prometheus.GaugeValue, "pending_oldest_age_seconds", "Since when the oldest job waits in the spool; 0 if none does.", "",
		func(st queue.Stats, now time.Time) []sample {
			if st.Oldest == nil {
				return []sample{{n: 0}}
			}
			return []sample{{n: since(*st.Oldest, now)}}
		})
	b.gauge("deferred_jobs", "Pending jobs that Redis did not answer while it took others.", func(st queue.Stats) float64 { return float64(st.Deferred) })
	b.gauge("dead_letters", "Dead letters that lie in the spool.", func(st queue.Stats) float64 { return float64(st.DeadLetters) })
}

func (b *builder) replay() {
	b.gauge("replay_jobs_per_second", "Jobs that the replay settled per second of late.", func(st queue.Stats) float64 { return st.ReplayRate })
	b.gauge("replay_paused", "1 if a person has paused the replay.", func(st queue.Stats) float64 { return flag(st.Paused != nil) })
	b.gauge("replay_waiting", "1 if the replay waits although Redis takes jobs, for example for room in Redis.", func(st queue.Stats) float64 { return flag(st.ReplayWaits != "") })
	b.gauge("time_to_empty_seconds", "Until nothing is pending, at the present rate; 0 if nothing is pending or replayed.", func(st queue.Stats) float64 { return st.EmptyIn.Seconds() })
}

func (b *builder) disk() {
	b.gauge("spool_used_bytes", "Disk blocks of everything in SpoolDir.", func(st queue.Stats) float64 { return float64(st.SpoolUsedBytes) })
	b.gauge("spool_left_bytes", "What the spool may still take; as of the last write or look for dead processes.", func(st queue.Stats) float64 { return float64(st.SpoolLeftBytes) })
	b.gauge("time_to_full_seconds", "Until the spool is full, at the rate of the last minute; 0 if it does not grow.", func(st queue.Stats) float64 { return st.SpoolFullIn.Seconds() })
	b.gauge("spool_stalled", "1 if the disk does not answer.", func(st queue.Stats) float64 { return flag(st.SpoolStalled) })
	b.gauge("bad_segments", "Segment files that cannot be read and are left alone.", func(st queue.Stats) float64 { return float64(len(st.Bad)) })
	b.counter("segments_quarantined_total", "Damaged segment files put into quarantine.", func(st queue.Stats) int64 { return st.Quarantined })
	b.gauge("orphans", "Dead processes whose share this one has adopted, and not emptied yet.", func(st queue.Stats) float64 { return float64(st.Orphans) })
	b.gauge("foreign_owners", "Shares in SpoolDir of other targets, living or dead, which this process does not adopt.", func(st queue.Stats) float64 { return float64(st.Foreign) })
}

func (b *builder) guard() {
	b.gauge("guard_seconds", "For how long the journal keeps what Redis acknowledged; 0: there is none.", func(st queue.Stats) float64 { return st.Guard.Seconds() })
	b.gauge("journal_jobs", "Jobs in the journal that are not known to be finished.", func(st queue.Stats) float64 { return float64(st.JournalJobs) })
	b.gauge("journal_bytes", "Size of the journal, finished jobs included.", func(st queue.Stats) float64 { return float64(st.JournalBytes) })
	b.counter("journal_skipped_total", "Jobs that the journal could not keep.", func(st queue.Stats) int64 { return st.JournalSkipped })
	b.counter("losses_total", "Times that Redis was found to have lost jobs of a queue.", func(st queue.Stats) int64 { return st.Losses })
	b.gauge("last_loss_timestamp_seconds", "When that was last; 0: never.", func(st queue.Stats) float64 {
		if st.LastLoss == nil {
			return 0
		}
		return float64(st.LastLoss.UnixMilli()) / 1000
	})
	b.counter("jobs_lost_total", "Jobs that Redis had lost, as far as the journal knows them.", func(st queue.Stats) int64 { return st.Lost })
	b.counter("jobs_maybe_done_total", "Lost jobs that may have been finished before they were sent again.", func(st queue.Stats) int64 { return st.ResentMaybeDone })
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

// since is an age in seconds, not negative where a clock was set; of no time it is zero.
func since(at, now time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(now.Sub(at).Seconds(), 0)
}
