package queueprom_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/queueprom"
)

// everything returns a collector all of whose metrics have samples.
func everything() prometheus.Collector {
	return queueprom.NewFixed(queueprom.Fixed{
		St: queue.Stats{State: queue.StateUp, Target: "t", DeadBy: map[string]int64{"expired": 1}},
		Ki: []queue.Kind{{Queue: "q", Pending: 1}},
	})
}

// TestDoc compares the table in the package's documentation with what there is.
func TestDoc(t *testing.T) {
	t.Parallel()
	documented := table(t)
	var exported []string
	families, err := register(t, everything()).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		row := strings.TrimPrefix(f.GetName(), "jobspool_")
		for _, l := range f.GetMetric()[0].GetLabel() {
			if l.GetName() != "target" {
				row += "{" + l.GetName() + "}"
			}
		}
		exported = append(exported, row+" "+strings.TrimSuffix(f.GetHelp(), "."))
	}
	for _, row := range documented {
		if !slices.Contains(exported, row) {
			t.Errorf("documented and not there: %s", row)
		}
	}
	for _, row := range exported {
		if !slices.Contains(documented, row) {
			t.Errorf("there and not documented: %s", row)
		}
	}
}

// table returns the rows of the table in the package's documentation: a metric without its
// prefix, and what it is.
func table(tb testing.TB) (rows []string) {
	tb.Helper()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(doc)) {
		if row, ok := strings.CutPrefix(line, "//\tjobspool_"); ok {
			rows = append(rows, strings.Join(strings.Fields(row), " "))
		}
	}
	return rows
}

// labelled are the values of the labels, as documented.
var labelled = map[string][]string{
	"outcome":  {"replayed", "already_there", "superseded", "dead"},
	"reason":   {"undecodable", "expired", "deadline", "invalid", "refused", "failing", "id_taken", "unknown_reply"},
	"equation": {"accepted", "spooled"},
	"state":    {"up", "partial", "outage"},
	"scope":    {"all", "queue"},
}

// documented returns the names of all samples that are to be there from the start.
func documented(tb testing.TB) (names []string) {
	tb.Helper()
	for _, row := range table(tb) {
		metric, _, _ := strings.Cut(row, " ")
		name, label, _ := strings.Cut(strings.TrimSuffix(metric, "}"), "{")
		switch {
		case label == "queue":
		case label == "":
			names = append(names, name)
		case labelled[label] == nil:
			tb.Errorf("which values has %s?", metric)
		}
		for _, value := range labelled[label] {
			names = append(names, name+"{"+value+"}")
		}
	}
	return append(names, "jobs_settled_total{removed}", "jobs_settled_total{unreadable}")
}

// fromStart fails unless exactly what is documented is there, with zero.
func (s samples) fromStart(tb testing.TB) {
	tb.Helper()
	names := documented(tb)
	for _, name := range names {
		want := 0.0
		switch name {
		case "state{up}":
			want = 1
		case "spool_used_bytes", "spool_left_bytes": // of the disk
			want = s["jobspool_"+name]
		}
		s.want(tb, "before anything", samples{name: want})
	}
	for name := range s {
		if !slices.Contains(names, strings.TrimPrefix(name, "jobspool_")) {
			tb.Errorf("before anything: there is %s", name)
		}
	}
}

// TestLint checks the names and texts by Prometheus's conventions.
func TestLint(t *testing.T) {
	t.Parallel()
	problems, err := testutil.CollectAndLint(everything())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
