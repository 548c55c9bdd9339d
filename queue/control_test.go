package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool"
)

// socketOf returns the control socket of the only owner in a SpoolDir.
func socketOf(tb testing.TB, dir string) string {
	tb.Helper()
	owners, err := spool.Inspect(dir)
	if err != nil || len(owners) != 1 {
		tb.Fatalf("%d owners, %v", len(owners), err)
	}
	return spool.SocketOf(dir, owners[0].Name)
}

// overSocket returns a client of the process that listens there.
func overSocket(tb testing.TB, path string) *http.Client {
	tb.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return queue.DialSocket(ctx, path) }}
	tb.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// ask makes a request, and decodes the answer where it is a good one.
func ask(tb testing.TB, c *http.Client, method, url, body string, to any) (code int, text string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, url, strings.NewReader(body))
	must(tb, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	must(tb, err)
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	must(tb, err)
	if resp.StatusCode == http.StatusOK {
		must(tb, json.Unmarshal(b.Bytes(), to))
	}
	return resp.StatusCode, b.String()
}

func TestSocketShowsAndChangesWhatALivingProducerHolds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProducer(t, queue.Config{Redis: server(away), SpoolDir: dir})
	_, err := p.Enqueue(asynq.NewTask("mail", []byte("secret"), asynq.Queue("low"), asynq.TaskID("mine"), asynq.Retention(time.Hour)))
	must(t, err)
	ids := enqueue(t, p, 3)
	path := socketOf(t, dir)
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", fi.Mode(), err)
	}
	c := overSocket(t, path)
	var st queue.Status
	if code, text := ask(t, c, "GET", "http://x/v1/status", "", &st); code != 200 || strings.Contains(text, "secret") {
		t.Fatal(code, text)
	}
	if st.Stats.State != queue.StateOutage || st.PID != os.Getpid() || len(st.Shares) != 1 || !st.Shares[0].Own || st.Shares[0].Pending != 4 ||
		len(st.Kinds) != 2 || st.Kinds[0].Pending != 3 || st.Kinds[1].Queue != "low" || st.Kinds[1].Type != "mail" {
		t.Errorf("%+v", st)
	}
	var page queue.JobPage
	code, text := ask(t, c, "GET", "http://x/v1/jobs?queue=low", "", &page)
	if code != 200 || len(page.Jobs) != 1 || strings.Contains(text, "secret") {
		t.Fatal(code, text)
	}
	if j := page.Jobs[0]; j.ID != "mine" || !j.OwnID || j.RetentionSeconds != 3600 || j.Payload != nil || j.Owner == "" {
		t.Errorf("%+v", j)
	}
	ask(t, c, "GET", "http://x/v1/jobs?id=mine&payload=true", "", &page)
	if len(page.Jobs) != 1 || string(page.Jobs[0].Payload) != "secret" {
		t.Errorf("%+v", page)
	}
	var got []string
	for next := ""; ; {
		page = queue.JobPage{}
		if code, text := ask(t, c, "GET", "http://x/v1/jobs?type=test&limit=1&cursor="+next, "", &page); code != 200 || len(page.Jobs) > 1 {
			t.Fatal(code, text)
		}
		for _, j := range page.Jobs {
			got = append(got, j.ID)
		}
		if next = string(page.Next); next == "" {
			break
		}
	}
	wantOnce(t, got, ids)
	var done queue.Changed
	if code, text := ask(t, c, "POST", "http://x/v1/remove", `{"ids":["`+ids[1]+`","unknown"]}`, &done); code != 200 || done.Jobs != 1 {
		t.Fatal(code, text)
	}
	if st := p.Stats(); st.Removed != 1 || st.Pending != 3 {
		t.Errorf("%+v", st)
	}
}

func TestAControlRequestThatIsWrong(t *testing.T) {
	t.Parallel()
	p := newProducer(t, queue.Config{Redis: server(away), SpoolDir: t.TempDir()})
	enqueue(t, p, 1)
	all := httptest.NewServer(p.Handler(queue.MayChange, queue.MaySeePayloads))
	defer all.Close()
	look := httptest.NewServer(p.Handler())
	defer look.Close()
	for _, c := range []struct {
		url, method, path, body string
		want                    int
	}{
		{look.URL, "GET", "/v1/status", "", 200},
		{look.URL, "GET", "/v1/jobs", "", 200},
		{look.URL, "GET", "/v1/jobs?payload=true", "", 403},
		{look.URL, "POST", "/v1/remove", "{}", 403},
		{look.URL, "POST", "/v1/retry", "{}", 403},
		{look.URL, "POST", "/v1/drain", "{}", 403},
		{look.URL, "POST", "/v1/backup", "{}", 403},
		{look.URL, "GET", "/v1/verify", "", 403},
		{look.URL, "GET", "/v2/status", "", 404},
		{look.URL, "GET", "/v1/remove", "", 405},
		{all.URL, "GET", "/v1/jobs?limit=0", "", 400},
		{all.URL, "GET", "/v1/jobs?limit=1001", "", 400},
		{all.URL, "GET", "/v1/jobs?cursor=nonsense", "", 500},
		{all.URL, "GET", "/v1/jobs?older_than=old", "", 400},
		{all.URL, "GET", "/v1/jobs?in_doubt=perhaps", "", 400},
		{all.URL, "GET", "/v1/jobs?payload=perhaps", "", 400},
		{all.URL, "POST", "/v1/remove", `{"queues":"all"}`, 400}, // a misspelled filter must not pick all
		{all.URL, "POST", "/v1/remove", "", 400},
	} {
		if code, text := ask(t, http.DefaultClient, c.method, c.url+c.path, c.body, new(any)); code != c.want {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, code, text, c.want)
		}
	}
	resp, err := http.Post(all.URL+"/v1/remove", "text/plain", strings.NewReader("{}")) // as a web page can make a browser do
	must(t, err)
	must(t, resp.Body.Close())
	if resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("of a web page: %d", resp.StatusCode)
	}
	if st := p.Stats(); st.Pending != 1 {
		t.Errorf("%+v", st)
	}
	closeProducer(t, p)
	if code, text := ask(t, http.DefaultClient, "GET", all.URL+"/v1/jobs", "", new(any)); code != http.StatusServiceUnavailable {
		t.Errorf("after Close: %d %s", code, text)
	}
}

// TestARequestWhoseCallerHasLeft: what reads the whole spool ends when nobody waits for it.
func TestARequestWhoseCallerHasLeft(t *testing.T) {
	t.Parallel()
	p := newProducer(t, queue.Config{Redis: server(away), SpoolDir: t.TempDir()})
	enqueue(t, p, 1)
	gone, leave := context.WithCancel(t.Context())
	leave()
	h := p.Handler(queue.MayChange)
	for _, path := range []string{"/v1/jobs?type=none", "/v1/jobs?dead=true", "/v1/verify"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(gone, http.MethodGet, path, nil))
		if w.Code == http.StatusOK || !strings.Contains(w.Body.String(), context.Canceled.Error()) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// TestSocketWithALongPath: an address of a socket holds some hundred bytes.
func TestSocketWithALongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	newProducer(t, queue.Config{Redis: server(away), SpoolDir: dir})
	path := socketOf(t, dir)
	if len(path) < 150 {
		t.Fatal(path)
	}
	var st queue.Status
	if code, text := ask(t, overSocket(t, path), "GET", "http://x/v1/status", "", &st); code != 200 {
		t.Fatal(code, text)
	}
}

// TestCloseEndsADrainOverTheSocket: neither waits for the other, and the socket is gone.
func TestCloseEndsADrainOverTheSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newProducer(t, queue.Config{Redis: server(away), SpoolDir: dir})
	enqueue(t, p, 1)
	path := socketOf(t, dir)
	answered := make(chan int, 1)
	c := overSocket(t, path)
	go func() {
		code, _ := ask(t, c, "POST", "http://x/v1/drain", "{}", new(any))
		answered <- code
	}()
	eventually(t, "it drains", p.Draining)
	closeProducer(t, p)
	if code := <-answered; code != http.StatusServiceUnavailable {
		t.Errorf("the drain: %d", code)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket: %v", err)
	}
}

// TestAStaleSocketGoesWithItsOwner: a process that was killed leaves its socket.
func TestAStaleSocketGoesWithItsOwner(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	leave(t, dir, asynq.NewTask("t", nil))
	stale := socketOf(t, dir)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", stale)
	must(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	must(t, l.Close())
	p := newProducer(t, queue.Config{Redis: server(r.Addr()), SpoolDir: dir, Target: "t"})
	drain(t, p)
	if _, err := os.Stat(filepath.Dir(stale)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead owner: %v", err)
	}
}

func TestOfflineHoldsWhatDeadOwnersOfAnyTargetLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ids := leave(t, dir, asynq.NewTask("t", []byte("p")))
	other := newProducer(t, queue.Config{Redis: server(away), SpoolDir: dir, Target: "other"})
	ids = append(ids, enqueue(t, other, 1)...)
	closeProducer(t, other)
	living := newProducer(t, queue.Config{Redis: server(away), SpoolDir: dir, Target: "third"})
	enqueue(t, living, 1)
	o, err := queue.OpenOffline(dir, nil)
	must(t, err)
	t.Cleanup(func() { _ = o.Close() })
	srv := httptest.NewServer(o.Handler())
	defer srv.Close()
	var page queue.JobPage
	ask(t, http.DefaultClient, "GET", srv.URL+"/v1/jobs", "", &page)
	got := []string{}
	for _, j := range page.Jobs {
		got = append(got, j.ID)
	}
	wantOnce(t, got, ids)
	var done queue.Changed
	if ask(t, http.DefaultClient, "POST", srv.URL+"/v1/remove", `{"ids":["`+ids[0]+`"]}`, &done); done.Jobs != 1 {
		t.Errorf("%+v", done)
	}
	if code, _ := ask(t, http.DefaultClient, "POST", srv.URL+"/v1/drain", "{}", new(any)); code != http.StatusNotImplemented {
		t.Errorf("drain: %d", code)
	}
	must(t, o.Close())
	must(t, o.Close())
	if code, _ := ask(t, http.DefaultClient, "GET", srv.URL+"/v1/jobs", "", &page); code != http.StatusServiceUnavailable {
		t.Errorf("closed: %d", code)
	}
	owners, err := spool.Inspect(dir)
	if err != nil || len(owners) != 2 || owners[0].Alive || owners[0].Pending != 1 {
		t.Errorf("%+v, %v", owners, err)
	}
}
