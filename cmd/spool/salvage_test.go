package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

// quarantined leaves a spool of three jobs, and a damaged segment of these and a fourth in
// its quarantine.
func quarantined(t *testing.T, dir string) (file string) {
	t.Helper()
	p := spooled(t, dir, "127.0.0.1:1", 2)
	if _, err := p.Enqueue(asynq.NewTask("mail", []byte("hello")), asynq.TaskID("mine"), asynq.Queue("mails")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Enqueue(asynq.NewTask("t", []byte("to be harmed"))); err != nil {
		t.Fatal(err)
	}
	closeProducer(t, p)
	if n := harm(t, dir, "to be harmed"); n != 1 {
		t.Fatalf("harmed %d segments", n)
	}
	if got := jobsListed(t, dir); len(got) != 3 {
		t.Fatalf("%d jobs are left", len(got))
	}
	set, err := spool.Quarantine(dir)
	if err != nil || len(set) != 1 {
		t.Fatalf("%v, %v", set, err)
	}
	return set[0].File
}

func TestSalvageShowsWhatIsInQuarantine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := quarantined(t, dir)
	before := everyFile(t, dir)
	code, stdout, stderr := spoolCommand(t.Context(), "salvage", "--dir", dir)
	if code != exitOK || stderr != "" {
		t.Errorf("%d, %s", code, stderr)
	}
	wantOutput(t, stdout, dir, `ID                                    QUEUE    TYPE  AT                    STATE
ID  default  t     TIME  pending
ID  default  t     TIME  pending
mine                                  mails    mail  TIME  pending
3 jobs can be read of 1 file
`)
	for _, arg := range []string{file, filepath.Join(dir, "quarantine", file)} {
		var doc salvage
		code, stdout, stderr = spoolCommand(t.Context(), "salvage", "--dir", dir, "--json", arg)
		if err := json.Unmarshal([]byte(stdout), &doc); err != nil || code != exitOK || len(doc.Jobs) != 3 || doc.Jobs[2].File != file {
			t.Errorf("%d, %v\n%s%s", code, err, stdout, stderr)
		}
		if strings.Contains(stdout, "hello") {
			t.Errorf("shows a payload: %s", stdout)
		}
	}
	if after := everyFile(t, dir); !maps.Equal(before, after) {
		t.Error("files were changed")
	}
	if code, stdout, _ := spoolCommand(t.Context(), "salvage", "--dir", t.TempDir()); code != exitOK || stdout != "0 jobs can be read of 0 files\n" {
		t.Errorf("nothing: %d, %s", code, stdout)
	}
}

// TestSalvageIntoTheSpool brings back what the spool has no more, beside a living owner that
// holds one of the jobs.
func TestSalvageIntoTheSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := quarantined(t, dir)
	code, stdout, stderr := spoolCommand(t.Context(), "salvage", "--dir", dir, "--into-spool")
	if code != exitOK || !strings.HasSuffix(stdout, "\n0 new dead letters in the spool now; 'spool dead retry' sends them\n") {
		t.Errorf("all are there: %d\n%s%s", code, stdout, stderr)
	}
	removeAllJobs(t, dir)
	living := spooled(t, dir, "127.0.0.1:1", 0)
	if _, err := living.Enqueue(asynq.NewTask("mail", nil), asynq.TaskID("mine"), asynq.Queue("mails")); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"\n2 new dead letters in", "\n0 new dead letters in"} {
		code, stdout, stderr = spoolCommand(t.Context(), "salvage", "--dir", dir, "--into-spool", file)
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("%d: %d\n%s%s", i, code, stdout, stderr)
		}
	}
	closeProducer(t, living)
	jobs := jobsListed(t, dir)
	dead := 0
	for _, j := range jobs {
		if j.Dead == nil {
			continue
		}
		dead++
		if j.Dead.Reason != "salvaged from "+file+"; it may have been sent" || !j.InDoubt || string(j.Payload) != "top secret" || j.MaxRetry != 25 {
			t.Errorf("%+v, %+v", j, j.Dead)
		}
	}
	if len(jobs) != 3 || dead != 2 {
		t.Errorf("%d jobs, %d dead letters", len(jobs), dead)
	}
	if set, err := spool.Quarantine(dir); err != nil || len(set) != 1 {
		t.Errorf("%v, %v", set, err)
	}
}

// removeAllJobs removes what dead owners left.
func removeAllJobs(t *testing.T, dir string) {
	t.Helper()
	ds, err := (&common{dir: dir}).openDesks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ds.close() }()
	for _, d := range ds.all {
		if _, err := d.change(t.Context(), "remove", queue.Filter{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSalvageRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := quarantined(t, dir)
	o, err := queue.OpenOffline(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	code, _, stderr := spoolCommand(t.Context(), "salvage", "--dir", dir, "--into-spool")
	if code != exitError || !strings.Contains(stderr, "nobody can tell which jobs the spool holds") {
		t.Errorf("not all answer: %d, %s", code, stderr)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]int{"--settled": exitUsage, "--target x": exitUsage, "a b": exitUsage, "--into-spool --target redis://u:p@h": exitUsage, "typo.seg": exitError} {
		code, stdout, stderr := spoolCommand(t.Context(), append([]string{"salvage", "--dir", dir}, strings.Fields(line)...)...)
		if code != want || stdout != "" || stderr == "" {
			t.Errorf("%s: %d, %s%s", line, code, stdout, stderr)
		}
	}
	// Without its header and its report, nobody knows where the jobs are meant to go.
	path := filepath.Join(dir, "quarantine", file)
	if err := os.Remove(path + ".json"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(b), "redis://127.0.0.1:1/0", "redis://127.0.0.1:1/?")), 0o600); err != nil {
		t.Fatal(err)
	}
	removeAllJobs(t, dir)
	code, _, stderr = spoolCommand(t.Context(), "salvage", "--dir", dir, "--into-spool")
	if code != exitUsage || !strings.Contains(stderr, "give --target") {
		t.Errorf("%d, %s", code, stderr)
	}
	code, stdout, stderr := spoolCommand(t.Context(), "salvage", "--dir", dir, "--into-spool", "--target", "x")
	if code != exitOK || !strings.Contains(stdout, "3 new dead letters") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}

// TestSalvageGoesOn where one of the files cannot be identified: the others are brought back,
// and what was done is said.
func TestSalvageGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := quarantined(t, dir)
	removeAllJobs(t, dir)
	b, err := os.ReadFile(filepath.Join(dir, "quarantine", file))
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{".0.seg", ".2.seg"} {
		name := strings.TrimSuffix(file, ".1.seg") + end
		nameless := strings.ReplaceAll(string(b), "redis://127.0.0.1:1/0", "REDIS://127.0.0.1:1/0")
		if err := os.WriteFile(filepath.Join(dir, "quarantine", name), []byte(nameless), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var doc salvage
	code, stdout, stderr := spoolCommand(t.Context(), "salvage", "--into-spool", "--json", "--dir", dir)
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || code != exitDamage || len(doc.Jobs) != 9 || len(doc.Failed) != 2 || len(doc.Into) != 1 || doc.Into[0].DeadLetters != 3 {
		t.Errorf("%d, %v\n%s%s", code, err, stdout, stderr)
	}
	if !strings.Contains(stderr, "give --target") {
		t.Error(stderr)
	}
}
