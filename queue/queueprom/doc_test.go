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
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var documented, exported []string
	for line := range strings.Lines(string(doc)) {
		if row, ok := strings.CutPrefix(line, "//\tjobspool_"); ok {
			documented = append(documented, strings.Join(strings.Fields(row), " "))
		}
	}
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
