package queueprom

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool/latency"
)

// NewCollector returns a collector of everything that p tells of itself. All its metrics have
// the constant label target, which is [queue.Stats].Target and holds no password; whoever has
// several Producers of one target registers each with a label of its own:
//
//	prometheus.WrapRegistererWith(prometheus.Labels{"spool": "mail"}, registry).MustRegister(c)
//
// A scrape reads counters and touches neither Redis nor the disk. The collector is safe for
// concurrent use, also with p closed: then it shows the last state, so unregister it.
func NewCollector(p *queue.Producer) prometheus.Collector {
	return newCollector(p, p.Stats().Target)
}

// source is what a scrape reads.
type source interface {
	Stats() queue.Stats
	Latencies() queue.Latencies
	Kinds() []queue.Kind
}

type collector struct {
	source     source
	values     []value
	queues     queueMetrics
	histograms []histogram
}

func newCollector(s source, target string) *collector {
	labels := prometheus.Labels{"target": valid(target)}
	return &collector{source: s, values: values(labels), queues: newQueueMetrics(labels), histograms: histograms(labels)}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range c.values {
		ch <- v.desc
	}
	c.queues.describe(ch)
	for _, h := range c.histograms {
		ch <- h.desc
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st, now := c.source.Stats(), time.Now()
	for _, v := range c.values {
		v.collect(ch, st, now)
	}
	c.queues.collect(ch, c.source.Kinds(), now)
	latencies := c.source.Latencies()
	for _, h := range c.histograms {
		ch <- h.metric(latencies)
	}
}

// histogram is one of the latencies.
type histogram struct {
	desc *prometheus.Desc
	of   func(queue.Latencies) latency.Snapshot
}

func (h histogram) metric(l queue.Latencies) prometheus.Metric {
	s := h.of(l)
	buckets := make(map[float64]uint64, len(s.Buckets))
	for _, b := range s.Buckets {
		buckets[b.UpTo.Seconds()] = b.Count
	}
	return prometheus.MustNewConstHistogram(h.desc, s.Count, s.Sum.Seconds(), buckets)
}

func histograms(labels prometheus.Labels) []histogram {
	named := func(name, help string, of func(queue.Latencies) latency.Snapshot) histogram {
		return histogram{prometheus.NewDesc(prefix+name+"_duration_seconds", help, nil, labels), of}
	}
	return []histogram{
		named("attempt", "Attempts at Redis of single calls of Enqueue, whatever came of them.",
			func(l queue.Latencies) latency.Snapshot { return l.Attempt }),
		named("append", "Writes to the spool, as their callers waited for them.",
			func(l queue.Latencies) latency.Snapshot { return l.Append }),
		named("commit", "Commits of what is written to the spool; many writes share one.",
			func(l queue.Latencies) latency.Snapshot { return l.Commit }),
		named("replay_batch", "Batches of the replay, from sending to the last reply.",
			func(l queue.Latencies) latency.Snapshot { return l.Replay }),
	}
}
