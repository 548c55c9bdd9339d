package queue

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// TestCloseEndsRequests: a request that takes long ends with the Producer.
func TestCloseEndsRequests(t *testing.T) {
	t.Parallel()
	p, err := New(Config{Redis: asynq.RedisClientOpt{Addr: "127.0.0.1:1"}, SpoolDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	check(t, err)
	begun, answered, closed := make(chan struct{}), make(chan int, 1), make(chan error, 1)
	go func() {
		w, c := httptest.NewRecorder(), &control{use: p.use}
		c.serve(w, httptest.NewRequest(http.MethodGet, "/v1/verify", nil), nil, func(r *http.Request) (any, error) {
			close(begun)
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		answered <- w.Code
	}()
	<-begun
	go func() { closed <- p.Close() }()
	select {
	case err := <-closed:
		check(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("Close waits for a request that goes on")
	}
	if code := <-answered; code != http.StatusServiceUnavailable {
		t.Errorf("%d", code)
	}
}
