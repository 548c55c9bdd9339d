package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool"
)

// spoolCommandOn runs one command line with something on standard input.
func spoolCommandOn(ctx context.Context, in string, args ...string) (code int, stdout, stderr string) {
	r, w, err := os.Pipe()
	if err != nil {
		return -1, "", err.Error()
	}
	defer r.Close()
	go func() {
		_, _ = w.WriteString(in)
		_ = w.Close()
	}()
	var out, errs bytes.Buffer
	code = runOn(ctx, args, r, &out, &errs)
	return code, out.String(), errs.String()
}

// enqueueAllKinds spools one task of each kind.
func enqueueAllKinds(t *testing.T, p *queue.Producer) (n int) {
	t.Helper()
	kinds := map[string][]asynq.Option{
		"plain":    nil,
		"at":       {asynq.ProcessIn(time.Hour)},
		"group":    {asynq.Group("g")},
		"group at": {asynq.Group("g"), asynq.ProcessIn(time.Hour)},
		"own id":   {asynq.TaskID("mine"), asynq.Queue("other")},
		"all": {
			asynq.MaxRetry(3), asynq.Timeout(time.Minute), asynq.Deadline(time.Now().Add(time.Hour)), asynq.Retention(time.Hour),
			asynq.Unique(10 * time.Minute), asynq.ProcessIn(30 * time.Minute),
		},
		"no timeout": {asynq.Timeout(500 * time.Millisecond), asynq.MaxRetry(0)},
	}
	payloads := map[string][]byte{"nil": nil, "empty": {}, "text": []byte("<&> \u2028 \x00 text"), "binary": {0, 0xff, 0x80, '\n'}}
	for kind, opts := range kinds {
		for what, payload := range payloads {
			for _, unique := range []bool{false, true} {
				call := slices.Clone(opts)
				if unique {
					call = append(call, asynq.Unique(20*time.Minute))
				}
				if kind == "own id" {
					call = append(call, asynq.TaskID(fmt.Sprint("mine-", what, unique)))
				}
				headers := map[string]string{"a": "1", "b": "", "kind": kind}
				// One payload of a type has one unique key.
				task := asynq.NewTaskWithHeaders(fmt.Sprint(kind, what, unique), payload, headers, call...)
				if _, err := p.Enqueue(task); err != nil {
					t.Fatalf("%s, %s: %v", kind, what, err)
				}
				n++
			}
		}
	}
	if _, err := p.Enqueue(asynq.NewTask("large", bytes.Repeat([]byte("x"), 900<<10))); err != nil {
		t.Fatal(err)
	}
	return n + 1
}

// inAsynq is all that Redis holds of tasks, but for when they became pending.
type inAsynq struct {
	tasks map[string]*asynq.TaskInfo
	order map[string][]string      // ids in each pending list
	locks map[string]string        // who holds them
	ttls  map[string]time.Duration // of the locks
}

func readAsynq(t *testing.T, addr string) inAsynq {
	t.Helper()
	ctx := t.Context()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	all := inAsynq{tasks: map[string]*asynq.TaskInfo{}, order: map[string][]string{}, locks: map[string]string{}, ttls: map[string]time.Duration{}}
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	keys, err := rdb.Keys(ctx, "asynq:{*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		queueName := strings.TrimPrefix(key[:strings.Index(key, "}")], "asynq:{")
		switch _, rest, _ := strings.Cut(key, "}:"); {
		case strings.HasPrefix(rest, "t:"):
			id := strings.TrimPrefix(rest, "t:")
			if all.tasks[id], err = inspector.GetTaskInfo(queueName, id); err != nil {
				t.Fatal(err)
			}
			if all.tasks[id].State == asynq.TaskStatePending {
				all.tasks[id].NextProcessAt = time.Time{} // the time of the question
			}
		case strings.HasPrefix(rest, "unique:"):
			all.locks[key] = rdb.Get(ctx, key).Val()
			all.ttls[key] = rdb.TTL(ctx, key).Val()
		case rest == "pending":
			all.order[queueName] = rdb.LRange(ctx, key, 0, -1).Val()
		}
	}
	return all
}

func TestWhatIsExportedAndImportedIsWhatADirectReplaySends(t *testing.T) {
	t.Parallel()
	direct, uri := downServer(t)
	other := redistest.Run(t, redistest.Options{})
	from, to := t.TempDir(), t.TempDir()
	p := spooled(t, from, direct.Addr(), 0)
	n := enqueueAllKinds(t, p)
	closeProducer(t, p)
	code, lines, stderr := spoolCommand(t.Context(), "export", "--dir", from)
	if want := fmt.Sprintf("exported %d pending jobs\n", n); code != exitOK || stderr != want || strings.Count(lines, "\n") != n {
		t.Fatalf("%d, %s, %d lines", code, stderr, strings.Count(lines, "\n"))
	}
	code, stdout, stderr := spoolCommandOn(t.Context(), lines, "import", "--dir", to, "--redis", "redis://"+other.Addr())
	if code != exitOK || !strings.Contains(stdout, fmt.Sprintf("imported %d jobs for redis://%s/0", n, other.Addr())) {
		t.Fatalf("%d\n%s%s", code, stdout, stderr)
	}
	if err := direct.Restart(); err != nil {
		t.Fatal(err)
	}
	for dir, uri := range map[string]string{from: uri, to: "redis://" + other.Addr()} {
		if code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri); code != exitOK {
			t.Fatalf("%d\n%s%s", code, stdout, stderr)
		}
	}
	want, got := readAsynq(t, direct.Addr()), readAsynq(t, other.Addr())
	if len(want.tasks) != n || len(want.locks) != 32 {
		t.Fatalf("%d tasks, %d locks", len(want.tasks), len(want.locks))
	}
	for id, task := range want.tasks {
		if !reflect.DeepEqual(got.tasks[id], task) {
			t.Errorf("%s:\n%+v, want\n%+v", id, got.tasks[id], task)
		}
	}
	if !reflect.DeepEqual(got.order, want.order) {
		t.Errorf("order %v, want %v", got.order, want.order)
	}
	if !reflect.DeepEqual(got.locks, want.locks) {
		t.Errorf("locks %v, want %v", got.locks, want.locks)
	}
	for key, ttl := range want.ttls {
		if d := (got.ttls[key] - ttl).Abs(); d > 10*time.Second { // one replay came later
			t.Errorf("%s ends %v apart", key, d)
		}
	}
}

// TestImportKeepsEveryField compares what lies in the two spools.
func TestImportKeepsEveryField(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	p := spooled(t, from, "127.0.0.1:1", 0)
	enqueueAllKinds(t, p)
	if _, err := p.Enqueue(asynq.NewTask("t", nil), queue.MaxSpoolAge(time.Hour)); err != nil {
		t.Fatal(err)
	}
	closeProducer(t, p)
	_, lines, _ := spoolCommand(t.Context(), "export", "--dir", from)
	lines = strings.ReplaceAll(lines, `"max_retry":3,`, `"max_retry":3,"in_doubt":true,"half_done":true,`)
	path := filepath.Join(t.TempDir(), "jobs")
	if err := os.WriteFile(path, []byte(lines+"\n"+lines), 0o600); err != nil { // all twice
		t.Fatal(err)
	}
	code, _, stderr := spoolCommand(t.Context(), "import", "--dir", to, "--target", "redis://elsewhere:6379/0", path)
	if code != exitOK || stderr != "58 jobs twice in the input, taken once\n" {
		t.Fatalf("%d, %s", code, stderr)
	}
	want, got := jobsListed(t, from), jobsListed(t, to)
	if len(want) != len(got) {
		t.Fatalf("%d jobs, want %d", len(got), len(want))
	}
	doubt := 0
	for i, j := range want {
		j.Owner, got[i].Owner = "", ""
		if j.MaxRetry == 3 {
			doubt++
			j.InDoubt, j.HalfDone, j.Bytes = true, true, got[i].Bytes
		}
		a, b := inJSON(t, got[i]), inJSON(t, j)
		if a != b {
			t.Errorf("%s\nwant\n%s", a, b)
		}
	}
	if doubt != 8 {
		t.Errorf("%d in doubt", doubt)
	}
	code, stdout, _ := spoolCommand(t.Context(), "export", "--dir", to, "--in-doubt")
	if code != exitOK || strings.Count(stdout, "\n") != doubt {
		t.Errorf("%d, %d in doubt", code, strings.Count(stdout, "\n"))
	}
}

func inJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestImportOfBadLinesImportsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const good = `{"id":"1","queue":"q","type":"t","at":"2026-11-25T00:00:00Z","payload":"p","max_retry":25}`
	for what, c := range map[string]struct{ lines, want string }{
		"not JSON":       {good + "\nnonsense\n", "line 2: "},
		"a typo":         {good + "\n\n" + strings.Replace(good, "payload", "paylaod", 1), `line 3: json: unknown field "paylaod"`},
		"no id":          {strings.Replace(good, `"id":"1",`, "", 1), "line 1: queue: job \"\": id is missing"},
		"two in a line":  {good + good, "line 1: more than one document"},
		"the same id":    {good + "\n" + strings.Replace(good, `"p"`, `"other"`, 1), `line 2: an earlier line has another job with the id "1" in queue "q"`},
		"a bad payload":  {strings.Replace(good, `"p"`, "17", 1), "line 1: a payload is"},
		"cannot be read": {strings.Replace(good, `"payload"`, `"unreadable":"newer","payload"`, 1), "line 1: queue: job \"1\": it could not be read: newer"},
	} {
		code, stdout, stderr := spoolCommandOn(t.Context(), c.lines, "import", "--dir", dir, "--target", "x")
		if code != exitError || stdout != "" || !strings.Contains(stderr, c.want) || !strings.Contains(stderr, "nothing was imported") {
			t.Errorf("%s: %d, %s%s", what, code, stdout, stderr)
		}
	}
	code, stdout, stderr := spoolCommandOn(t.Context(), good, "import", "--dir", dir, "--target", "x", "--dry-run")
	if code != exitOK || stdout != "1 job for x could be imported\n" {
		t.Errorf("%d, %s%s", code, stdout, stderr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, _, stderr = spoolCommandOn(ctx, good, "import", "--dir", dir, "--target", "x")
	if code != exitError || stderr != "spool: interrupted; nothing was imported\n" {
		t.Errorf("interrupted: %d, %s", code, stderr)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestImportIsInterruptedWhileItWaitsForInput ends it as Ctrl-C does.
func TestImportIsInterruptedWhileItWaitsForInput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	code, stderr := make(chan int), bytes.Buffer{}
	go func() { code <- runOn(ctx, []string{"import", "--dir", dir, "--target", "x"}, r, io.Discard, &stderr) }()
	if _, err := w.WriteString("{}\n"); err != nil {
		t.Fatal(err)
	}
	cancel()
	if code := <-code; code != exitError || stderr.String() != "spool: interrupted; nothing was imported\n" {
		t.Errorf("%d, %s", code, stderr.String())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestALivingProducerReplaysWhatIsImported imports more than a chunk into the spool of one.
func TestALivingProducerReplaysWhatIsImported(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	from, to := t.TempDir(), t.TempDir()
	closeProducer(t, spooled(t, from, "127.0.0.1:1", 2500))
	spooled(t, to, r.Addr(), 0) // it lives
	_, lines, _ := spoolCommand(t.Context(), "export", "--dir", from)
	code, stdout, stderr := spoolCommandOn(t.Context(), lines, "import", "--dir", to, "--redis", "redis://"+r.Addr(), "--json")
	var doc imported
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || code != exitOK || doc.Jobs != 2500 || len(doc.Shares) != 1 || doc.Shares[0].Pending != 2500 {
		t.Fatalf("%d, %v\n%s%s", code, err, stdout, stderr)
	}
	waitFor(t, time.Minute, "all jobs in Redis", func() bool { return inRedis(t, r.Addr()) == 2500 })
}

func TestExportAndImportUsage(t *testing.T) {
	t.Setenv("SPOOL_DIR", "")
	t.Setenv("REDIS_URL", "")
	dir := t.TempDir()
	for _, line := range []string{
		"verify", "export", "export --dir D extra", "export --dir D --older-than -1s", "export --dir D --overwrite", "export --dir D --output D",
		"import", "import --dir D", "import --dir D a b", "import --dir D --target redis://u:secret@h/0", "import --dir D --target x --redis redis://h",
		"import --dir D --redis redis://:secret@h:x",
	} {
		code, stdout, stderr := spoolCommand(t.Context(), strings.Fields(strings.ReplaceAll(line, "D", dir))...)
		if code != exitUsage || stdout != "" || stderr == "" || strings.Contains(stderr, "secret") {
			t.Errorf("%s: %d, %q, %q", line, code, stdout, stderr)
		}
	}
	for _, line := range []string{"verify", "export", "import --target x"} {
		code, stdout, stderr := spoolCommand(t.Context(), append(strings.Fields(line), "--dir", filepath.Join(dir, "typo"))...)
		if code != exitError || stdout != "" || !strings.Contains(stderr, "does not exist") {
			t.Errorf("%s: %d, %q, %q", line, code, stdout, stderr)
		}
	}
}

// TestDeadLettersBecomePendingElsewhere exports and imports them.
func TestDeadLettersBecomePendingElsewhere(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	bury(t, from, 3)
	closeProducer(t, spooled(t, from, "127.0.0.1:1", 2))
	code, lines, stderr := spoolCommand(t.Context(), "export", "--dir", from, "--dead")
	if code != exitOK || stderr != "exported 3 dead letters\n" || strings.Count(lines, `"dead":{"reason":"because","since":"`) != 3 {
		t.Fatalf("%d, %s%s", code, lines, stderr)
	}
	if code, _, stderr := spoolCommandOn(t.Context(), lines, "import", "--dir", to, "--target", "x"); code != exitOK {
		t.Fatalf("%d, %s", code, stderr)
	}
	jobs := jobsListed(t, to)
	for _, j := range jobs {
		if j.Dead != nil || string(j.Payload) != "p" {
			t.Errorf("%+v", j)
		}
	}
	if len(jobs) != 3 {
		t.Errorf("%d jobs", len(jobs))
	}
}

// TestTwinsOfTwoSpoolsAreImported takes both of two jobs with one unique lock, as two
// processes may have spooled them: Redis decides at the replay.
func TestTwinsOfTwoSpoolsAreImported(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	to, lines := t.TempDir(), ""
	for range 2 {
		from := t.TempDir()
		p := spooled(t, from, "127.0.0.1:1", 1)
		if _, err := p.Enqueue(asynq.NewTask("only one", nil), asynq.Unique(time.Hour)); err != nil {
			t.Fatal(err)
		}
		closeProducer(t, p)
		_, stdout, _ := spoolCommand(t.Context(), "export", "--dir", from)
		lines += stdout
	}
	uri := "redis://" + r.Addr()
	if code, stdout, stderr := spoolCommandOn(t.Context(), lines, "import", "--dir", to, "--redis", uri); code != exitOK || !strings.Contains(stdout, "imported 4 jobs") {
		t.Fatalf("%d\n%s%s", code, stdout, stderr)
	}
	var done drained
	code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", to, "--redis", uri, "--json")
	if err := json.Unmarshal([]byte(stdout), &done); err != nil || code != exitOK || done.Replayed != 3 || done.Superseded != 1 {
		t.Errorf("%d, %v\n%s%s", code, err, stdout, stderr)
	}
}

// bury leaves dead letters.
func bury(t *testing.T, dir string, n int) {
	t.Helper()
	i, err := spool.NewImport(spool.Options{Dir: dir, Target: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for k := range n {
		j := queue.Job{ID: fmt.Sprint("dead-", k), Queue: "q", Type: "t", At: time.Now(), Payload: queue.Payload("p")}
		r, err := j.Record()
		if err == nil {
			err = i.Append(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	err = i.Bury("because")
	if err == nil {
		_, err = i.Commit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}
