package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// normal replaces what differs from run to run: directories, addresses, ids, times and the
// width of columns.
func normal(text, dir, addr string) string {
	text = strings.NewReplacer(dir, "DIR", addr, "ADDR").Replace(text)
	for _, r := range [][2]string{
		{`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "ID"},
		{`"duration_ms": [0-9.]+`, `"duration_ms": N`},
		{`\b[0-9.]+(ns|µs|ms|s)\b`, "N"},
		{`[ ]{2,}`, "  "},
		{`"[0-9-]+T[0-9:.]+(Z|[+-][0-9:]+)"`, "TIME"},
	} {
		text = regexp.MustCompile(r[0]).ReplaceAllString(text, r[1])
	}
	return text
}

func wantText(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

// enqueueCommand runs spool enqueue with a task of type t, and more flags.
func enqueueCommand(ctx context.Context, dir, uri string, flags ...string) (code int, stdout, stderr string) {
	return spoolCommand(ctx, append([]string{"enqueue", "--dir", dir, "--redis", uri, "--type", "t"}, flags...)...)
}

// pipedCommand is spoolCommand with a standard input.
func pipedCommand(ctx context.Context, in io.Reader, args ...string) error {
	root, _ := newRootCommand() //nolint:contextcheck // cobra hands it to the commands
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	return root.ExecuteContext(ctx)
}

func inspectorOf(t *testing.T, addr string) *asynq.Inspector {
	t.Helper()
	i := asynq.NewInspector(asynq.RedisClientOpt{Addr: addr})
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func taskInfo(t *testing.T, addr, name, id string) *asynq.TaskInfo {
	t.Helper()
	info, err := inspectorOf(t, addr).GetTaskInfo(name, id)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestEnqueueGoesToRedis(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := filepath.Join(t.TempDir(), "spool")
	uri := "redis://" + r.Addr()
	code, stdout, stderr := enqueueCommand(t.Context(), dir, uri, "--payload", "top secret")
	wantText(t, "up", normal(stdout, dir, r.Addr()), "ID in queue default: redis\n")
	if code != exitOK || stderr != "" {
		t.Errorf("%d, %s", code, stderr)
	}
	code, stdout, stderr = enqueueCommand(t.Context(), dir, uri, "--payload", "top secret", "--process-in", "1h", "--json")
	wantText(t, "up, as JSON", normal(stdout, dir, r.Addr()), `{
  "id": "ID",
  "queue": "default",
  "type": "t",
  "state": "scheduled",
  "where": "redis",
  "process_at": TIME
}
`)
	if code != exitOK || stderr != "" {
		t.Errorf("%d, %s", code, stderr)
	}
	if n := inRedis(t, r.Addr()); n != 1 {
		t.Errorf("%d pending in Redis", n)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("left on disk: %v", left)
	}
}

func TestEnqueueSpoolsWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	dir := filepath.Join(t.TempDir(), "spool")
	code, stdout, stderr := enqueueCommand(t.Context(), dir, uri, "--payload", "top secret")
	wantText(t, "down", normal(stdout, dir, r.Addr()), "ID in queue default: spool\n")
	wantText(t, "down, stderr", normal(stderr, dir, r.Addr()), `Redis: dial tcp ADDR: connect: connection refused
The task is safe in DIR. A service that runs with it sends the task, or 'spool drain' does.
`)
	if code != exitOK {
		t.Errorf("exit code %d", code)
	}
	code, stdout, stderr = enqueueCommand(t.Context(), dir, uri, "--payload", "top secret", "--json")
	wantText(t, "down, as JSON", normal(stdout, dir, r.Addr()), `{
  "id": "ID",
  "queue": "default",
  "type": "t",
  "state": "pending",
  "where": "spool",
  "cause": "dial tcp ADDR: connect: connection refused"
}
`)
	if code != exitOK || stderr != "" {
		t.Errorf("%d, %s", code, stderr)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri); code != exitOK || !strings.Contains(stdout, "2 sent") {
		t.Errorf("drain: %d, %s", code, stdout)
	}
	if n := inRedis(t, r.Addr()); n != 2 {
		t.Errorf("%d pending in Redis", n)
	}
}

func TestEnqueueInDoubtIsSentOnce(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir, uri := t.TempDir(), "redis://"+r.Addr()
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := enqueueCommand(t.Context(), dir, uri)
	// Frozen, it accepts connections: the command may have gone before the answer to HELLO or not.
	if where := normal(stdout, dir, r.Addr()); code != exitOK || where != "ID in queue default: in doubt\n" && where != "ID in queue default: spool\n" ||
		!strings.Contains(stderr, "is safe in "+dir) {
		t.Errorf("%d, %s, %s", code, stdout, stderr)
	}
	if err := r.Thaw(); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri); code != exitOK {
		t.Errorf("drain: %d, %s, %s", code, stdout, stderr)
	}
	if n := inRedis(t, r.Addr()); n != 1 {
		t.Errorf("%d pending in Redis", n)
	}
}

// TestEnqueueFlagsAreAsynqsOptions enqueues the same with asynq and by the command, live and
// through the spool.
func TestEnqueueFlagsAreAsynqsOptions(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	dir, uri := t.TempDir(), "redis://"+r.Addr()
	deadline, at := time.Now().Add(2*time.Hour).Truncate(time.Second), time.Now().Add(time.Hour).Truncate(time.Second)
	flags := func(id string) []string {
		return []string{
			"--queue", "q", "--task-id", id, "--max-retry", "3", "--timeout", "90s", "--deadline", deadline.Format(time.RFC3339),
			"--process-at", at.Format(time.RFC3339), "--retention", "2m", "--group", "g", "--max-spool-age", "1h",
			"--header", "a=1,2", "--header", "b=c=d", "--payload", "p",
		}
	}
	want := func(id string) {
		t.Helper()
		got := taskInfo(t, r.Addr(), "q", id)
		if got.Type != "t" || string(got.Payload) != "p" || got.MaxRetry != 3 || got.Timeout != 90*time.Second || !got.Deadline.Equal(deadline) ||
			!got.NextProcessAt.Equal(at) || got.State != asynq.TaskStateScheduled || got.Retention != 2*time.Minute || got.Group != "g" ||
			len(got.Headers) != 2 || got.Headers["a"] != "1,2" || got.Headers["b"] != "c=d" {
			t.Errorf("%s: %+v", id, got)
		}
	}
	if code, _, stderr := enqueueCommand(t.Context(), dir, uri, flags("live")...); code != exitOK {
		t.Fatal(stderr)
	}
	want("live")
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := enqueueCommand(t.Context(), dir, uri, flags("spooled")...); code != exitOK || !strings.Contains(stdout, "spooled in queue q: spool") {
		t.Fatal(stdout, stderr)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri); code != exitOK {
		t.Fatal(stderr)
	}
	want("spooled")

	// Without flags, asynq's defaults.
	if code, _, stderr := enqueueCommand(t.Context(), dir, uri, "--task-id", "plain"); code != exitOK {
		t.Fatal(stderr)
	}
	if got := taskInfo(t, r.Addr(), "default", "plain"); got.MaxRetry != 25 || got.Timeout != 30*time.Minute || len(got.Payload)+len(got.Headers) != 0 ||
		got.Retention != 0 || !got.Deadline.IsZero() {
		t.Errorf("without flags: %+v", got)
	}
}

func TestEnqueueRefusesTwins(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	dir, uri := t.TempDir(), "redis://"+r.Addr()
	for flags, want := range map[string]string{
		"--task-id a":  "spool: not enqueued: a task with this id exists: a in queue default\n",
		"--unique 30m": "spool: not enqueued: a task with this type, payload and queue holds the unique lock: t in queue default\n",
	} {
		if code, _, stderr := enqueueCommand(t.Context(), dir, uri, strings.Fields(flags)...); code != exitOK {
			t.Fatal(stderr)
		}
		code, stdout, stderr := enqueueCommand(t.Context(), dir, uri, strings.Fields(flags)...)
		if code != exitError || stdout != "" || stderr != want {
			t.Errorf("%s: %d, %q, %q", flags, code, stdout, stderr)
		}
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	// Its twin in Redis is not known now.
	if code, stdout, _ := enqueueCommand(t.Context(), dir, uri, "--unique", "30m"); code != exitOK || !strings.Contains(stdout, "spool") {
		t.Errorf("%d, %s", code, stdout)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri); code != exitOK || !strings.Contains(stdout, "1 superseded") {
		t.Errorf("drain: %d, %s", code, stdout)
	}
}

func TestEnqueueReadsThePayload(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir, uri := t.TempDir(), "redis://"+r.Addr()
	file, large := filepath.Join(t.TempDir(), "payload"), filepath.Join(t.TempDir(), "large")
	if err := errors.Join(os.WriteFile(file, []byte("of a file\n"), 0o600), os.WriteFile(large, make([]byte, queue.DefaultMaxTaskBytes+1), 0o600)); err != nil {
		t.Fatal(err)
	}
	base := []string{"enqueue", "--dir", dir, "--redis", uri, "--type", "t", "--task-id"}
	if err := pipedCommand(t.Context(), strings.NewReader("of a pipe\x00"), append(base, "pipe", "--payload-file", "-")...); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := spoolCommand(t.Context(), append(base, "file", "--payload-file", file)...); code != exitOK {
		t.Fatal(stderr)
	}
	for id, want := range map[string]string{"pipe": "of a pipe\x00", "file": "of a file\n"} {
		if got := taskInfo(t, r.Addr(), "default", id); string(got.Payload) != want {
			t.Errorf("%s: %q", id, got.Payload)
		}
	}
	for path, want := range map[string]string{large: "larger than 1048576 bytes", file + ".not": "no such file"} {
		code, stdout, stderr := spoolCommand(t.Context(), append(base, "x", "--payload-file", path)...)
		if code != exitError || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%d, %q, %q", code, stdout, stderr)
		}
	}
}

func TestEnqueueIsInterrupted(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	in, silent := io.Pipe()
	defer func() { _ = silent.Close() }() // ends the read that is left behind
	ended := make(chan error)
	go func() {
		ended <- pipedCommand(ctx, in, "enqueue", "--dir", dir, "--redis", uri, "--type", "t", "--payload-file", "-")
	}()
	if _, err := silent.Write([]byte("half of")); err != nil { // it reads
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "interrupted; nothing was enqueued") {
		t.Errorf("while it reads: %v", err)
	}
	code, stdout, stderr := enqueueCommand(ctx, dir, uri)
	if code != exitError || stdout != "" || stderr != "spool: interrupted; nothing was enqueued\n" {
		t.Errorf("%d, %q, %q", code, stdout, stderr)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("left on disk, for %s: %v", r.Addr(), left)
	}
}

func TestEnqueueWithNoSpoolFails(t *testing.T) {
	t.Parallel()
	_, uri := downServer(t)
	dir := t.TempDir()
	code, stdout, stderr := enqueueCommand(t.Context(), dir, uri, "--no-spool")
	if code != exitError || stdout != "" || !strings.Contains(stderr, queue.ErrUnavailable.Error()) {
		t.Errorf("%d, %q, %q", code, stdout, stderr)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("left on disk: %v", left)
	}
}

func TestEnqueueCalledWrongly(t *testing.T) {
	t.Setenv("SPOOL_DIR", "")
	t.Setenv("REDIS_URL", "")
	dir := filepath.Join(t.TempDir(), "spool")
	place := "--dir " + dir + " --redis redis://:pass@127.0.0.1:1 "
	for _, line := range []string{
		"--type t", "--type t --dir " + dir, "--type t --redis redis://127.0.0.1:1", place, place + "--type=", place + "--type t extra",
		place + "--type t --payload secret --payload-file -", place + "--type t --process-in 1s --process-at 2026-11-23T20:00:00Z",
		place + "--type t --process-at tomorrow", place + "--type t --deadline=", place + "--type t --max-retry -1", place + "--type t --timeout -1s",
		place + "--type t --process-in -1s", place + "--type t --retention -1s", place + "--type t --unique 1ms", place + "--type t --max-spool-age 0",
		place + "--type t --no-spool --max-spool-age 1h", place + "--type t --header secret", place + "--type t --header =secret",
		place + "--type t --header a=secret --header a=secret", place + "--type t --unique soon",
	} {
		code, stdout, stderr := spoolCommand(t.Context(), append([]string{"enqueue"}, strings.Fields(line)...)...)
		if code != exitUsage || stdout != "" || stderr == "" || strings.Contains(stderr, "secret") || strings.Contains(stderr, "pass") {
			t.Errorf("%s: %d, %q, %q", line, code, stdout, stderr)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s was created: %v", dir, err)
	}
	if code, stdout, stderr := spoolCommand(t.Context(), "enqueue", "--help"); code != exitOK || !strings.Contains(stdout, "Examples:") || stderr != "" {
		t.Errorf("help: %d, %q, %q", code, stdout, stderr)
	}
}
