package queueprom_test

import (
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/queueprom"
)

// A service shows what its Producer does beside its other metrics.
func ExampleNewCollector() {
	dir, err := os.MkdirTemp("", "spool-")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	p, err := queue.New(queue.Config{
		Redis:    asynq.RedisClientOpt{Addr: "127.0.0.1:1"}, // nobody is there
		SpoolDir: dir,
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = p.Close() }()

	registry := prometheus.NewRegistry() // or prometheus.DefaultRegisterer
	registry.MustRegister(queueprom.NewCollector(p))
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{}) // for example at /metrics

	if _, err := p.Enqueue(asynq.NewTask("email:welcome", nil)); err != nil {
		log.Fatal(err)
	}
	w := httptest.NewRecorder()
	metrics.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "jobspool_jobs_spooled_total") || strings.HasPrefix(line, "jobspool_state") {
			fmt.Print(line)
		}
	}
	// Output:
	// jobspool_jobs_spooled_total{target="redis://127.0.0.1:1/0"} 1
	// jobspool_state{state="outage",target="redis://127.0.0.1:1/0"} 1
	// jobspool_state{state="partial",target="redis://127.0.0.1:1/0"} 0
	// jobspool_state{state="up",target="redis://127.0.0.1:1/0"} 0
}
