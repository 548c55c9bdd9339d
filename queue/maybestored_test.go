package queue_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
)

// TestMaybeStoredExplainsAnImbalance has a disk that is always too slow: what Enqueue had to
// refuse is pending in the end.
func TestMaybeStoredExplainsAnImbalance(t *testing.T) {
	t.Parallel()
	cfg := queue.Config{Redis: server("127.0.0.1:1"), SpoolDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	cfg.Spool.Timeout = 50 * time.Microsecond
	p, err := queue.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }() // a disk that is too slow for that as well
	maybe := int64(0)
	eventually(t, "a job of which nobody can tell, and which is stored", func() bool {
		if _, err := p.Enqueue(asynq.NewTask("t", nil)); errors.Is(err, queue.ErrMaybeStored) {
			maybe++
		}
		st := p.Stats()
		return maybe > 0 && int64(st.Pending) > st.Spooled
	})
	st := p.Stats()
	if accepted, spooled := st.Imbalance(); st.MaybeStored != maybe || accepted != 0 || spooled != 0 {
		t.Errorf("%d maybe stored, want %d; off by %d and %d: %+v", st.MaybeStored, maybe, accepted, spooled, st)
	}
}
