package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// metric names one number of one benchmark, without "Benchmark" and GOMAXPROCS:
// {"Append/store=spool/callers=1", "appends/s"}.
type metric struct {
	bench, unit string
}

// results are what the benchmarks printed.
type results struct {
	facts  []fact             // where and with what they ran; the first value of each
	order  []metric           // as they were printed first
	rounds map[metric]samples // one sample per round, in order
}

type fact struct {
	key, value string
}

// samples are what a metric was in each round.
type samples []float64

func (s samples) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// over returns the ratio to other, round by round; nil if the rounds do not match.
func (s samples) over(other samples) samples {
	if len(s) != len(other) {
		return nil
	}
	ratios := make(samples, len(s))
	for i := range s {
		ratios[i] = s[i] / other[i]
	}
	return ratios
}

// readResults reads the output of any number of runs.
func readResults(in io.Reader) (results, error) {
	res := results{rounds: map[metric]samples{}}
	reader := benchfmt.NewReader(in, "results")
	for reader.Scan() {
		switch rec := reader.Result().(type) {
		case *benchfmt.Result:
			res.add(rec)
		case *benchfmt.SyntaxError:
			return results{}, rec
		}
	}
	if err := reader.Err(); err != nil {
		return results{}, err
	}
	if len(res.rounds) == 0 {
		return results{}, errors.New("no benchmark results")
	}
	return res, nil
}

func (r *results) add(rec *benchfmt.Result) {
	for _, c := range rec.Config {
		if !slices.ContainsFunc(r.facts, func(f fact) bool { return f.key == c.Key }) {
			r.facts = append(r.facts, fact{c.Key, string(c.Value)})
		}
	}
	name := benchName(rec.Name)
	for _, v := range rec.Values {
		m := metric{name, v.Unit}
		if _, ok := r.rounds[m]; !ok {
			r.order = append(r.order, m)
		}
		r.rounds[m] = append(r.rounds[m], v.Value)
	}
}

// fact is the value of a fact, or "unknown".
func (r results) fact(key string) string {
	for _, f := range r.facts {
		if f.key == key {
			return f.value
		}
	}
	return "unknown"
}

// rated reports whether a benchmark has a metric per second.
func (r results) rated(bench string) bool {
	return slices.ContainsFunc(r.order, func(m metric) bool {
		return m.bench == bench && strings.HasSuffix(m.unit, "/s")
	})
}

// benchName is the name without the number of processors.
func benchName(name benchfmt.Name) string {
	base, parts := name.Parts()
	var b strings.Builder
	b.Write(base)
	for _, p := range parts {
		if p[0] == '/' {
			b.Write(p)
		}
	}
	return b.String()
}

// appends is how many a store did per second.
func appends(store string, callers int) metric {
	return metric{fmt.Sprintf("Append/store=%s/callers=%d", store, callers), "appends/s"}
}
