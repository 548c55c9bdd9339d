package queue_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// handled serves a handler, and returns where.
func handled(tb testing.TB, h http.Handler) (at string) {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s.URL
}

// enqueueNamed enqueues n jobs, job-0 and so on, of a queue.
func enqueueNamed(tb testing.TB, p *queue.Producer, name, queueName string, n int) {
	tb.Helper()
	for i := range n {
		_, err := p.Enqueue(asynq.NewTask("mail", []byte("secret")), asynq.TaskID(fmt.Sprintf("%s-%d", name, i)), asynq.Queue(queueName))
		must(tb, err)
	}
}

// keptIDs lists a journal in parts.
func keptIDs(tb testing.TB, at, params string, limit int) (ids []string) {
	tb.Helper()
	cursor := ""
	for {
		var page queue.GuardPage
		code, text := ask(tb, http.DefaultClient, "GET", fmt.Sprintf("%s/v1/guard?limit=%d&cursor=%s&%s", at, limit, url.QueryEscape(cursor), params), "", &page)
		if code != http.StatusOK || len(page.Jobs) > limit || strings.Contains(text, "secret") != strings.Contains(params, "payload") {
			tb.Fatal(code, text)
		}
		for _, j := range page.Jobs {
			ids = append(ids, j.ID)
		}
		if cursor = string(page.Next); cursor == "" {
			return ids
		}
	}
}

// forget takes jobs of the default queue out of Redis, and the markers if they are to be missed.
func forget(tb testing.TB, addr string, markers bool, ids ...string) {
	tb.Helper()
	rdb := client(tb, addr)
	for _, id := range ids {
		must(tb, rdb.Del(context.Background(), "asynq:{default}:t:"+id).Err())
		must(tb, rdb.LRem(context.Background(), "asynq:{default}:pending", 0, id).Err())
	}
	keys, err := rdb.Keys(context.Background(), "asynq:{*}:spool:mark:*").Result()
	must(tb, err)
	if markers {
		must(tb, rdb.Del(context.Background(), keys...).Err())
	}
}

// TestGuardIsListedAndCheckedByHand: what was lost and only reported stays in the journal, and
// is sent by hand, once and nothing else.
func TestGuardIsListedAndCheckedByHand(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), Guard: time.Hour, OnLoss: queue.ReportLost})
	at := handled(t, p.Handler(queue.MayChange, queue.MaySeePayloads))
	enqueueNamed(t, p, "job", "default", 25)
	enqueueNamed(t, p, "low", "low", 2)
	if ids := keptIDs(t, at, "", 4); len(ids) != 27 {
		t.Errorf("%q", ids)
	}
	wantOnce(t, keptIDs(t, at, "queue=low", 1), []string{"low-0", "low-1"})
	wantOnce(t, keptIDs(t, at, "id=job-3&id=low-1&payload=true", 100), []string{"job-3", "low-1"})
	if ids := append(keptIDs(t, at, "older_than=1h", 9), keptIDs(t, at, "type=other", 9)...); len(ids) > 0 {
		t.Errorf("%q", ids)
	}
	var page queue.GuardPage
	eventually(t, "the markers are set", func() bool { // entries count from 2: 1 is the first marker
		ask(t, http.DefaultClient, "GET", at+"/v1/guard?limit=0", "", &page)
		q := page.Kept.Queues
		return len(q) == 2 && q[0].Marker != nil && q[0].Marker.Value == 26 && q[1].Marker != nil && q[1].Marker.Value == 28
	})
	if k := page.Kept; len(page.Jobs) > 0 || k.Jobs != 27 || k.Queues[0].Queue != "default" || k.Queues[0].Jobs != 25 || k.Oldest == nil ||
		k.Bytes == 0 || time.Since(k.Queues[1].Marker.Set) > time.Minute {
		t.Errorf("%+v", k)
	}
	if st := p.Stats(); st.JournalJobs != 27 || st.JournalBytes == 0 || st.Guard != time.Hour || st.LastLoss != nil {
		t.Errorf("%+v", st)
	}

	forget(t, r.Addr(), true, "job-5", "job-6", "job-20")
	enqueueNamed(t, p, "new", "default", 1) // has the marker looked at
	eventually(t, "the loss is noticed, of the other queue too", func() bool { return p.Stats().Losses == 2 })
	if st := p.Stats(); st.Lost != 3 || st.LastLoss == nil || st.Resent != 0 || st.JournalJobs != 28 {
		t.Errorf("%+v", st)
	}
	check := func(body string, want queue.GuardChecked) {
		t.Helper()
		var got queue.GuardChecked
		if code, text := ask(t, http.DefaultClient, "POST", at+"/v1/guard/check", body, &got); code != http.StatusOK || got != want {
			t.Errorf("%s: %d, %+v, want %+v: %s", body, code, got, want, text)
		}
	}
	check(`{"report":true}`, queue.GuardChecked{Looked: 28, Missing: 3})
	check(`{"queue":"low"}`, queue.GuardChecked{Looked: 2})
	check(fmt.Sprintf(`{"since":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339)), queue.GuardChecked{})
	check(`{}`, queue.GuardChecked{Looked: 28, Missing: 3, SentAgain: 3})
	drain(t, p)
	check(`{}`, queue.GuardChecked{Looked: 28})
	if ids := pendingIDs(t, r.Addr()); len(ids) != 26 {
		t.Errorf("%q", ids)
	}
	if st := p.Stats(); st.Lost != 3 || st.Resent != 3 || st.Replayed != 3 || st.JournalJobs != 28 || st.ResentMaybeDone != 3 {
		t.Errorf("%+v", st)
	}
}

// TestGuardOfDeadProcesses can be looked at, and only that.
func TestGuardOfDeadProcesses(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	for _, name := range []string{"first", "second"} {
		p := newProducer(t, queue.Config{Redis: server(r.Addr()), Target: name, SpoolDir: dir, Guard: time.Hour})
		enqueueNamed(t, p, name, "default", 30)
		closeProducer(t, p)
	}
	o, err := queue.OpenOffline(dir, nil)
	must(t, err)
	at := handled(t, o.Handler())
	ids := keptIDs(t, at, "", 7)
	if len(ids) != 60 || ids[0] != "first-0" || ids[59] != "second-29" {
		t.Errorf("%q", ids)
	}
	if code, text := ask(t, http.DefaultClient, "POST", at+"/v1/guard/check", "{}", nil); code != http.StatusNotImplemented || !strings.Contains(text, "start the service") {
		t.Error(code, text)
	}
	must(t, o.Close())
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), Target: "second", SpoolDir: dir, Guard: time.Hour})
	at = handled(t, p.Handler())
	eventually(t, "the journal is adopted", func() bool { return p.Stats().JournalJobs == 30 })
	if ids := keptIDs(t, at, "", 100); len(ids) != 30 || ids[0] != "second-0" {
		t.Errorf("%q", ids)
	}
}

func TestGuardRefuses(t *testing.T) {
	t.Parallel()
	off := handled(t, newProducer(t, queue.Config{Redis: server(away), SpoolDir: t.TempDir()}).Handler(queue.MayChange))
	on := handled(t, newProducer(t, queue.Config{Redis: server(away), SpoolDir: t.TempDir(), Guard: time.Hour}).Handler())
	for _, c := range []struct {
		method, url, body string
		code              int
		says              string
	}{
		{"GET", off + "/v1/guard", "", http.StatusNotImplemented, "Config.Guard is off"},
		{"POST", off + "/v1/guard/check", "{}", http.StatusNotImplemented, "Config.Guard is off"},
		{"POST", off + "/v1/guard/check", `{"sinc":1}`, http.StatusBadRequest, "sinc"},
		{"POST", on + "/v1/guard/check", "{}", http.StatusForbidden, "permit"},
		{"GET", on + "/v1/guard?payload=true", "", http.StatusForbidden, "permit"},
		{"GET", on + "/v1/guard?dead=true", "", http.StatusBadRequest, "acknowledged"},
		{"GET", on + "/v1/guard?limit=x", "", http.StatusBadRequest, "limit"},
		{"GET", on + "/v1/guard?cursor=x", "", http.StatusBadRequest, "cursor"},
	} {
		if code, text := ask(t, http.DefaultClient, c.method, c.url, c.body, nil); code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d, %s", c.url, code, text)
		}
	}
}

// TestASweepKeepsWhatIsReportedLost: it takes other jobs that are gone for finished.
func TestASweepKeepsWhatIsReportedLost(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: t.TempDir(), Guard: time.Hour, OnLoss: queue.ReportLost})
	at := handled(t, p.Handler(queue.MayChange))
	enqueueNamed(t, p, "job", "default", 5)
	rdb := client(t, r.Addr())
	eventually(t, "there is a marker", func() bool {
		keys, err := rdb.Keys(t.Context(), "asynq:{default}:spool:mark:*").Result()
		return err == nil && len(keys) == 1
	})
	forget(t, r.Addr(), true, "job-1")
	enqueueNamed(t, p, "new", "default", 1)
	eventually(t, "the loss is noticed", func() bool { return p.Stats().Lost == 1 })
	forget(t, r.Addr(), false, "job-3")
	eventually(t, "the other one is taken for finished", func() bool { return p.Stats().JournalJobs == 5 })
	var got queue.GuardChecked
	ask(t, http.DefaultClient, "POST", at+"/v1/guard/check", "{}", &got)
	if got != (queue.GuardChecked{Looked: 5, Missing: 1, SentAgain: 1}) {
		t.Errorf("%+v", got)
	}
	if ids := keptIDs(t, at, "", 100); len(ids) < 4 {
		t.Errorf("%q", ids)
	}
}
