package queueprom

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/jobspool/jobspool/queue"
)

// Fixed is a source that always says the same.
type Fixed struct {
	St queue.Stats
	La queue.Latencies
	Ki []queue.Kind
}

func (f Fixed) Stats() queue.Stats         { return f.St }
func (f Fixed) Latencies() queue.Latencies { return f.La }
func (f Fixed) Kinds() []queue.Kind        { return f.Ki }

// NewFixed returns a collector of what is fixed.
func NewFixed(f Fixed) prometheus.Collector { return newCollector(f, f.St.Target) }

// MaxQueues is how many queues have samples of their own.
const MaxQueues = maxQueues
