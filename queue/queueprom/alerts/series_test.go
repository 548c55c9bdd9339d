package alerts

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// step is the time between two scrapes, and between two evaluations of a rule.
const step = 30 * time.Second

// origin is when the first scrape was.
func origin() time.Time { return time.Unix(0, 0) }

// memory is a storage of a few series. (Prometheus's own for tests needs all of Prometheus.)
type memory []storage.Series

// load reads series as in "name{label="value"} 0 0+1x10", a number for each scrape.
func load(t *testing.T, lines []string) (m memory) {
	t.Helper()
	for _, line := range lines {
		name, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		var list []chunks.Sample
		for i, v := range values {
			if !v.Omitted {
				list = append(list, sample{origin().Add(time.Duration(i) * step).UnixMilli(), v.Value})
			}
		}
		b := labels.NewBuilder(name)
		b.Set("instance", "app:1")
		b.Set("target", "redis://r:6379/0")
		m = append(m, storage.NewListSeries(b.Labels(), list))
	}
	return m
}

// eval evaluates an expression at a time.
func (m memory) eval(t *testing.T, expr string, at time.Time) promql.Vector {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: parser.NewParser(parser.Options{}),
	})
	defer func() { _ = engine.Close() }()
	q, err := engine.NewInstantQuery(t.Context(), m, nil, expr, at)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	defer q.Close()
	v, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return v
}

// Querier implements [storage.Queryable].
func (m memory) Querier(int64, int64) (storage.Querier, error) { return querier{m: m}, nil }

type querier struct {
	storage.LabelQuerier // nobody asks for names

	m memory
}

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	set := &seriesSet{}
	for _, s := range q.m {
		if matches(s.Labels(), ms) {
			set.left = append(set.left, s)
		}
	}
	return set
}

func (querier) Close() error { return nil }

func matches(name labels.Labels, ms []*labels.Matcher) bool {
	for _, m := range ms {
		if !m.Matches(name.Get(m.Name)) {
			return false
		}
	}
	return true
}

type seriesSet struct {
	at   storage.Series
	left []storage.Series
}

func (s *seriesSet) Next() bool {
	if len(s.left) == 0 {
		return false
	}
	s.at, s.left = s.left[0], s.left[1:]
	return true
}

func (s *seriesSet) At() storage.Series                { return s.at }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

type sample struct {
	t int64
	f float64
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.f }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }
