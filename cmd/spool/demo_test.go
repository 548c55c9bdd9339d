package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// demo executes the command and returns what it wrote to stdout.
func demo(t *testing.T, ctx context.Context, args ...string) (stdout string, err error) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	cmd := newDemoCommand() //nolint:contextcheck // it gets ctx below
	var out, progress bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&progress)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(ctx)
	if t.Failed() || err != nil {
		t.Logf("%s", progress.String())
	}
	if left, rerr := os.ReadDir(os.TempDir()); rerr != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, rerr)
	}
	return out.String(), err
}

// noLeak fails the test if it leaves a goroutine.
func noLeak(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		// go-redis's prober of an address that is down looks once a second whether
		// its pool was closed.
		goleak.VerifyNone(t, before, goleak.IgnoreTopFunction("time.Sleep"))
	})
}

func TestDemoBalances(t *testing.T) {
	for name, args := range map[string][]string{"embedded": nil, "redis-server": {"--redis-server"}} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			out, err := demo(t, t.Context(), append(args, "--jobs", "300", "--rate", "150", "--outage", "500ms")...)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(out, "\naccepted=300 processed=300 lost=0 duplicated=0\n") {
				t.Errorf("%s", out)
			}
			for _, phase := range []string{"before", "outage"} { // "after" may begin with the last job
				if _, row, found := strings.Cut(out, phase+" "); !found || strings.Fields(row)[0] == "0" {
					t.Errorf("no jobs in phase %s:\n%s", phase, out)
				}
			}
		})
	}
}

func TestDemoStopsWithItsContext(t *testing.T) {
	for name, args := range map[string][]string{
		"before": {"--outage", "30s"},
		"outage": {"--jobs", "1000", "--rate", "30", "--outage", "30s"},
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			out, err := demo(t, ctx, args...)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			if out != "" {
				t.Errorf("results of a run that was stopped: %s", out)
			}
		})
	}
}

func TestDemoRefusesFlags(t *testing.T) {
	tests := []struct {
		args string
		want []string
	}{
		{"--jobs 0", []string{"--jobs"}},
		{"--jobs 10000001", []string{"--jobs"}},
		{"--rate 0", []string{"--rate"}},
		{"--rate=-5 --outage 0s", []string{"--rate", "--outage"}},
		{"--outage=-1s", []string{"--outage"}},
		{"--outage 3", []string{"--outage"}},
		{"--outage 61m", []string{"--outage"}},
		{"--jobs 300 --rate 150 --outage 2s", []string{"--jobs 300", "--rate 150", "--outage 2s"}},
		{"--rate 1000000 --outage 1h", []string{"--rate", "--jobs"}},
		{"extra", []string{"extra"}},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			_, err := demo(t, t.Context(), strings.Fields(test.args)...)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: does not name %s", err, want)
				}
			}
		})
	}
}

func TestDemoPlan(t *testing.T) {
	base := demoOptions{jobs: demoJobs, rate: demoRate, outage: demoOutage}
	tests := map[string]struct {
		change func(*demoOptions)
		want   demoPlan
	}{
		"default":     {func(*demoOptions) {}, demoPlan{jobs: 5000, length: 10 * time.Second, outageAt: 10 * time.Second / 3, outage: demoOutage}},
		"jobs alone":  {func(o *demoOptions) { o.jobs, o.jobsSet = 20, true }, demoPlan{jobs: 20, length: 10 * time.Second, outageAt: 10 * time.Second / 3, outage: demoOutage}},
		"rate alone":  {func(o *demoOptions) { o.rate, o.rateSet = 20, true }, demoPlan{jobs: 200, length: 10 * time.Second, outageAt: 10 * time.Second / 3, outage: demoOutage}},
		"long outage": {func(o *demoOptions) { o.outage = 14 * time.Second }, demoPlan{jobs: 10500, length: 21 * time.Second, outageAt: 5800 * time.Millisecond, outage: 14 * time.Second}},
		"tight": {
			func(o *demoOptions) { o.jobs, o.jobsSet, o.rate, o.rateSet = 450, true, 100, true },
			demoPlan{jobs: 450, length: 4500 * time.Millisecond, outageAt: demoMinBefore, outage: demoOutage},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := base
			test.change(&o)
			got, err := o.plan()
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v; want %+v", got, err, test.want)
			}
			if got.due(0) != 0 || got.due(got.jobs) != got.length {
				t.Errorf("jobs from %v to %v", got.due(0), got.due(got.jobs))
			}
		})
	}
}

func TestDemoBooks(t *testing.T) {
	tests := map[string]struct {
		accepted, run string // task ids of one letter
		want          string
		unknown       int
	}{
		"balanced":       {"abc", "cab", "accepted=3 processed=3 lost=0 duplicated=0", 0},
		"empty":          {"", "", "accepted=0 processed=0 lost=0 duplicated=0", 0},
		"lost":           {"abc", "ac", "accepted=3 processed=2 lost=1 duplicated=0", 0},
		"duplicated":     {"abc", "abcb", "accepted=3 processed=4 lost=0 duplicated=1", 0},
		"one of each":    {"abc", "abb", "accepted=3 processed=3 lost=1 duplicated=1", 0},
		"unknown":        {"abc", "abcx", "accepted=3 processed=4 lost=0 duplicated=0", 1},
		"one id for two": {"aa", "a", "accepted=2 processed=1 lost=1 duplicated=0", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := newDemoBooks()
			for _, id := range test.run {
				b.run(string(id))
			}
			for _, id := range test.accepted {
				b.accept(string(id))
			}
			got := b.balance()
			if got.String() != test.want || got.unknown != test.unknown {
				t.Errorf("%v, %d unknown; want %s, %d unknown", got, got.unknown, test.want, test.unknown)
			}
			balanced := name == "balanced" || name == "empty"
			if (got.err() == nil) != balanced {
				t.Errorf("error: %v", got.err())
			}
		})
	}
}

func TestDemoReportsBooksThatDoNotBalance(t *testing.T) {
	r := demoRun{books: newDemoBooks()}
	r.books.accept("a")
	r.books.accept("b")
	r.books.run("a")
	r.books.run("a")
	var out bytes.Buffer
	err := r.report(&out)
	if err == nil || !strings.Contains(err.Error(), "1 jobs lost, 1 runs too many") {
		t.Errorf("error: %v", err)
	}
	if !strings.HasSuffix(out.String(), "\naccepted=2 processed=2 lost=1 duplicated=1\n") {
		t.Errorf("%s", out.String())
	}
}

func TestDemoPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1)*time.Millisecond)
	}
	tests := []struct {
		sorted []time.Duration
		q      float64
		want   string
	}{
		{nil, 0.5, "-"},
		{hundred[:1], 0.5, "1ms"},
		{hundred[:1], 0.99, "1ms"},
		{hundred[:2], 0.5, "1ms"},
		{hundred[:3], 0.5, "2ms"},
		{hundred, 0.5, "50ms"},
		{hundred, 0.99, "99ms"},
		{hundred, 1, "100ms"},
		{[]time.Duration{123456}, 1, "123µs"},
		{[]time.Duration{1234567}, 1, "1.23ms"},
		{[]time.Duration{999999}, 1, "1ms"},
		{[]time.Duration{0}, 1, "0s"},
	}
	for _, test := range tests {
		if got := demoPercentile(test.sorted, test.q); got != test.want {
			t.Errorf("%v of %d values: %s, want %s", test.q, len(test.sorted), got, test.want)
		}
	}
}
