package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/jobspool/jobspool/queue"
)

// stopper cancels a context once so many requests of a path were answered.
type stopper struct {
	http.Handler

	path   string
	after  int
	cancel context.CancelFunc
}

func (s *stopper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Handler.ServeHTTP(w, r)
	if strings.HasPrefix(r.URL.Path, s.path) {
		if s.after--; s.after == 0 {
			s.cancel()
		}
	}
}

// stoppingSurvey is one of a dead owner's 2500 jobs that is interrupted at its second page.
func stoppingSurvey(t *testing.T, path string) (*survey, context.Context) {
	t.Helper()
	dir := t.TempDir()
	p := newSpooler(t, dir, away)
	spoolMany(t, p, 2500)
	closeProducer(t, p)
	o, err := queue.OpenOffline(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	h := &stopper{Handler: o.Handler(), path: path, after: 2, cancel: cancel}
	d := &desk{name: "dead owners", client: &http.Client{Transport: inProcess{h}}}
	return &survey{desks: &desks{all: []*desk{d}, offline: o}, err: &bytes.Buffer{}}, ctx
}

// TestChangeIsInterruptedBetweenPages: what was done by then is told.
func TestChangeIsInterruptedBetweenPages(t *testing.T) {
	t.Parallel()
	s, ctx := stoppingSurvey(t, "/v1/remove")
	n, err := s.change(ctx, "remove", queue.Filter{})
	if n != 2000 || !errors.Is(err, context.Canceled) || s.partial() {
		t.Errorf("%d, %v, %v", n, err, s.mute)
	}
	left := 0
	err = s.jobs(t.Context(), queue.Filter{}, false, func(queue.Job) error {
		left++
		return nil
	})
	if left != 500 || err != nil {
		t.Errorf("%d left, %v", left, err)
	}
}

// TestInterruptedListIsADocument all the same.
func TestInterruptedListIsADocument(t *testing.T) {
	t.Parallel()
	s, ctx := stoppingSurvey(t, "/v1/jobs")
	var out bytes.Buffer
	err := lister{flags: common{json: true}, out: &out, err: &bytes.Buffer{}}.list(ctx, s)
	var doc struct {
		Jobs []queue.Job
		More bool
	}
	if jerr := json.Unmarshal(out.Bytes(), &doc); jerr != nil || !errors.As(err, new(leftError)) || len(doc.Jobs) != 1000 || !doc.More {
		t.Errorf("%v, %v: %d jobs", err, jerr, len(doc.Jobs))
	}
}
