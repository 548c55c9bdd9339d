package alerts

import (
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/queueprom"
)

// rules reads alerts.yml as Prometheus does, templates included.
func rules(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile("alerts.yml", false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	byName := map[string]rulefmt.Rule{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			byName[r.Alert] = r
		}
	}
	return byName
}

// sampled is what an alert makes of series that begin with the first scrape.
type sampled struct {
	alert  string
	name   string
	series []string
	after  time.Duration // of the last evaluation
	fires  bool
}

const (
	up     = `jobspool_state{state="up"} 1x60`
	down   = `jobspool_state{state="up"} 0x60`
	moving = `jobspool_replay_jobs_per_second 5x60`
	still  = `jobspool_replay_jobs_per_second 0x60`
	going  = `jobspool_replay_paused 0x60`
	paused = `jobspool_replay_paused 1x80`
	noBad  = `jobspool_bad_segments 0x60`
)

func cases() []sampled {
	const m = time.Minute
	return []sampled{
		{"SpoolFullSoon", "soon", []string{`jobspool_time_to_full_seconds 3000x60`}, 3 * m, true},
		{"SpoolFullSoon", "not yet for long", []string{`jobspool_time_to_full_seconds 0 0 0 3000x60`}, 3 * m, false},
		{"SpoolFullSoon", "later", []string{`jobspool_time_to_full_seconds 4000x60`}, 9 * m, false},
		{"SpoolFullSoon", "does not grow", []string{`jobspool_time_to_full_seconds 0x60`}, 9 * m, false},

		{"SpoolNearlyFull", "5 % left", []string{`jobspool_spool_left_bytes 5x60`, `jobspool_spool_used_bytes 95x60`}, 3 * m, true},
		{"SpoolNearlyFull", "nothing left", []string{`jobspool_spool_left_bytes 0x60`, `jobspool_spool_used_bytes 100x60`}, 3 * m, true},
		{"SpoolNearlyFull", "half", []string{`jobspool_spool_left_bytes 50x60`, `jobspool_spool_used_bytes 50x60`}, 9 * m, false},

		{"SpoolOldestJob", "old", []string{`jobspool_pending_oldest_age_seconds 1770+30x60`}, 2 * m, true},
		{"SpoolOldestJob", "young", []string{`jobspool_pending_oldest_age_seconds 0+30x60`}, 10 * m, false},

		{"SpoolReplayStalled", "stalled", []string{`jobspool_pending_jobs 7x60`, still, going, up}, 6 * m, true},
		{"SpoolReplayStalled", "for a moment", []string{`jobspool_pending_jobs 7x60`, still, going, up}, 4 * m, false},
		{"SpoolReplayStalled", "moving", []string{`jobspool_pending_jobs 7x60`, moving, going, up}, 9 * m, false},
		{"SpoolReplayStalled", "paused", []string{`jobspool_pending_jobs 7x60`, still, paused, up}, 9 * m, false},
		{"SpoolReplayStalled", "outage", []string{`jobspool_pending_jobs 7x60`, still, going, down}, 9 * m, false},
		{"SpoolReplayStalled", "empty", []string{`jobspool_pending_jobs 0x60`, still, going, up}, 9 * m, false},

		{"SpoolReplayPaused", "long", []string{`jobspool_pending_jobs 7x80`, paused}, 31 * m, true},
		{"SpoolReplayPaused", "not long", []string{`jobspool_pending_jobs 7x80`, paused}, 20 * m, false},
		{"SpoolReplayPaused", "empty", []string{`jobspool_pending_jobs 0x80`, paused}, 31 * m, false},

		{"SpoolDeadLetters", "one", []string{`jobspool_dead_letters 0 0 1x60`}, 5 * m, true},
		{"SpoolDeadLetters", "none", []string{`jobspool_dead_letters 0x60`}, 5 * m, false},

		{"SpoolImbalance", "lost", []string{`jobspool_imbalance_jobs{equation="spooled"} 1x60`, noBad}, 16 * m, true},
		{"SpoolImbalance", "too many", []string{`jobspool_imbalance_jobs{equation="accepted"} -3x60`, noBad}, 16 * m, true},
		{"SpoolImbalance", "being counted", []string{`jobspool_imbalance_jobs{equation="spooled"} 3 0 -2 5 1 0 4 0 2 -1 3 0 -2 5 1 0 4 0 2 -1 3 0 -2 5 1 0 4 0 2 -1 3 0 -2 5 1 0 4`, noBad}, 18 * m, false},
		{"SpoolImbalance", "balanced", []string{`jobspool_imbalance_jobs{equation="spooled"} 0x60`, noBad}, 16 * m, false},
		{"SpoolImbalance", "unreadable", []string{`jobspool_imbalance_jobs{equation="spooled"} 4x60`, `jobspool_bad_segments 1x60`}, 16 * m, false},

		{"SpoolStalled", "stalled", []string{`jobspool_spool_stalled 0 1x60`}, 2 * m, true},
		{"SpoolStalled", "not", []string{`jobspool_spool_stalled 0x60`}, 2 * m, false},

		{"SpoolLosses", "a loss", []string{`jobspool_losses_total 0 0 0 1x60`}, 5 * m, true},
		{"SpoolLosses", "long ago", []string{`jobspool_losses_total 0 0 0 1x60`}, 25 * m, false},
		{"SpoolLosses", "none", []string{`jobspool_losses_total 0x60`}, 5 * m, false},

		{"SpoolJournalSkips", "skipped", []string{`jobspool_journal_skipped_total 0 0 0 9x60`}, 5 * m, true},
		{"SpoolJournalSkips", "none", []string{`jobspool_journal_skipped_total 0x60`}, 5 * m, false},

		{"SpoolQuarantine", "a file", []string{`jobspool_segments_quarantined_total 0 0 0 1x60`}, 5 * m, true},
		{"SpoolQuarantine", "records", []string{`jobspool_jobs_settled_total{outcome="unreadable"} 0 0 0 1x60`}, 5 * m, true},
		{"SpoolQuarantine", "other outcomes", []string{`jobspool_jobs_settled_total{outcome="replayed"} 0+9x60`}, 5 * m, false},

		{"SpoolBadSegments", "one", []string{`jobspool_bad_segments 1x60`}, 2 * m, true},
		{"SpoolBadSegments", "none", []string{noBad}, 2 * m, false},

		{"SpoolForeignOwners", "one", []string{`jobspool_foreign_owners 1x60`}, 16 * m, true},
		{"SpoolForeignOwners", "going", []string{`jobspool_foreign_owners 1x20 0x20`}, 16 * m, false},

		{"SpoolOrphans", "stay", []string{`jobspool_orphans 2x80`, `jobspool_state{state="up"} 1x80`}, 31 * m, true},
		{"SpoolOrphans", "outage", []string{`jobspool_orphans 2x80`, `jobspool_state{state="up"} 0x80`}, 31 * m, false},
		{"SpoolOrphans", "come and go", []string{`jobspool_orphans 1x9 0 1x9 0 1x9 0 1x9 0 1x9 0 1x9 0`, `jobspool_state{state="up"} 1x80`}, 29 * m, false},

		{"SpoolOutage", "all", []string{`jobspool_state{state="outage"} 1x60`, `jobspool_state{state="partial"} 0x60`, down}, 6 * m, true},
		{"SpoolOutage", "partial", []string{`jobspool_state{state="outage"} 0x60`, `jobspool_state{state="partial"} 1x60`, down}, 6 * m, true},
		{"SpoolOutage", "short", []string{`jobspool_state{state="outage"} 1x60`, `jobspool_state{state="partial"} 0x60`, down}, 4 * m, false},
		{"SpoolOutage", "up", []string{`jobspool_state{state="outage"} 0x60`, `jobspool_state{state="partial"} 0x60`, up}, 9 * m, false},
	}
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	all := rules(t)
	fired, silent := map[string]bool{}, map[string]bool{}
	for _, c := range cases() {
		t.Run(c.alert+"/"+c.name, func(t *testing.T) {
			rule, ok := all[c.alert]
			if !ok {
				t.Fatal("there is no such rule")
			}
			if fires := firing(t, rule, load(t, c.series), c.after); fires != c.fires {
				t.Errorf("fires: %v, want %v", fires, c.fires)
			}
		})
		if c.fires {
			fired[c.alert] = true
		} else {
			silent[c.alert] = true
		}
	}
	for name := range all {
		if !fired[name] || !silent[name] {
			t.Errorf("%s: no case where it fires, or none where it is silent", name)
		}
	}
}

// firing reports whether a rule fires at the end: its expression has had some result for as
// long as the rule says.
func firing(t *testing.T, rule rulefmt.Rule, m memory, after time.Duration) bool {
	t.Helper()
	since := map[string]time.Time{}
	end := origin().Add(after)
	for at := origin(); !at.After(end); at = at.Add(step) {
		active := map[string]bool{}
		for _, s := range m.eval(t, rule.Expr, at) {
			key := s.Metric.String()
			active[key] = true
			if _, ok := since[key]; !ok {
				since[key] = at
			}
		}
		for key := range since {
			if !active[key] {
				delete(since, key)
			}
		}
	}
	for _, at := range since {
		if end.Sub(at) >= time.Duration(rule.For) {
			return true
		}
	}
	return false
}

// TestAlertsNameWhatThereIs checks the names of metrics and commands against the collector and
// the command's reference.
func TestAlertsNameWhatThereIs(t *testing.T) {
	t.Parallel()
	metrics := described(t)
	reference, err := os.ReadFile("../../../cmd/spool/REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile("`(spool [a-z]+(?: (?:ls|show|retry|rm|outage))?)([^`]*)`")
	for name, rule := range rules(t) {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(rule.Expr)
		if err != nil {
			t.Fatal(err)
		}
		for _, selectors := range parser.ExtractSelectors(expr) {
			for _, m := range selectors {
				if m.Name == model.MetricNameLabel && !metrics[m.Value] {
					t.Errorf("%s: there is no metric %s", name, m.Value)
				}
			}
		}
		text := rule.Annotations["runbook"]
		found := command.FindAllStringSubmatch(text, -1)
		if len(found) == 0 || rule.Annotations["summary"] == "" || rule.Labels["severity"] == "" {
			t.Errorf("%s: no summary, no severity, or no command in its runbook", name)
		}
		for _, c := range found {
			at := strings.Index(string(reference), "## "+c[1]+"\n")
			if at < 0 {
				t.Errorf("%s: there is no command %q", name, c[1])
				continue
			}
			section, _, _ := strings.Cut(string(reference[at+3:]), "\n## ")
			for _, flag := range strings.Fields(c[2]) {
				if strings.HasPrefix(flag, "--") && !strings.Contains(section, flag) {
					t.Errorf("%s: %s has no %s", name, c[1], flag)
				}
			}
		}
	}
}

// described returns the names of the metrics of a Producer.
func described(t *testing.T) map[string]bool {
	t.Helper()
	p, err := queue.New(queue.Config{
		Redis: asynq.RedisClientOpt{Addr: "127.0.0.1:1"}, SpoolDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		queueprom.NewCollector(p).Describe(descs)
	}()
	names := map[string]bool{}
	name := regexp.MustCompile(`fqName: "([^"]*)"`)
	for d := range descs {
		names[name.FindStringSubmatch(d.String())[1]] = true
	}
	return names
}
