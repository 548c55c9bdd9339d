package queueprom_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/queueprom"
	"github.com/jobspool/jobspool/spool"
	"github.com/jobspool/jobspool/spool/latency"
)

// changed are the samples that a field of Stats changes, with what filled puts into it, and to
// what. imbalance_jobs is left out: what it is to be, Stats itself says.
var changed = map[string]samples{
	"State":        {"state{up}": 0, "state{partial}": 1},
	"Outages":      {"outages_total{all}": 7},
	"QueueOutages": {"outages_total{all}": -7, "outages_total{queue}": 7},

	"OutageTime":      {"outage_seconds_total{all}": 7},
	"QueueOutageTime": {"outage_seconds_total{queue}": 7},

	"Accepted":    {"jobs_accepted_total": 7},
	"Sent":        {"jobs_sent_total": 7},
	"Spooled":     {"jobs_spooled_total": 7},
	"InDoubt":     {"jobs_in_doubt_total": 7},
	"Adopted":     {"jobs_adopted_total": 7},
	"Retried":     {"jobs_retried_total": 7},
	"MaybeStored": {"jobs_maybe_stored_total": 7},

	"Guard":        {"guard_seconds": 7},
	"JournalJobs":  {"journal_jobs": 7},
	"JournalBytes": {"journal_bytes": 7},
	"LastLoss":     {"last_loss_timestamp_seconds": 1e9},

	"Losses":          {"losses_total": 7},
	"Lost":            {"jobs_lost_total": 7},
	"Resent":          {"jobs_resent_total": 7},
	"ResentMaybeDone": {"jobs_maybe_done_total": 7},
	"JournalSkipped":  {"journal_skipped_total": 7},

	"Replayed":     {"jobs_settled_total{replayed}": 7},
	"AlreadyThere": {"jobs_settled_total{already_there}": 7},
	"Superseded":   {"jobs_settled_total{superseded}": 7},
	"Dead":         {"jobs_settled_total{dead}": 7},
	"Removed":      {"jobs_settled_total{removed}": 7},
	"Unreadable":   {"jobs_settled_total{unreadable}": 7},
	"DeadBy":       {"jobs_dead_total{expired}": 7},

	"InDoubtSettled.Replayed":     {"jobs_in_doubt_settled_total{replayed}": 7},
	"InDoubtSettled.AlreadyThere": {"jobs_in_doubt_settled_total{already_there}": 7},
	"InDoubtSettled.Superseded":   {"jobs_in_doubt_settled_total{superseded}": 7},
	"InDoubtSettled.Dead":         {"jobs_in_doubt_settled_total{dead}": 7},

	"Pending":      {"pending_jobs": 7},
	"PendingBytes": {"pending_bytes": 7},
	"Oldest":       {"pending_oldest_age_seconds": anyAge},
	"DeadLetters":  {"dead_letters": 7},

	"ReplayRate":  {"replay_jobs_per_second": 7},
	"EmptyIn":     {"time_to_empty_seconds": 7},
	"Paused":      {"replay_paused": 1},
	"ReplayWaits": {"replay_waiting": 1},
	"Deferred":    {"deferred_jobs": 7},

	"SpoolUsedBytes": {"spool_used_bytes": 7},
	"SpoolLeftBytes": {"spool_left_bytes": 7},
	"SpoolFullIn":    {"time_to_full_seconds": 7},
	"SpoolStalled":   {"spool_stalled": 1},

	"Foreign":     {"foreign_owners": 7},
	"Orphans":     {"orphans": 7},
	"Bad":         {"bad_segments": 7},
	"Quarantined": {"segments_quarantined_total": 7},

	"OutageSince": {}, // state and outage_seconds_total say that there is one
	"OutageCause": {},
	"Queues":      {},
	"Target":      {}, // the label
}

// anyAge stands for an age that grows as the test runs.
const anyAge = -1

// TestValues fills one field of Stats after the other, and looks which samples that changes.
func TestValues(t *testing.T) {
	t.Parallel()
	before := scrape(t, register(t, queueprom.NewFixed(queueprom.Fixed{St: up()})))
	known := maps.Clone(changed)
	seen := map[string]bool{"state{outage}": true} // TestThroughAnOutage
	eachField(t, reflect.TypeFor[queue.Stats](), nil, "", func(name string, index []int) {
		want, ok := known[name]
		delete(known, name)
		if !ok {
			t.Errorf("what becomes of %s?", name)
			return
		}
		st := up()
		reflect.ValueOf(&st).Elem().FieldByIndex(index).Set(filled(t, name, reflect.TypeOf(st).FieldByIndex(index).Type))
		want = maps.Clone(want)
		accepted, spooled := st.Imbalance()
		want["imbalance_jobs{accepted}"], want["imbalance_jobs{spooled}"] = float64(accepted), float64(spooled)
		got := scrape(t, register(t, queueprom.NewFixed(queueprom.Fixed{St: st})))
		for _, sample := range slices.Sorted(maps.Keys(got)) {
			short := strings.TrimPrefix(sample, "jobspool_")
			w, ok := want[short]
			if !ok {
				w = before[sample]
			}
			if n := got[sample]; n != w && (w != anyAge || n <= 0) {
				t.Errorf("with %s %s is %v, want %v", name, short, n, w)
			}
			seen[short] = seen[short] || ok
			delete(want, short)
		}
		for short := range want {
			t.Errorf("with %s there is no %s", name, short)
		}
	})
	for name := range known {
		t.Errorf("Stats has no %s", name)
	}
	for sample := range before {
		if short := strings.TrimPrefix(sample, "jobspool_"); !seen[short] && !strings.Contains(short, "_duration_seconds") {
			t.Errorf("no field changes %s", short)
		}
	}
}

// up are the Stats in which nothing has happened.
func up() queue.Stats { return queue.Stats{State: queue.StateUp, Target: "t"} }

// eachField calls do for each field of a struct, and of those structs in it that are only counters.
func eachField(t *testing.T, s reflect.Type, above []int, prefix string, do func(name string, index []int)) {
	t.Helper()
	for f := range s.Fields() {
		index := append(slices.Clone(above), f.Index...)
		if f.Type.Kind() == reflect.Struct {
			eachField(t, f.Type, index, prefix+f.Name+".", do)
			continue
		}
		do(prefix+f.Name, index)
	}
}

// filled returns a value of a field.
func filled(t *testing.T, name string, typ reflect.Type) reflect.Value {
	t.Helper()
	at := time.Unix(1e9, 0)
	for _, v := range []any{
		7 * time.Second, int64(7), 7, 7.0, true, &at,
		map[string]int64{"expired": 7},
		make([]string, 7),
		&spool.Pause{By: "somebody"},
		[]queue.Outage{{Queue: "q"}},
	} {
		if reflect.TypeOf(v) == typ {
			return reflect.ValueOf(v)
		}
	}
	if typ.Kind() != reflect.String {
		t.Fatalf("%s is a %v", name, typ)
	}
	return reflect.ValueOf(map[string]string{
		"State": queue.StatePartial, "Target": "t", "OutageCause": "why", "ReplayWaits": "why",
	}[name])
}

// TestLatencies fills one of the latencies after the other.
func TestLatencies(t *testing.T) {
	t.Parallel()
	known := map[string]string{"Attempt": "attempt", "Append": "append", "Commit": "commit", "Replay": "replay_batch"}
	for f := range reflect.TypeFor[queue.Latencies]().Fields() {
		la := queue.Latencies{}
		reflect.ValueOf(&la).Elem().FieldByIndex(f.Index).Set(reflect.ValueOf(latency.Snapshot{
			Buckets: []latency.Bucket{{UpTo: time.Second, Count: 3}, {UpTo: time.Minute, Count: 6}}, Count: 7, Sum: 100 * time.Second,
		}))
		families, err := register(t, queueprom.NewFixed(queueprom.Fixed{St: up(), La: la})).Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			what, ok := strings.CutSuffix(strings.TrimPrefix(family.GetName(), "jobspool_"), "_duration_seconds")
			if !ok {
				continue
			}
			h := family.GetMetric()[0].GetHistogram()
			if what != known[f.Name] {
				if h.GetSampleCount() != 0 {
					t.Errorf("with %s %s has %d", f.Name, what, h.GetSampleCount())
				}
				continue
			}
			delete(known, f.Name)
			b := h.GetBucket()
			if h.GetSampleCount() != 7 || h.GetSampleSum() != 100 || len(b) != 2 ||
				b[0].GetUpperBound() != 1 || b[0].GetCumulativeCount() != 3 || b[1].GetUpperBound() != 60 || b[1].GetCumulativeCount() != 6 {
				t.Errorf("%s: %v", f.Name, h)
			}
		}
	}
	if len(known) > 0 {
		t.Errorf("not there: %v", known)
	}
}

// TestQueues has what is pending of one queue.
func TestQueues(t *testing.T) {
	t.Parallel()
	f := queueprom.Fixed{St: up(), Ki: []queue.Kind{{Queue: "mail", Type: "t", Pending: 3, Bytes: 5, Oldest: time.Now().Add(-time.Hour)}}}
	got := scrape(t, register(t, queueprom.NewFixed(f)))
	got.want(t, "pending", samples{"queue_pending_jobs{mail}": 3, "queue_pending_bytes{mail}": 5})
	if age := got["jobspool_queue_pending_oldest_age_seconds{mail}"]; age < 3600 || age > 7200 {
		t.Errorf("the oldest is %v old", age)
	}
}
