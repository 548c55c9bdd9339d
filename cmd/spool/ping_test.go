package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue/redistest"
)

func TestPing(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	uri := "redis://" + r.Addr()
	code, stdout, stderr := spoolCommand(t.Context(), "ping", "--redis", uri)
	if code != exitOK || !strings.HasPrefix(stdout, "Redis "+uri+"/0 takes writes (") || stderr != "" {
		t.Errorf("%d, %q, %q", code, stdout, stderr)
	}
	code, stdout, _ = spoolCommand(t.Context(), "ping", "--redis", uri, "--json")
	var got pinged
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK || !got.Writable || got.Tries != 1 || got.Target != uri+"/0" {
		t.Errorf("%d, %v: %s", code, err, stdout)
	}
}

// TestPingOfARedisThatTakesNoWrites pings what answers PING with PONG, and what does not
// answer at all.
func TestPingOfARedisThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	full := redistest.Run(t, redistest.Options{Args: []string{"--maxmemory", "1"}})
	replica := redistest.Run(t, redistest.Options{Args: []string{"--replicaof", "127.0.0.1", "1"}})
	frozen := redistest.Run(t, redistest.Options{})
	if err := frozen.Freeze(); err != nil {
		t.Fatal(err)
	}
	for want, addr := range map[string]string{
		"OOM": full.Addr(), "READONLY": replica.Addr(), "connection refused": "127.0.0.1:1", "timeout": frozen.Addr(),
	} {
		code, stdout, stderr := spoolCommand(t.Context(), "ping", "--redis", "redis://:top-secret@"+addr, "--timeout", "300ms")
		if code != exitError || stdout != "" || strings.Contains(stderr, "top-secret") {
			t.Errorf("%s: %d, %q, %q", want, code, stdout, stderr)
		}
		code, stdout, stderr = spoolCommand(t.Context(), "ping", "--redis", "redis://"+addr, "--json", "--timeout", "300ms")
		var got pinged
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitError || got.Writable {
			t.Errorf("%s: %d, %v: %s", want, code, err, stdout)
		}
		if !strings.Contains(got.Error, want) || !strings.Contains(stderr, got.Error) {
			t.Errorf("%s: %q, %q", want, got.Error, stderr)
		}
	}
}

func TestPingWaits(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	stderr, w := io.Pipe()
	type outcome struct {
		code   int
		stdout string
	}
	done := make(chan outcome)
	go func() {
		var out strings.Builder
		code := run(t.Context(), []string{"ping", "--redis", uri, "--wait"}, &out, w)
		_ = w.Close()
		done <- outcome{code, out.String()}
	}()
	line := make([]byte, 1<<10)
	n, err := stderr.Read(line) // it has tried
	if err != nil || !strings.Contains(string(line[:n]), "waiting for "+uri+"/0: ") || !strings.Contains(string(line[:n]), "connection refused") {
		t.Fatalf("%v: %q", err, line[:n])
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	if got := <-done; got.code != exitOK || !strings.Contains(got.stdout, "takes writes") {
		t.Errorf("%+v", got)
	}
}

func TestPingGivesUp(t *testing.T) {
	t.Parallel()
	_, uri := downServer(t)
	code, stdout, stderr := spoolCommand(t.Context(), "ping", "--redis", uri, "--wait", "--timeout", "500ms", "--json")
	var got pinged
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitError || got.Tries < 2 || !strings.Contains(got.Error, "refused") {
		t.Errorf("%d, %v: %s", code, err, stdout)
	}
	if n := strings.Count(stderr, "waiting for"); n != 1 {
		t.Errorf("the same error %d times:\n%s", n, stderr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, _, stderr := spoolCommand(ctx, "ping", "--redis", uri, "--wait"); code != exitError || !strings.Contains(stderr, "interrupted") {
		t.Errorf("%d, %s", code, stderr)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		try       int
		low, high time.Duration
	}{
		{1, 50 * time.Millisecond, 100 * time.Millisecond},
		{2, 100 * time.Millisecond, 200 * time.Millisecond},
		{6, 1600 * time.Millisecond, 3200 * time.Millisecond},
		{7, mostPause / 2, mostPause},
		{1000, mostPause / 2, mostPause},
	} {
		if low, high := pauseAfter(c.try, 0), pauseAfter(c.try, 1); low != c.low || high != c.high {
			t.Errorf("try %d: %v to %v, want %v to %v", c.try, low, high, c.low, c.high)
		}
	}
}

func TestTimeoutOfPing(t *testing.T) {
	t.Parallel()
	if got := timeoutOf(pingTimeout, false, false); got != pingTimeout {
		t.Errorf("without --wait: %v", got)
	}
	if got := timeoutOf(pingTimeout, true, false); got != 0 {
		t.Errorf("with --wait: %v", got)
	}
	if got := timeoutOf(time.Minute, true, true); got != time.Minute {
		t.Errorf("with --wait --timeout: %v", got)
	}
}

func TestWithoutLocalPort(t *testing.T) {
	t.Parallel()
	const want = "queue: probe: read tcp 127.0.0.1:6379: i/o timeout"
	if got := withoutLocalPort("queue: probe: read tcp 127.0.0.1:33344->127.0.0.1:6379: i/o timeout"); got != want {
		t.Error(got)
	}
}

func TestPingUsage(t *testing.T) {
	t.Setenv("REDIS_URL", "")
	for _, line := range []string{
		"ping", "ping --redis redis://:secret@h:x", "ping --redis redis://h --timeout 0",
		"ping --redis redis://h --timeout -1s --wait", "ping --redis redis://h --dir x", "ping redis://h",
	} {
		code, stdout, stderr := spoolCommand(t.Context(), strings.Fields(line)...)
		if code != exitUsage || stdout != "" || stderr == "" || strings.Contains(stderr, "secret") {
			t.Errorf("%s: %d, %q, %q", line, code, stdout, stderr)
		}
	}
}
