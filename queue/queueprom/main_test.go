package queueprom_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/queueprom"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // go-redis's own words about each failed dial
	goleak.VerifyTestMain(m,
		// go-redis's prober of an address that is down looks once a second whether
		// its pool was closed.
		goleak.IgnoreTopFunction("time.Sleep"))
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// newProducer returns a Producer and a registry with its collector.
func newProducer(tb testing.TB, cfg queue.Config) (*queue.Producer, *prometheus.Registry) {
	tb.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	if cfg.SpoolDir == "" {
		cfg.SpoolDir = tb.TempDir()
	}
	p, err := queue.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return p, register(tb, queueprom.NewCollector(p))
}

// register returns a registry that holds a collector to what it describes.
func register(tb testing.TB, c prometheus.Collector) *prometheus.Registry {
	tb.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(c); err != nil {
		tb.Fatal(err)
	}
	return r
}

// samples are numbers by "name" or "name{value of the label}"; of a histogram the count.
type samples map[string]float64

// scrape reads all there is, without the label target.
func scrape(tb testing.TB, g prometheus.Gatherer) samples {
	tb.Helper()
	families, err := g.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	got := samples{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() != "target" {
					name += "{" + l.GetValue() + "}"
				}
			}
			got[name] = number(m)
		}
	}
	return got
}

func number(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.GetCounter().GetValue()
	case m.Histogram != nil:
		return float64(m.GetHistogram().GetSampleCount())
	}
	return m.GetGauge().GetValue()
}

// want compares some samples, named without the prefix.
func (s samples) want(tb testing.TB, when string, want samples) {
	tb.Helper()
	for name, n := range want {
		if got, ok := s["jobspool_"+name]; !ok || got != n {
			tb.Errorf("%s: %s is %v (there: %v), want %v", when, name, got, ok, n)
		}
	}
}

// positive checks that some samples are above zero.
func (s samples) positive(tb testing.TB, when string, names ...string) {
	tb.Helper()
	for _, name := range names {
		if s["jobspool_"+name] <= 0 {
			tb.Errorf("%s: %s is %v", when, name, s["jobspool_"+name])
		}
	}
}

// eventually waits until the condition holds.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			tb.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func enqueue(tb testing.TB, p *queue.Producer, n int, opts ...asynq.Option) {
	tb.Helper()
	for i := range n {
		if _, err := p.Enqueue(asynq.NewTask("test", fmt.Appendf(nil, "payload %d", i)), opts...); err != nil {
			tb.Fatalf("enqueue %d: %v", i, err)
		}
	}
}
