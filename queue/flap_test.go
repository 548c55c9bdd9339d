package queue_test

import (
	"bytes"
	"context"
	"flag"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

var flapFor = flag.Duration("flap.for", 8*time.Second, "how long Redis comes and goes in TestFlapping")

// TestFlapping has callers while Redis comes and goes every second.
func TestFlapping(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(*redistest.Server, *redistest.Proxy) (down, up func() error){
		"refused": func(_ *redistest.Server, p *redistest.Proxy) (down, up func() error) {
			return func() error { p.Refuse(); p.Cut(); return nil }, func() error { p.Accept(); return nil }
		},
		"frozen": func(r *redistest.Server, _ *redistest.Proxy) (down, up func() error) { return r.Freeze, r.Thaw },
		"killed": func(r *redistest.Server, p *redistest.Proxy) (down, up func() error) {
			return func() error { p.Refuse(); return r.Kill() }, func() error { defer p.Accept(); return r.Restart() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pprof.Do(t.Context(), pprof.Labels("flapping", name), func(context.Context) { flap(t, name, how) }) //nolint:contextcheck // the labels are all it is for
		})
	}
}

func flap(t *testing.T, name string, how func(*redistest.Server, *redistest.Proxy) (down, up func() error)) {
	t.Helper()
	const callers = 4
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	proxy := redistest.NewProxy(t, r.Addr())
	down, up := how(r, proxy)
	log, lines := logger()
	var replayed atomic.Int64
	p := newProducer(t, queue.Config{
		Redis: server(proxy.Addr()), SpoolDir: t.TempDir(), EnqueueTimeout: 200 * time.Millisecond, Logger: log,
		OnReplayed: func(queue.JobEvent) { replayed.Add(1) },
	})
	all := newTally()
	all.enqueue(t, p, "default", nil)
	dials, turns := p.Dials(), 0
	stop := all.load(t, p, "default", callers)
	for end := time.Now().Add(*flapFor); time.Now().Before(end); turns++ {
		time.Sleep(time.Second)
		must(t, down())
		time.Sleep(time.Second)
		if n := goroutines(t, name); n > 60 {
			t.Errorf("%d goroutines", n)
		}
		must(t, up())
	}
	stop()
	if n := dials(); n > int64(2*turns*10*callers) {
		t.Errorf("%d connections were asked for in %d s", n, 2*turns)
	}
	drain(t, p)
	// What was on its way at each fault is sent again: a batch at most, and what callers had sent.
	if n, jobs := scriptsSent(proxy), len(all.ids["default"]); n < jobs || n > jobs+turns*550 {
		t.Errorf("%d jobs were sent %d times in %d faults", jobs, n, turns)
	}
	t.Logf("%d times, %d dials, sent %d times: %+v", turns, dials(), scriptsSent(proxy), p.Stats())
	all.wantOnce(t, client(t, r.Addr()))
	st := p.Stats()
	if st.State != queue.StateUp || st.Pending+int(st.Dead+st.Superseded) > 0 || st.Accepted != int64(len(all.ids["default"])) {
		t.Errorf("%+v", st)
	}
	if st.Outages < int64(turns) || st.Replayed == 0 || st.Sent == 0 || replayed.Load() != st.Replayed+st.AlreadyThere {
		t.Errorf("the test shows nothing: %+v", st)
	}
	text, n := strings.Join(lines.all(), ""), len(lines.all())
	if want := int(st.Outages); want > 3*turns || strings.Count(text, "outage begins") != want || strings.Count(text, "outage ends") != want || n > 2*want+turns {
		t.Errorf("%d lines in the log for %d outages in %d turns: %s", n, st.Outages, turns, text)
	}
}

// goroutines counts those that a test with a label has started.
func goroutines(t *testing.T, label string) (n int) {
	t.Helper()
	var profile bytes.Buffer
	must(t, pprof.Lookup("goroutine").WriteTo(&profile, 1))
	for _, m := range regexp.MustCompile(`(?m)^(\d+) @.*\n# labels: .*"flapping":"(\w+)"`).FindAllStringSubmatch(profile.String(), -1) {
		if m[2] == label {
			k, err := strconv.Atoi(m[1])
			must(t, err)
			n += k
		}
	}
	if n == 0 {
		t.Errorf("no goroutine is labelled %s", label)
	}
	return n
}
