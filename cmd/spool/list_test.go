package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
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

// away is the address of a Redis that is never there.
const away = "127.0.0.1:1"

// secret is in every payload and header of these tests.
const secret = "top-secret-4711"

// newSpooler returns a Producer for a Redis that is down.
func newSpooler(t *testing.T, dir, addr string) *queue.Producer {
	t.Helper()
	p, err := queue.New(queue.Config{
		Redis: asynq.RedisClientOpt{Addr: addr}, SpoolDir: dir, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// spoolJobs spools n jobs of a queue and type, called name-0 and so on.
func spoolJobs(t *testing.T, p *queue.Producer, name, queueName, typename string, n int, opts ...asynq.Option) {
	t.Helper()
	for i := range n {
		id := fmt.Sprintf("%s-%d", name, i)
		task := asynq.NewTaskWithHeaders(typename, []byte(secret), map[string]string{"h": secret})
		if _, err := p.Enqueue(task, append(opts, asynq.TaskID(id), asynq.Queue(queueName))...); err != nil {
			t.Fatal(err)
		}
	}
}

// spoolMany spools n jobs with ids that asynq mints, quickly.
func spoolMany(t *testing.T, p *queue.Producer, n int) (ids []string) {
	t.Helper()
	tasks := make([]*asynq.Task, n)
	for i := range tasks {
		tasks[i] = asynq.NewTask("t", []byte(secret))
	}
	infos, err := p.EnqueueBatch(t.Context(), tasks)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		ids = append(ids, info.ID)
	}
	return ids
}

// places are the ways in which a spool of two owners can be held: what a test does must
// come out the same in each of them.
func places(t *testing.T, test func(t *testing.T, dir string)) {
	t.Helper()
	for _, living := range []int{0, 1, 2} {
		t.Run(fmt.Sprintf("%d of 2 owners alive", living), func(t *testing.T) {
			t.Parallel()
			test(t, twoOwners(t, living))
		})
	}
}

// twoOwners returns a spool with 3 jobs of a first owner, old-0 to old-2, and 4 of a second.
// They are of two targets: else the second would adopt the first.
func twoOwners(t *testing.T, living int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	first, second := newSpooler(t, dir, away), newSpooler(t, dir, "127.0.0.1:2")
	spoolJobs(t, first, "old", "mail", "send", 3)
	spoolJobs(t, second, "new", "default", "resize", 3)
	spoolJobs(t, second, "img", "default", "shrink", 1)
	if living < 2 {
		closeProducer(t, second)
	}
	if living < 1 {
		closeProducer(t, first)
	}
	return dir
}

// listedIDs returns the ids in a list as JSON.
func listedIDs(t *testing.T, args ...string) (ids []string, more bool) {
	t.Helper()
	code, stdout, stderr := spoolCommand(t.Context(), append(args, "--json")...)
	var doc struct {
		Jobs []queue.Job
		More bool
	}
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || code != exitOK || strings.Contains(stdout+stderr, secret) {
		t.Fatalf("%v: %d, %v\n%s%s", args, code, err, stdout, stderr)
	}
	for _, j := range doc.Jobs {
		ids = append(ids, j.ID)
	}
	return ids, doc.More
}

func wantIDs(t *testing.T, want string, args ...string) {
	t.Helper()
	if got, more := listedIDs(t, args...); strings.Join(got, " ") != want || more {
		t.Errorf("%v: %q, more: %v; want %q", args, got, more, want)
	}
}

func TestLsPicks(t *testing.T) {
	t.Parallel()
	const all = "old-0 old-1 old-2 new-0 new-1 new-2 img-0"
	places(t, func(t *testing.T, dir string) {
		t.Helper()
		for flags, want := range map[string]string{
			"":                            all,
			"--queue mail":                "old-0 old-1 old-2",
			"--type resize":               "new-0 new-1 new-2",
			"--queue default --type send": "",
			"--older-than 1h":             "",
			"--older-than 1ns":            all,
			"--in-doubt":                  "",
			"--limit 7":                   all,
			"--limit 0":                   all,
		} {
			wantIDs(t, want, append([]string{"ls", "--dir", dir}, strings.Fields(flags)...)...)
		}
		if got, more := listedIDs(t, "ls", "--dir", dir, "--limit", "4"); len(got) != 4 || !more {
			t.Errorf("%q, more: %v", got, more)
		}
		code, stdout, stderr := spoolCommand(t.Context(), "ls", "--dir", dir, "--limit", "4")
		if code != exitOK || strings.Count(stdout, "\n") != 5 || !strings.Contains(stderr, "more than these 4: --limit 0") {
			t.Errorf("%d\n%s%s", code, stdout, stderr)
		}
	})
}

// normalList returns output without what differs from run to run.
func normalList(s string) string {
	for _, r := range [][2]string{
		{`\d{8}T\d{6}\.\d{3}-[0-9a-f]{8}`, "OWNER"},
		{`\d{4}-\d\d-\d\dT[0-9:]+(\.\d+)?(Z|[+-]\d\d:\d\d)`, "TIME"},
		{`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "00000000-0000-0000-0000-000000000000"},
		{`\b[0-9a-f]{8}(\s)`, "OWNERTAG$1"},
		{`\b\d+s\b`, "AGE"},
		{`size  +\d+ B`, "size SIZE"},
		{`\d{3} B`, "SIZE"},
		{`"bytes":( ?)\d+`, `"bytes":${1}0`},
	} {
		s = regexp.MustCompile(r[0]).ReplaceAllString(s, r[1])
	}
	return s
}

// golden compares output with a file; with UPDATE_GOLDEN set it writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	got = normalList(got)
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s: %v\ngot:\n%s\nwant:\n%s", path, err, got, want)
	}
}

// TestListGolden: what people and programs see of a list and of a job.
func TestListGolden(t *testing.T) {
	t.Parallel()
	places(t, func(t *testing.T, dir string) {
		t.Helper()
		for name, line := range map[string]string{
			"ls.txt": "ls", "ls.json": "ls --json --limit 2", "ls_none.txt": "ls --queue none", "ls_none.json": "ls --queue none --json",
			"show.txt": "show old-1", "show.json": "show old-1 --json", "show_payload.txt": "show old-1 --payload",
			"show_payload.json": "show old-1 --payload --json", "dead_ls_none.txt": "dead ls",
		} {
			code, stdout, stderr := spoolCommand(t.Context(), append(strings.Fields(line), "--dir", dir)...)
			if code != exitOK {
				t.Errorf("%s: %d, %s", line, code, stderr)
			}
			golden(t, name, stdout)
			if strings.Contains(stdout+stderr, secret) != strings.Contains(line, "--payload") {
				t.Errorf("%s, and the payload:\n%s%s", line, stdout, stderr)
			}
		}
	})
}

// TestShowEveryOption shows a job that has all of asynq's options and ours.
func TestShowEveryOption(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := newSpooler(t, dir, away)
	binary := []byte{0xff, 0, 'x'}
	_, err := p.Enqueue(asynq.NewTask("bell\a", binary), asynq.TaskID("own"), asynq.MaxRetry(3), asynq.Timeout(time.Minute),
		asynq.Deadline(time.Now().Add(time.Hour)), asynq.Retention(2*time.Hour), asynq.Unique(time.Hour), asynq.ProcessIn(time.Hour), queue.MaxSpoolAge(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := spoolCommand(t.Context(), "show", "own", "--payload", "--dir", dir)
	for _, want := range []string{
		`"bell\a"`, "max retry     3", "timeout       60 s", "deadline ", "retention     7200 s", "process at ", "(in ", "unique key ",
		"unique until ", "expires ", "id chosen by  the caller", "ff 00 78", "3 bytes",
	} {
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("no %q: %d\n%s%s", want, code, stdout, stderr)
		}
	}
	_, stdout, _ = spoolCommand(t.Context(), "show", "own", "--payload", "--json", "--dir", dir)
	if !strings.Contains(stdout, `"base64": "/wB4"`) || !strings.Contains(stdout, `"payload_bytes": 3`) {
		t.Error(stdout)
	}
	_, stdout, _ = spoolCommand(t.Context(), "ls", "--dir", dir)
	if strings.Contains(stdout, "\a") {
		t.Errorf("a control character reaches the terminal: %q", stdout)
	}
}

func TestShowUnknown(t *testing.T) {
	t.Parallel()
	places(t, func(t *testing.T, dir string) {
		t.Helper()
		code, stdout, stderr := spoolCommand(t.Context(), "show", "nobody", "--dir", dir)
		if code != exitError || stdout != "" || stderr != "spool: no job in the spool has the id nobody\n" {
			t.Errorf("%d, %q, %q", code, stdout, stderr)
		}
		code, stdout, stderr = spoolCommand(t.Context(), "dead", "show", "old-0", "--dir", dir) // it is pending
		if code != exitError || stdout != "" || stderr != "spool: no dead letter in the spool has the id old-0\n" {
			t.Errorf("%d, %q, %q", code, stdout, stderr)
		}
	})
}

// TestShowTwins shows all jobs of one id, whoever holds them.
func TestShowTwins(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spoolJobs(t, newSpooler(t, dir, away), "twin", "a", "t", 1)
	second := newSpooler(t, dir, "127.0.0.1:2")
	spoolJobs(t, second, "twin", "b", "t", 1)
	closeProducer(t, second)
	code, stdout, stderr := spoolCommand(t.Context(), "show", "twin-0", "--dir", dir)
	if code != exitOK || !strings.Contains(stdout, "queue         a\n") || !strings.Contains(stdout, "queue         b\n") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}

// TestListsOfManyPages: nothing is left out or twice where lists have many pages.
func TestListsOfManyPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spoolMany(t, newSpooler(t, dir, "127.0.0.1:2"), 2100)
	dead := newSpooler(t, dir, away)
	spoolMany(t, dead, 2500)
	closeProducer(t, dead)
	ids, _ := listedIDs(t, "ls", "--dir", dir, "--limit", "0")
	once := map[string]bool{}
	for _, id := range ids {
		once[id] = true
	}
	if len(ids) != 4600 || len(once) != 4600 {
		t.Errorf("%d jobs, %d ids", len(ids), len(once))
	}
	if _, stdout, _ := spoolCommand(t.Context(), "ls", "--dir", dir, "--limit", "0"); strings.Count(stdout, "\n") != 4601 {
		t.Errorf("%d lines", strings.Count(stdout, "\n"))
	}
}

// TestInDoubt: a job whose attempt got no reply is said to be in doubt, and can be picked.
func TestInDoubt(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	p := newSpooler(t, dir, r.Addr())
	if err := p.Ping(); err != nil {
		t.Fatal(err)
	}
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	spoolJobs(t, p, "doubt", "default", "t", 1)
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	spoolJobs(t, p, "sure", "default", "t", 1)
	wantIDs(t, "doubt-0", "ls", "--in-doubt", "--dir", dir)
	for _, c := range [][2]string{
		{"show doubt-0", "in doubt      yes: an attempt got no reply, Redis may have it\n"},
		{"rm --all --dry-run", "2 pending jobs of queue default (1 in doubt: Redis may have them already) would be removed\n"},
		{"rm --in-doubt --yes", "1 pending job of queue default (1 in doubt: Redis may have them already) removed\n"},
	} {
		code, stdout, stderr := spoolCommand(t.Context(), append(strings.Fields(c[0]), "--dir", dir)...)
		if code != exitOK || !strings.Contains(stdout, c[1]) {
			t.Errorf("%s: %d\n%s%s", c[0], code, stdout, stderr)
		}
	}
	wantIDs(t, "sure-0", "ls", "--dir", dir)
}

// TestNamesCannotChangeTheTerminal: a queue, a type or an id may be anything.
func TestNamesCannotChangeTheTerminal(t *testing.T) {
	t.Parallel()
	const escape = "\x1b[2J"
	dir := t.TempDir()
	p := newSpooler(t, dir, away)
	spoolJobs(t, p, escape+"id", escape+"queue", escape+"type", 1)
	for _, dead := range []bool{false, true} {
		if dead {
			closeProducer(t, p)
		}
		for _, line := range []string{"status", "ls", "drain --dry-run", "rm --all --dry-run", "salvage " + firstSegment(t, dir, dead)} {
			_, stdout, stderr := spoolCommand(t.Context(), append(strings.Fields(line), "--dir", dir)...)
			if strings.Contains(stdout+stderr, escape) || !strings.Contains(stdout, "queue") && strings.Fields(line)[0] != "salvage" {
				t.Errorf("%s: %q%q", line, stdout, stderr)
			}
		}
	}
}

// firstSegment returns the path of a segment that is not in use.
func firstSegment(t *testing.T, dir string, dead bool) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	if !dead {
		return ""
	}
	return files[0]
}
