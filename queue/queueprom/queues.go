package queueprom

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jobspool/jobspool/queue"
)

// maxQueues is how many queues have samples of their own.
const maxQueues = 100

// queueMetrics say what is pending by queue. A queue has samples while jobs of it are
// pending. Where there are more than maxQueues, those with the fewest jobs are counted
// together, with those that the spool does not tell apart, under an empty name, which no
// queue can have.
type queueMetrics struct{ jobs, bytes, age *prometheus.Desc }

func newQueueMetrics(labels prometheus.Labels) queueMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+"queue_"+name, help, []string{"queue"}, labels)
	}
	return queueMetrics{
		jobs:  desc("pending_jobs", "Jobs of the queue that wait in the spool."),
		bytes: desc("pending_bytes", "Size of the jobs of the queue that wait in the spool."),
		age:   desc("pending_oldest_age_seconds", "Since when the oldest job of the queue waits in the spool, at most."),
	}
}

func (m queueMetrics) describe(ch chan<- *prometheus.Desc) {
	ch <- m.jobs
	ch <- m.bytes
	ch <- m.age
}

func (m queueMetrics) collect(ch chan<- prometheus.Metric, kinds []queue.Kind, now time.Time) {
	for _, q := range byQueue(kinds) {
		ch <- prometheus.MustNewConstMetric(m.jobs, prometheus.GaugeValue, float64(q.Pending), q.Queue)
		ch <- prometheus.MustNewConstMetric(m.bytes, prometheus.GaugeValue, float64(q.Bytes), q.Queue)
		ch <- prometheus.MustNewConstMetric(m.age, prometheus.GaugeValue, since(q.Oldest, now), q.Queue)
	}
}

// byQueue sums up what is pending by queue.
func byQueue(kinds []queue.Kind) []queue.Kind {
	sums := map[string]queue.Kind{}
	for _, k := range kinds {
		name := valid(k.Queue)
		sums[name] = queue.Kind{Queue: name}.Add(sums[name]).Add(k)
	}
	queues := slices.SortedFunc(maps.Values(sums), more)
	if len(queues) <= maxQueues {
		return queues
	}
	rest := queue.Kind{}
	kept := queues[:0]
	for _, q := range queues {
		if q.Queue == "" || len(kept) == maxQueues {
			rest = rest.Add(q)
		} else {
			kept = append(kept, q)
		}
	}
	return append(kept, rest)
}

// valid returns what Prometheus takes as the value of a label.
func valid(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }

// more sorts those with the most jobs first.
func more(a, b queue.Kind) int {
	if a.Pending != b.Pending {
		return b.Pending - a.Pending
	}
	if a.Queue < b.Queue {
		return -1
	}
	return 1
}
