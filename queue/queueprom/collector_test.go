package queueprom_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/queueprom"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestThroughAnOutage follows the metrics from before the first job to after the replay.
func TestThroughAnOutage(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p, registry := newProducer(t, queue.Config{Redis: asynq.RedisClientOpt{Addr: proxy.Addr()}, EnqueueTimeout: patience})

	got := scrape(t, registry)
	got.fromStart(t)

	enqueue(t, p, 3)
	got = scrape(t, registry)
	got.want(t, "live", samples{
		"jobs_accepted_total": 3, "jobs_sent_total": 3, "jobs_spooled_total": 0, "pending_jobs": 0,
		"attempt_duration_seconds": 3, "append_duration_seconds": 0, "imbalance_jobs{accepted}": 0, "imbalance_jobs{spooled}": 0,
	})

	proxy.Refuse()
	proxy.Cut()
	enqueue(t, p, 5)
	enqueue(t, p, 2, asynq.Queue("mail"))
	got = scrape(t, registry)
	got.want(t, "outage", samples{
		"jobs_accepted_total": 10, "jobs_sent_total": 3, "jobs_spooled_total": 7, "pending_jobs": 7,
		"queue_pending_jobs{default}": 5, "queue_pending_jobs{mail}": 2,
		"state{up}": 0, "state{outage}": 1, "outages_total{all}": 1, "outages_total{queue}": 0,
		"append_duration_seconds": 7, "imbalance_jobs{accepted}": 0, "imbalance_jobs{spooled}": 0,
	})
	got.positive(t, "outage", "pending_bytes", "outage_seconds_total{all}", "pending_oldest_age_seconds",
		"queue_pending_bytes{mail}", "queue_pending_oldest_age_seconds{mail}", "commit_duration_seconds")
	if again := scrape(t, registry); again["jobspool_outage_seconds_total{all}"] <= got["jobspool_outage_seconds_total{all}"] {
		t.Error("an outage that goes on does not count")
	}

	proxy.Accept()
	eventually(t, "the replay", func() bool { return p.Stats().Pending == 0 })
	eventually(t, "the outage's end", func() bool { return p.Stats().State == queue.StateUp })
	got = scrape(t, registry)
	got.want(t, "replayed", samples{
		"jobs_accepted_total": 10, "jobs_sent_total": 3, "jobs_spooled_total": 7, "pending_jobs": 0, "pending_oldest_age_seconds": 0,
		"state{up}": 1, "state{outage}": 0, "outages_total{all}": 1, "imbalance_jobs{accepted}": 0, "imbalance_jobs{spooled}": 0,
	})
	if n := got["jobspool_jobs_settled_total{replayed}"] + got["jobspool_jobs_settled_total{already_there}"]; n != 7 {
		t.Errorf("%v were settled", n)
	}
	got.positive(t, "replayed", "replay_batch_duration_seconds", "replay_jobs_per_second", "outage_seconds_total{all}")
	if _, there := got["jobspool_queue_pending_jobs{mail}"]; there {
		t.Error("a queue without pending jobs has samples")
	}
	if again := scrape(t, registry); again["jobspool_outage_seconds_total{all}"] != got["jobspool_outage_seconds_total{all}"] {
		t.Error("an outage that is over goes on counting")
	}
}

// TestInDoubtAndDead loses a reply, and has a job that Redis refuses at the replay.
func TestInDoubtAndDead(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p, registry := newProducer(t, queue.Config{Redis: asynq.RedisClientOpt{Addr: proxy.Addr()}, EnqueueTimeout: patience})
	enqueue(t, p, 1) // the script is known, the connection warm
	proxy.CutAfterReplies(0, redistest.CutRST)
	enqueue(t, p, 1)
	proxy.Refuse()
	if _, err := p.Enqueue(asynq.NewTask("late", nil), queue.SpoolFirst(), queue.MaxSpoolAge(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	proxy.Accept()
	eventually(t, "the replay", func() bool { st := p.Stats(); return st.Pending == 0 && st.DeadBy["expired"] == 1 })
	got := scrape(t, registry)
	got.want(t, "replayed", samples{
		"jobs_in_doubt_total": 1, "jobs_in_doubt_settled_total{already_there}": 1, "jobs_in_doubt_settled_total{replayed}": 0,
		"jobs_settled_total{already_there}": 1, "jobs_settled_total{dead}": 1, "jobs_dead_total{expired}": 1, "jobs_dead_total{refused}": 0,
		"dead_letters": 1, "imbalance_jobs{accepted}": 0, "imbalance_jobs{spooled}": 0,
	})
}

// TestScrapeUnderLoad scrapes while jobs are enqueued, spooled and replayed.
func TestScrapeUnderLoad(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	proxy := redistest.NewProxy(t, r.Addr())
	p, registry := newProducer(t, queue.Config{Redis: asynq.RedisClientOpt{Addr: proxy.Addr()}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var scraping, callers sync.WaitGroup
	last := samples{}
	scraping.Go(func() {
		for ctx.Err() == nil {
			got := scrape(t, registry)
			for name, n := range last {
				if strings.Contains(name, "_total") && got[name] < n {
					t.Errorf("%s fell from %v to %v", name, n, got[name])
				}
			}
			last = got
		}
	})
	for i := range 8 {
		callers.Go(func() {
			for k := range 200 {
				if i == 0 && k%50 == 10 {
					proxy.Refuse()
					proxy.Cut()
				}
				if i == 0 && k%50 == 40 {
					proxy.Accept()
				}
				if _, err := p.Enqueue(asynq.NewTask("test", nil)); err != nil {
					t.Errorf("enqueue: %v", err)
				}
			}
		})
	}
	callers.Wait()
	proxy.Accept()
	eventually(t, "the replay", func() bool { return p.Stats().Pending == 0 })
	cancel()
	scraping.Wait()
	scrape(t, registry).want(t, "at the end", samples{
		"jobs_accepted_total": 1600, "imbalance_jobs{accepted}": 0, "imbalance_jobs{spooled}": 0,
	})
}

// TestSeveral has two Producers of one target, and one whose Redis has a password.
func TestSeveral(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-a-password"
	opt := asynq.RedisClientOpt{Addr: "127.0.0.1:1", Username: "user", Password: secret}
	first, registry := newProducer(t, queue.Config{Redis: opt})
	second, _ := newProducer(t, queue.Config{Redis: opt})
	if err := registry.Register(queueprom.NewCollector(second)); err == nil {
		t.Error("two of the same target cannot be told apart, and that is no error")
	}
	wrapped := prometheus.WrapRegistererWith(prometheus.Labels{"spool": "second"}, registry)
	if err := wrapped.Register(queueprom.NewCollector(second)); err == nil {
		t.Error("label names that differ are no error")
	}
	other := prometheus.NewPedanticRegistry()
	for name, p := range map[string]*queue.Producer{"first": first, "second": second} {
		prometheus.WrapRegistererWith(prometheus.Labels{"spool": name}, other).MustRegister(queueprom.NewCollector(p))
	}
	enqueue(t, second, 1)
	got := scrape(t, other)
	got.want(t, "both", samples{"jobs_spooled_total{first}": 0, "jobs_spooled_total{second}": 1})
	families, err := other.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if s := f.String(); strings.Contains(s, secret) || strings.Contains(s, "payload") {
			t.Errorf("a secret: %s", s)
		}
	}
}

// TestManyQueues has more queues than are told apart, with names of all sorts.
func TestManyQueues(t *testing.T) {
	t.Parallel()
	f := queueprom.Fixed{}
	const many = queueprom.MaxQueues + 50
	for i := range many {
		for _, kind := range []string{"a", "b"} {
			f.Ki = append(f.Ki, queue.Kind{Queue: fmt.Sprintf("q%d\xff", i), Type: kind, Pending: i + 1, Bytes: 10})
		}
	}
	f.Ki = append(f.Ki, queue.Kind{Pending: 1000, Bytes: 10})
	got := scrape(t, register(t, queueprom.NewFixed(f)))
	rest := 1000
	for i := range 50 {
		rest += 2 * (i + 1)
	}
	got.want(t, "many", samples{
		"queue_pending_jobs{q149\uFFFD}": 300, "queue_pending_bytes{q149\uFFFD}": 20, "queue_pending_oldest_age_seconds{q149\uFFFD}": 0,
		"queue_pending_jobs{}": float64(rest),
	})
	n := 0
	for name := range got {
		if strings.HasPrefix(name, "jobspool_queue_pending_jobs") {
			n++
		}
	}
	if n < queueprom.MaxQueues || n > queueprom.MaxQueues+1 {
		t.Errorf("%d queues are told apart", n)
	}
}
