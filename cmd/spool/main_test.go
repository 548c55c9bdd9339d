package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("time.Sleep")) // go-redis's prober ends within a second
}

// spoolCommand runs one command line.
func spoolCommand(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(ctx, args, &out, &err)
	return code, out.String(), err.String()
}

// spooled leaves n jobs for the Redis at addr, which is down, in the spool.
func spooled(t *testing.T, dir, addr string, n int) *queue.Producer {
	t.Helper()
	p, err := queue.New(queue.Config{
		Redis: asynq.RedisClientOpt{Addr: addr}, SpoolDir: dir, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	for range n {
		if _, err := p.Enqueue(asynq.NewTask("t", []byte("top secret"))); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func closeProducer(t *testing.T, p *queue.Producer) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// downServer returns a redis-server that has been killed and can be restarted.
func downServer(t *testing.T) (r *redistest.Server, uri string) {
	t.Helper()
	r = redistest.Run(t, redistest.Options{})
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	return r, "redis://" + r.Addr()
}

func inRedis(t *testing.T, addr string) int {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	n, err := c.LLen(t.Context(), "asynq:{default}:pending").Result()
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDrainSendsWhatDeadProcessesLeft(t *testing.T) {
	r, uri := downServer(t)
	dir := t.TempDir()
	for range 2 {
		closeProducer(t, spooled(t, dir, r.Addr(), 300))
	}
	code, _, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri)
	if code != exitError || !strings.Contains(stderr, "600 jobs in the spool are safe") {
		t.Fatalf("with Redis down: %d, %s", code, stderr)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SPOOL_DIR", dir)
	t.Setenv("REDIS_URL", uri)
	code, stdout, stderr := spoolCommand(t.Context(), "drain")
	if code != exitOK || !strings.Contains(stdout, "600 sent") || !strings.Contains(stderr, "draining: 600 of 600 jobs") {
		t.Fatalf("%d\n%s\n%s", code, stdout, stderr)
	}
	if n := inRedis(t, r.Addr()); n != 600 {
		t.Errorf("%d jobs in Redis, want 600", n)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("left on disk: %v", left)
	}
	if code, stdout, _ := spoolCommand(t.Context(), "drain"); code != exitOK || !strings.Contains(stdout, "0 sent") {
		t.Errorf("again: %d, %s", code, stdout)
	}
}

func TestDrainAndStatusOfAWrongPathCreateNothing(t *testing.T) {
	dir := t.TempDir()
	r := redistest.Run(t, redistest.Options{})
	for _, command := range []string{"drain", "status"} {
		code, stdout, stderr := spoolCommand(t.Context(), command, "--dir", filepath.Join(dir, "typo"), "--redis", "redis://"+r.Addr())
		if code != exitError || stdout != "" || !strings.Contains(stderr, "does not exist") {
			t.Errorf("%s: %d, %s, %s", command, code, stdout, stderr)
		}
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("created %v", left)
	}
}

func TestLivingAndForeignOwnersAreLeftAlone(t *testing.T) {
	r, uri := downServer(t)
	other, _ := downServer(t)
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, other.Addr(), 7))
	living := spooled(t, dir, r.Addr(), 5)
	if err := other.Restart(); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri) // the one that is down
	if code != exitLeft || !strings.Contains(stdout, "foreign: 7 jobs for redis://"+other.Addr()+"/0") || !strings.Contains(stdout, "is alive") {
		t.Fatalf("%d: %s", code, stdout)
	}
	code, stdout, _ = spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", "redis://"+other.Addr())
	if code != exitLeft || !strings.Contains(stdout, "7 sent") || strings.Contains(stdout, "foreign") || !strings.Contains(stdout, "is alive") {
		t.Fatalf("%d: %s", code, stdout)
	}
	if st := living.Stats(); st.Pending != 5 {
		t.Errorf("%+v", st)
	}
}

func TestDrainThatCannotFinishSaysWhatIsLeft(t *testing.T) {
	r, uri := downServer(t)
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, r.Addr(), 2000))
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri, "--timeout", "1ns")
	if code != exitLeft || !strings.Contains(stderr, "timed out") || !strings.Contains(stdout, "not sent") {
		t.Fatalf("%d\n%s\n%s", code, stdout, stderr)
	}
	if code, _, _ := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri); code != exitOK {
		t.Fatalf("again: %d", code)
	}
	if n := inRedis(t, r.Addr()); n != 2000 {
		t.Errorf("%d jobs in Redis, want 2000", n)
	}
}

func TestDrainIsInterrupted(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, stdout, stderr := spoolCommand(ctx, "drain", "--dir", dir, "--redis", "redis://"+r.Addr())
	if code != exitLeft || stdout != "" || !strings.Contains(stderr, "interrupted") {
		t.Errorf("%d, %q, %q", code, stdout, stderr)
	}
}

func TestStatus(t *testing.T) {
	r, uri := downServer(t)
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, r.Addr(), 42))
	living := spooled(t, dir, "127.0.0.1:1", 1) // of the same target it would adopt the dead one
	code, stdout, stderr := spoolCommand(t.Context(), "status", "--dir", dir, "--redis", uri)
	for _, want := range []string{
		"takes no writes", "OWNER", " orphan ", " alive ", "OUTAGE for 0s, jobs go to the spool: dial tcp 127.0.0.1:1", "  42 ",
		"default  t     43 ", "43 pending jobs (3.9 KiB) and 0 dead letters",
	} {
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("no %q in %d:\n%s%s", want, code, stdout, stderr)
		}
	}
	closeProducer(t, living)
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ = spoolCommand(t.Context(), "status", "--dir", dir, "--redis", uri, "--json")
	var got status
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK {
		t.Fatalf("%d, %v: %s", code, err, stdout)
	}
	if got.Pending != 43 || len(got.Owners) != 2 || !got.Redis.Writable || got.Redis.Target != uri+"/0" || got.Owners[0].Foreign || !got.Owners[1].Foreign {
		t.Errorf("%+v", got)
	}
	if age := time.Since(*got.Owners[0].Oldest); age < 0 || age > time.Minute {
		t.Errorf("oldest %v ago", age)
	}
}

// TestAClusterWithOtherSeedsIsNotForeign looks at what is spooled for a Cluster that is
// then named by some of the old seeds, and by none.
func TestAClusterWithOtherSeedsIsNotForeign(t *testing.T) {
	dir := t.TempDir()
	p, err := queue.New(queue.Config{
		Redis: asynq.RedisClusterClientOpt{Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}}, SpoolDir: dir,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if _, err := p.Enqueue(asynq.NewTask("t", nil)); err != nil {
		t.Fatal(err)
	}
	closeProducer(t, p)
	for seeds, foreign := range map[string]bool{"127.0.0.1:2,127.0.0.1:3": false, "127.0.0.1:3,127.0.0.1:4": true} {
		uri := "redis-cluster://" + seeds
		_, stdout, stderr := spoolCommand(t.Context(), "status", "--dir", dir, "--redis", uri, "--json")
		var got status
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || len(got.Owners) != 1 || got.Owners[0].Foreign != foreign {
			t.Errorf("%s: foreign is not %v: %v\n%s%s", seeds, foreign, err, stdout, stderr)
		}
		code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri)
		if safe := code == exitError && strings.Contains(stderr, "1 job in the spool"); safe == foreign {
			t.Errorf("drain to %s: %d\n%s%s", seeds, code, stdout, stderr)
		}
		if left := code == exitLeft && strings.Contains(stdout, "is foreign: 1 job for "); left != foreign {
			t.Errorf("drain to %s: %d\n%s%s", seeds, code, stdout, stderr)
		}
	}
}

func TestDrainPrintsOneJSONDocument(t *testing.T) {
	r, uri := downServer(t)
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, r.Addr(), 3))
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri, "--json")
	var got drained
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK || got.Replayed != 3 || len(got.Left) != 0 {
		t.Errorf("%d, %v: %s", code, err, stdout)
	}
}

func TestUsage(t *testing.T) {
	t.Setenv("SPOOL_DIR", "")
	t.Setenv("REDIS_URL", "")
	for _, line := range []string{
		"nonsense", "drain extra", "drain --bad", "status", "drain --dir " + os.TempDir() + " --redis redis://:secret@h:x",
		"drain --dir x --redis redis://h --timeout -1s", "drain --dir x --redis redis://h --timeout soon",
	} {
		code, stdout, stderr := spoolCommand(t.Context(), strings.Fields(line)...)
		if code != exitUsage || stdout != "" || stderr == "" || strings.Contains(stderr, "secret") {
			t.Errorf("%s: %d, %q, %q", line, code, stdout, stderr)
		}
	}
	for _, line := range []string{"", "help", "drain --help", "status --help", "demo --help", "completion bash"} {
		if code, stdout, _ := spoolCommand(t.Context(), strings.Fields(line)...); code != exitOK || stdout == "" {
			t.Errorf("%s: %d, %q", line, code, stdout)
		}
	}
}

func TestNoPasswordIsPrinted(t *testing.T) {
	r := redistest.Run(t, redistest.Options{})
	dir := t.TempDir()
	for _, command := range []string{"status", "drain"} {
		_, stdout, stderr := spoolCommand(t.Context(), command, "--dir", dir, "--redis", "redis://user:secret@"+r.Addr())
		if strings.Contains(stdout+stderr, "secret") || !strings.Contains(stdout+stderr, "WRONGPASS") && command == "status" {
			t.Errorf("%s: %s%s", command, stdout, stderr)
		}
	}
}

// TestNoPasswordOfAWrongCallIsPrinted: a URI in the wrong place is quoted in the error.
func TestNoPasswordOfAWrongCallIsPrinted(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"ping", "redis://:secret@host"},
		{"redis://user:secret@host"},
		{"drain", "--timeout", "redis://:secret@host"},
		{"drain", "--limit=redis://:secret@host:6379/0"},
		{"--redis://:secret@host"},
		{"ping", "-redis://:secret@host"},
		{"ping", `redis://:se"c ret@secret@host`},
		{"status", "--dir", "redis://:secret@host"},
		{"ping", "redis-sentinel://host?master=m&password=secret"},
		{"show", "--dir", t.TempDir(), "redis://:secret@host"},
		{"drain", "--dir", t.TempDir(), "--to", "redis://host", "--from", "redis://:secret@host"},
	} {
		code, stdout, stderr := spoolCommand(t.Context(), args...)
		if code == exitOK || strings.Contains(stdout+stderr, "secret") || strings.Contains(stderr, "ret@") || stderr == "" {
			t.Errorf("%q: %d, %q, %q", args, code, stdout, stderr)
		}
	}
}
