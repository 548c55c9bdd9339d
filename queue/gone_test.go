package queue_test

import (
	"net/http/httptest"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestWhatIsRemovedIsNotPassedOver: a job that fails while others do not is taken out by a person.
// Nothing waits for it any more, and what fails beside it is passed over as before.
func TestWhatIsRemovedIsNotPassedOver(t *testing.T) {
	t.Parallel()
	r, dir := redistest.Run(t, redistest.Options{Args: []string{"--client-query-buffer-limit", "1mb"}}), t.TempDir()
	ids := leave(t, dir, asynq.NewTask("t", make([]byte, 2<<20)), asynq.NewTask("t", make([]byte, 3<<20)))
	p := newProducer(t, queue.Config{
		Redis: server(r.Addr()), SpoolDir: dir, Target: "t", MaxTaskBytes: -1,
		Replay: queue.ReplayConfig{Only: func(queue.JobEvent) bool { return true }},
	})
	eventually(t, "both are passed over", func() bool { return p.Stats().Deferred == 2 })
	admin := httptest.NewServer(p.Handler(queue.MayChange))
	t.Cleanup(admin.Close)
	remove := func(id string, left int) {
		t.Helper()
		var done queue.Changed
		if code, text := ask(t, admin.Client(), "POST", admin.URL+"/v1/remove", `{"ids":["`+id+`"]}`, &done); code != 200 || done.Jobs != 1 {
			t.Fatal(code, text)
		}
		eventually(t, "it is not passed over any more", func() bool { return p.Stats().Deferred == left })
	}
	remove(ids[0], 1)
	rest()
	if st := p.Stats(); st.Deferred != 1 || st.Pending != 1 {
		t.Errorf("%+v", st)
	}
	remove(ids[1], 0)
	drain(t, p)
}
