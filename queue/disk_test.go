package queue_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

func TestAFullSpoolIsAnErrorAndLosesNothing(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{
		Redis: server(r.Addr()), SpoolDir: t.TempDir(), Spool: queue.SpoolConfig{MaxBytes: 1 << 20, MinFreeBytes: -1},
	})
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	payload := bytes.Repeat([]byte("x"), 10_000)
	for len(ids) < 200 {
		info, err := p.Enqueue(asynq.NewTask("t", payload))
		if errors.Is(err, queue.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, info.ID)
	}
	if len(ids) < 15 || len(ids) >= 100 {
		t.Fatalf("%d jobs of 10 kB fit into 1 MiB", len(ids))
	}
	if st := p.Stats(); st.Pending != len(ids) || st.SpoolUsedBytes < 1<<19 || st.SpoolLeftBytes > 1<<19 {
		t.Errorf("%+v", st)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	drain(t, p)
	wantOnce(t, pendingIDs(t, r.Addr()), ids)
	if st := p.Stats(); st.SpoolFullIn <= 0 {
		t.Errorf("time to full after so many jobs: %v", st.SpoolFullIn)
	}
}

// TestADamagedSegmentIsSalvagedAndReplayed overwrites pages of a dead process's segment:
// one job is lost with them, and said so, all others go on.
func TestADamagedSegmentIsSalvagedAndReplayed(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	cfg := queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir()}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	p := newProducer(t, cfg)
	ids := map[string]string{} // by payload
	for i := range 200 {
		payload := fmt.Sprintf("payload-%03d", i)
		info, err := p.Enqueue(asynq.NewTask("t", []byte(payload)))
		if err != nil {
			t.Fatal(err)
		}
		ids[payload] = info.ID
	}
	closeProducer(t, p)
	paths, err := filepath.Glob(filepath.Join(cfg.SpoolDir, "*", "*.seg"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("%v, %v", paths, err)
	}
	b, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.ReplaceAll(b, []byte("payload-077"), []byte("PAYLOAD-077"))
	if err := os.WriteFile(paths[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	delete(ids, "payload-077")

	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	p = newProducer(t, cfg)
	err = p.Drain(t.Context())
	if err == nil {
		t.Error("Drain does not say that a job cannot be read")
	}
	var want []string
	for _, id := range ids {
		want = append(want, id)
	}
	wantOnce(t, pendingIDs(t, r.Addr()), want)
	if st := p.Stats(); st.Unreadable != 1 || st.Quarantined != 1 || st.Replayed != 199 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}
