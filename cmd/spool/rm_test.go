package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jobspool/jobspool/queue"
)

func TestRmPicks(t *testing.T) {
	t.Parallel()
	const all = "old-0 old-1 old-2 new-0 new-1 new-2 img-0"
	for _, c := range []struct{ line, says, left string }{
		{"rm old-1 --yes", "1 pending job of queue mail removed", "old-0 old-2 new-0 new-1 new-2 img-0"},
		{"rm old-1 old-1 new-2 -y", "2 pending jobs of 2 queues removed", "old-0 old-2 new-0 new-1 img-0"},
		{"rm --queue mail --yes", "3 pending jobs of queue mail removed", "new-0 new-1 new-2 img-0"},
		{"rm --queue default --type shrink --yes", "1 pending job of queue default removed", "old-0 old-1 old-2 new-0 new-1 new-2"},
		{"rm --all --yes", "7 pending jobs of 2 queues removed", ""},
		{"rm --older-than 1h --yes", "0 pending jobs removed", all},
		{"rm --in-doubt --yes", "0 pending jobs removed", all},
		{"rm --all --dry-run", "7 pending jobs of 2 queues would be removed", all},
		{"rm --queue mail --dry-run", "3 pending jobs of queue mail would be removed", all},
		{"dead rm --all --yes", "0 dead letters removed", all},
		{"dead retry --all", "0 dead letters made pending again", all},
	} {
		t.Run(c.line, func(t *testing.T) {
			places(t, func(t *testing.T, dir string) {
				t.Helper()
				code, stdout, stderr := spoolCommand(t.Context(), append(strings.Fields(c.line), "--dir", dir)...)
				if code != exitOK || stdout != c.says+"\n" || stderr != "" {
					t.Errorf("%d, %q, %q", code, stdout, stderr)
				}
				wantIDs(t, c.left, "ls", "--dir", dir)
			})
		})
	}
}

// TestRmUnknown: what is known is removed all the same.
func TestRmUnknown(t *testing.T) {
	t.Parallel()
	places(t, func(t *testing.T, dir string) {
		t.Helper()
		code, stdout, stderr := spoolCommand(t.Context(), "rm", "nobody", "old-0", "no\aone", "--yes", "--dir", dir)
		if code != exitError || stdout != "1 pending job of queue mail removed\n" || stderr != `spool: no pending job that is picked has the id nobody, "no\aone"`+"\n" {
			t.Errorf("%d, %q, %q", code, stdout, stderr)
		}
		code, _, stderr = spoolCommand(t.Context(), "rm", "old-1", "--queue", "default", "--yes", "--dir", dir)
		if code != exitError || !strings.Contains(stderr, "old-1") {
			t.Errorf("%d, %q", code, stderr)
		}
		wantIDs(t, "old-1 old-2 new-0 new-1 new-2 img-0", "ls", "--dir", dir)
	})
}

func TestRmJSON(t *testing.T) {
	t.Parallel()
	places(t, func(t *testing.T, dir string) {
		t.Helper()
		for _, c := range []struct {
			line, want string
			code       int
		}{
			{"rm --queue mail --dry-run", `{"matched":3,"in_doubt":0,"dry_run":true,"unknown":[],"left_out":[]}`, exitOK},
			{"rm --queue mail --yes", `{"matched":3,"in_doubt":0,"removed":3,"dry_run":false,"unknown":[],"left_out":[]}`, exitOK},
			{"dead retry x", `{"matched":0,"in_doubt":0,"retried":0,"dry_run":false,"unknown":["x"],"left_out":[]}`, exitError},
		} {
			code, stdout, _ := spoolCommand(t.Context(), append(strings.Fields(c.line), "--json", "--dir", dir)...)
			var got changed
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatal(err)
			}
			if b, err := json.Marshal(got); err != nil || code != c.code || string(b) != c.want {
				t.Errorf("%s: %d, %v\n%s\nwant %s", c.line, code, err, b, c.want)
			}
		}
	})
}

func TestRmUsage(t *testing.T) {
	t.Parallel()
	dir := twoOwners(t, 1)
	for _, line := range []string{
		"rm", "rm --yes", "rm --all", "rm --all --queue mail --yes", "rm old-0", "rm --all old-0 --yes", "rm --queue mail", "rm --older-than -1h --yes",
		"rm --older-than soon", "rm --reason x --yes", "dead rm", "dead rm --all", "dead retry", "dead retry --yes", "dead retry --all x",
		"ls extra", "ls --limit -1", "ls --older-than -1h", "ls --reason x", "show", "show a b", "dead show", "dead ls x", "dead nonsense",
	} {
		code, stdout, stderr := spoolCommand(t.Context(), append(strings.Fields(line), "--dir", dir)...)
		if code != exitUsage || stdout != "" || stderr == "" {
			t.Errorf("%s: %d, %q, %q", line, code, stdout, stderr)
		}
	}
	wantIDs(t, "old-0 old-1 old-2 new-0 new-1 new-2 img-0", "ls", "--dir", dir)
	for _, line := range []string{"dead", "ls --help", "show --help", "rm --help", "dead ls --help", "dead show --help", "dead retry --help", "dead rm --help"} {
		if code, stdout, _ := spoolCommand(t.Context(), strings.Fields(line)...); code != exitOK || !strings.Contains(stdout, "Examples:") {
			t.Errorf("%s: %d, %q", line, code, stdout)
		}
	}
	for _, line := range []string{"ls", "show x", "rm --all --yes", "dead ls", "dead show x", "dead retry --all", "dead rm --all --yes"} {
		typo := filepath.Join(dir, "typo")
		code, stdout, stderr := spoolCommand(t.Context(), append(strings.Fields(line), "--dir", typo)...)
		if _, err := os.Stat(typo); code != exitError || stdout != "" || !strings.Contains(stderr, "does not exist") || err == nil {
			t.Errorf("%s: %d, %q, %q, %v", line, code, stdout, stderr, err)
		}
	}
}

// TestRmTwiceAtOnce: two commands at once remove each job once. What one of them holds of
// the dead owner the other says it cannot see.
func TestRmTwiceAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	living := newSpooler(t, dir, away)
	spoolMany(t, living, 2500)
	dead := newSpooler(t, dir, "127.0.0.1:2")
	spoolMany(t, dead, 2500)
	closeProducer(t, dead)
	var wg sync.WaitGroup
	var removed [2]int
	for i := range removed {
		wg.Go(func() {
			code, stdout, stderr := spoolCommand(t.Context(), "rm", "--all", "--yes", "--json", "--dir", dir)
			var got changed
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Errorf("%d, %v\n%s%s", code, err, stdout, stderr)
				return
			}
			if removed[i] = *got.Removed; code != exitOK && (code != exitLeft || len(got.LeftOut) == 0) {
				t.Errorf("%d\n%s%s", code, stdout, stderr)
			}
		})
	}
	wg.Wait()
	if n := removed[0] + removed[1]; n != 5000 {
		t.Errorf("%v removed, want 5000 in all", removed)
	}
	wantIDs(t, "", "ls", "--dir", dir)
	if st := living.Stats(); st.Removed != 2500 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}

// TestInterrupted commands say what they did, and leave the rest.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	dir := twoOwners(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, line := range []string{"rm --all --yes", "dead retry --all", "ls"} {
		code, _, stderr := spoolCommand(ctx, append(strings.Fields(line), "--dir", dir)...)
		if code != exitLeft || !strings.Contains(stderr, "interrupted") {
			t.Errorf("%s: %d, %q", line, code, stderr)
		}
	}
	wantIDs(t, "old-0 old-1 old-2 new-0 new-1 new-2 img-0", "ls", "--dir", dir)
}

// TestRmRemovesNoMoreThanWasCounted: what one owner accepts while the next one's jobs are
// counted stays.
func TestRmRemovesNoMoreThanWasCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	producers := map[string]*queue.Producer{}
	for _, addr := range []string{"127.0.0.1:1", "127.0.0.1:2"} {
		p := newSpooler(t, dir, addr)
		spoolJobs(t, p, "before-"+addr, "q", "t", 2)
		producers[addr] = p
	}
	flags := common{dir: dir}
	s, err := flags.openSurvey(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.all[0].status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := s.all[1].client
	below := last.Transport
	var once sync.Once
	last.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		once.Do(func() {
			for addr, p := range producers {
				if p.Stats().Target == first.Stats.Target {
					spoolJobs(t, p, "late", "q", "t", 1)
					delete(producers, addr)
				}
			}
			for _, p := range producers {
				spoolJobs(t, p, "later", "q", "t", 1)
			}
		})
		return below.RoundTrip(r)
	})
	c := changer{what: removing}
	sel, err := c.count(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.change(t.Context(), string(removing), sel.filter)
	if err != nil || sel.jobs != 4 || n != 4 {
		t.Errorf("%d counted, %d removed, %v", sel.jobs, n, err)
	}
	wantIDs(t, "late-0 later-0", "ls", "--dir", dir)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestRmOfAnOwnerThatFailsInBetween: its jobs were not gone.
func TestRmOfAnOwnerThatFailsInBetween(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newSpooler(t, dir, away)
	spoolJobs(t, p, "job", "q", "t", 2)
	flags := common{dir: dir}
	s, err := flags.openSurvey(t.Context(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c := changer{what: removing, out: io.Discard}
	sel, err := c.count(t.Context(), s, []string{"job-0"})
	if err != nil || sel.jobs != 1 {
		t.Fatal(sel, err)
	}
	s.all[0].client.Transport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })
	if err := c.change(t.Context(), s, sel, true); !errors.As(err, new(leftError)) || !strings.Contains(err.Error(), "did not answer") {
		t.Error(err)
	}
}
