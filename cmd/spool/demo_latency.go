package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// demoPhase is a part of the run.
type demoPhase int32

const (
	demoPhaseBefore demoPhase = iota
	demoPhaseOutage           // from the loss of Redis until the Producer sees it again
	demoPhaseAfter
	demoPhases
)

func (p demoPhase) String() string { return [...]string{"before", "outage", "after"}[p] }

// demoLatencies collects how long each Enqueue took. Safe for concurrent use.
type demoLatencies struct {
	mu   sync.Mutex // guards took
	took [demoPhases][]time.Duration
}

func (l *demoLatencies) add(p demoPhase, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took[p] = append(l.took[p], d)
}

// print writes a table with a line for each phase. Nothing may be added any more.
func (l *demoLatencies) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "phase \tjobs\tEnqueue p50\tp99\tmax\t")
	for p := range demoPhases {
		took := slices.Sorted(slices.Values(l.took[p]))
		fmt.Fprintf(table, "%-6s\t%s\t%s\t%s\t%s\t\n", p, humanize.Comma(int64(len(took))),
			demoPercentile(took, 0.5), demoPercentile(took, 0.99), demoPercentile(took, 1))
	}
	return table.Flush()
}

// demoPercentile returns the least of the sorted durations that a share q of them
// does not exceed, to three digits; "-" if there are none.
func demoPercentile(sorted []time.Duration, q float64) string {
	if len(sorted) == 0 {
		return "-"
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return demoRound(sorted[max(rank, 1)-1]).String()
}

// demoRound rounds to three digits.
func demoRound(d time.Duration) time.Duration {
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
