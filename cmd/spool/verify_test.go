package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

// sameEachTime replaces what differs between two runs of a command.
func sameEachTime(text, dir string) string {
	text = strings.ReplaceAll(text, dir, "DIR")
	for pattern, name := range map[string]string{
		`\d{8}T\d{6}\.\d{3}-[0-9a-f]{8}`:                                 "OWNER",
		`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`:   "ID",
		`\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})`: "TIME",
		`127\.0\.0\.1:\d+`:         "HOST:PORT",
		`checksum [0-9a-f, want]+`: "checksum SUM",
		`\(pid \d+ on [^)]+\)`:     "(PROCESS)",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, name)
	}
	return text
}

// wantOutput compares what a command printed, but for what differs each time.
func wantOutput(t *testing.T, got, dir, want string) {
	t.Helper()
	if got := sameEachTime(got, dir); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// harm changes a text wherever it lies in a segment of the spool, and returns in how many.
func harm(t *testing.T, dir, text string) (segments int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(b, []byte(text)) {
			continue
		}
		segments++
		if f, err := os.OpenFile(path, os.O_WRONLY, 0); err != nil {
			t.Fatal(err)
		} else {
			for at := 0; ; {
				i := bytes.Index(b[at:], []byte(text))
				if i < 0 {
					break
				}
				at += i + 1
				if _, err := f.WriteAt([]byte("#"), int64(at-1)); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return segments
}

// everyFile returns the paths and contents of all files under dir.
func everyFile(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err != nil || !fi.Mode().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// listed returns all jobs of a spool.
func jobsListed(t *testing.T, dir string) (jobs []queue.Job) {
	t.Helper()
	c := common{dir: dir}
	ds, err := c.openDesks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ds.close() }()
	for _, d := range ds.all {
		for _, dead := range []bool{false, true} {
			if err := d.jobs(t.Context(), queue.Filter{Dead: dead}, true, func(j queue.Job) error {
				jobs = append(jobs, j)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return jobs
}

func TestVerifyOfTheLivingAndTheDead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, "127.0.0.1:2", 3))
	living := spooled(t, dir, "127.0.0.1:1", 5)
	code, stdout, stderr := spoolCommand(t.Context(), "verify", "--dir", dir)
	if code != exitOK || stderr != "" {
		t.Errorf("%d, %s", code, stderr)
	}
	wantOutput(t, stdout, dir, `OWNER                         SEGMENT               RECORDS  PENDING  DEAD  STATE
OWNER  0000000000000001.seg  5        5        0     ok
OWNER  0000000000000001.seg  3        3        0     ok
2 segments in DIR, 0 damaged
`)
	if st := living.Stats(); st.Pending != 5 || st.Adopted != 0 {
		t.Errorf("%+v", st)
	}
}

func TestVerifyFindsDamageOfTheDeadAndMendsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := spooled(t, dir, "127.0.0.1:1", 3)
	if _, err := p.Enqueue(asynq.NewTask("t", []byte("to be harmed"))); err != nil {
		t.Fatal(err)
	}
	closeProducer(t, p)
	closeProducer(t, spooled(t, dir, "127.0.0.1:2", 1))
	if n := harm(t, dir, "to be harmed"); n != 1 {
		t.Fatalf("harmed %d segments", n)
	}
	before := everyFile(t, dir)
	code, stdout, stderr := spoolCommand(t.Context(), "verify", "--dir", dir)
	if code != exitDamage || !strings.HasPrefix(stderr, "spool: 1 segment damaged; ") {
		t.Errorf("%d, %s", code, stderr)
	}
	for _, want := range []string{"  4        4        0     4 problems\n", "  1        1        0     ok\n", "record 4: ", "2 segments in " + dir + ", 1 damaged\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	var doc verified
	code, stdout, _ = spoolCommand(t.Context(), "verify", "--dir", dir, "--json")
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || code != exitDamage || len(doc.Segments) != 2 || len(doc.Segments[0].Problems) != 4 {
		t.Errorf("%d, %v: %s", code, err, stdout)
	}
	after := everyFile(t, dir)
	if len(after) != len(before) {
		t.Errorf("%d files, before there were %d", len(after), len(before))
	}
	for path, b := range before {
		if after[path] != b {
			t.Errorf("%s was changed", path)
		}
	}

	jobsListed(t, dir) // which comes upon the damage and salvages
	code, stdout, stderr = spoolCommand(t.Context(), "verify", "--dir", dir)
	if code != exitOK || !strings.Contains(stdout, "quarantine/") || !strings.Contains(stdout, "3 jobs salvaged, 0 dead, 1 unreadable") {
		t.Errorf("in quarantine: %d\n%s%s", code, stdout, stderr)
	}
}

func TestVerifyFindsDamageOfTheLiving(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := spooled(t, dir, "127.0.0.1:1", 3000) // so that no try of the replay reads the last one
	if _, err := p.Enqueue(asynq.NewTask("t", []byte("to be harmed"))); err != nil {
		t.Fatal(err)
	}
	if n := harm(t, dir, "to be harmed"); n != 1 {
		t.Fatalf("harmed %d segments", n)
	}
	code, stdout, stderr := spoolCommand(t.Context(), "verify", "--dir", dir)
	if code != exitDamage || !strings.Contains(stdout, "record 3001: ") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}

func TestVerifySaysWhomItCannotAsk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, "127.0.0.1:1", 3))
	o, err := queue.OpenOffline(dir, nil) // as another command would: it has no socket
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	code, stdout, stderr := spoolCommand(t.Context(), "verify", "--dir", dir)
	if code != exitError || !strings.Contains(stdout, "0 segments") || !strings.Contains(stderr, "not all could be read: owner ") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}

// TestVerifyDoesNotMissWhoChangesHands looks for owners that are neither among those who
// answered nor among the dead.
func TestVerifyDoesNotMissWhoChangesHands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, "127.0.0.1:1", 3))
	owners, err := spool.Inspect(dir)
	if err != nil || len(owners) != 1 {
		t.Fatalf("%v, %v", owners, err)
	}
	v := verified{Dir: dir}
	if missed := v.missed(owners); len(missed) != 1 || !strings.Contains(missed[0], "changed hands meanwhile") {
		t.Errorf("%v", missed)
	}
	removeAllJobs(t, dir)
	if missed := v.missed(owners); len(missed) != 0 {
		t.Errorf("%v, but it is gone", missed)
	}
}
