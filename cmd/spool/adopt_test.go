package main

import (
	"context"
	"encoding/json"
	"maps"
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

// idsOf counts jobs by id.
func idsOf(jobs []queue.Job) map[string]int {
	ids := map[string]int{}
	for _, j := range jobs {
		ids[j.ID]++
	}
	return ids
}

func TestALivingProducerReplaysWhatIsAdopted(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	lost, dir := t.TempDir(), t.TempDir()
	for range 2 {
		closeProducer(t, spooled(t, lost, r.Addr(), 30))
	}
	closeProducer(t, spooled(t, lost, "127.0.0.1:1", 5)) // foreign
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	spooled(t, dir, r.Addr(), 0) // it lives
	code, stdout, stderr := spoolCommand(t.Context(), "adopt", "--dir", dir, lost)
	if code != exitOK || stderr != "" {
		t.Fatalf("%d, %s", code, stderr)
	}
	if !strings.Contains(stdout, "took over 65 pending jobs and 0 dead letters of 3 owners: ") || strings.Count(stdout, uri) != 2 {
		t.Errorf("%s", stdout)
	}
	waitFor(t, time.Minute, "60 jobs in Redis", func() bool { return inRedis(t, r.Addr()) == 60 })
	if left := names(t, lost); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if got := jobsListed(t, dir); len(got) != 5 {
		t.Errorf("%d foreign jobs", len(got))
	}
}

func TestAdoptOutput(t *testing.T) {
	t.Parallel()
	lost, dir := t.TempDir(), t.TempDir()
	closeProducer(t, spooled(t, lost, "127.0.0.1:1", 5))
	living := spooled(t, lost, "127.0.0.1:2", 3)
	code, stdout, stderr := spoolCommand(t.Context(), "adopt", "--dir", dir, lost)
	if code != exitLeft || sameEachTime(stderr, lost) != "spool: left in DIR: owner OWNER is alive\n" {
		t.Errorf("%d, %s", code, stderr)
	}
	wantOutput(t, stdout, dir, `OWNER                         TARGET                 PENDING  DEAD
OWNER  redis://HOST:PORT/0  5        0
took over 5 pending jobs and 0 dead letters of 1 owner: a living Producer of their target replays them within seconds, 'spool drain' does at once
`)
	if st := living.Stats(); st.Pending != 3 {
		t.Errorf("%+v", st)
	}
	closeProducer(t, living)
	code, stdout, stderr = spoolCommand(t.Context(), "adopt", "--dir", dir, lost, "--json")
	var doc moved
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil || code != exitOK || doc.Pending != 3 || len(doc.Owners) != 1 || doc.Owners[0].Target != "redis://127.0.0.1:2/0" {
		t.Errorf("%d, %v\n%s%s", code, err, stdout, stderr)
	}
	if got := jobsListed(t, dir); len(got) != 8 {
		t.Errorf("%d jobs", len(got))
	}
}

// TestAdoptTakesWhatIsDamagedAlong leaves it to whoever reads it.
func TestAdoptTakesWhatIsDamagedAlong(t *testing.T) {
	t.Parallel()
	lost, dir := t.TempDir(), t.TempDir()
	quarantined(t, lost)
	code, stdout, stderr := spoolCommand(t.Context(), "adopt", "--dir", dir, lost)
	if code != exitOK || !strings.Contains(stdout, "took over 3 pending jobs") || !strings.Contains(stderr, "1 damaged file stays in quarantine in "+lost) {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if n := harm(t, dir, "top secret"); n != 1 {
		t.Fatalf("harmed %d segments", n)
	}
	other := t.TempDir()
	if code, stdout, stderr := spoolCommand(t.Context(), "adopt", "--dir", other, dir); code != exitOK {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if got := jobsListed(t, other); len(got) != 1 || got[0].ID != "mine" {
		t.Errorf("%+v", got)
	}
	if set, err := spool.Quarantine(other); err != nil || len(set) != 1 {
		t.Errorf("%+v, %v", set, err)
	}
}

func TestAdoptRefuses(t *testing.T) {
	t.Parallel()
	dir, lost, other := t.TempDir(), t.TempDir(), t.TempDir()
	closeProducer(t, spooled(t, lost, "127.0.0.1:1", 5))
	if err := os.Mkdir(filepath.Join(other, "photos"), 0o700); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		filepath.Join(dir, "typo"): "no such file", other: "holds no spool: name the SpoolDir of a lost pod, or a backup", dir: "are the same directory",
	} {
		code, stdout, stderr := spoolCommand(t.Context(), "adopt", "--dir", dir, from)
		if code != exitError || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d\n%s%s", from, code, stdout, stderr)
		}
	}
	code, _, stderr := spoolCommand(t.Context(), "adopt", "--dir", filepath.Join(dir, "typo"), lost)
	if code != exitError || !strings.Contains(stderr, "does not exist") {
		t.Errorf("%d, %s", code, stderr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, _, stderr = spoolCommand(ctx, "adopt", "--dir", dir, lost)
	if code != exitLeft || !strings.Contains(stderr, "interrupted; what is not taken over is safe in "+lost) {
		t.Errorf("%d, %s", code, stderr)
	}
	if got := jobsListed(t, lost); len(got) != 5 {
		t.Errorf("%d jobs are left", len(got))
	}
	for _, line := range []string{"adopt", "adopt a b", "backup", "backup a b"} {
		if code, _, stderr := spoolCommand(t.Context(), append(strings.Fields(line), "--dir", dir)...); code != exitUsage || stderr == "" {
			t.Errorf("%s: %d, %s", line, code, stderr)
		}
	}
}

// TestABackupOfTheLivingAndTheDeadIsTakenBack loses the spool of two living owners and a dead
// one, with the jobs that one of the living had adopted.
func TestABackupOfTheLivingAndTheDeadIsTakenBack(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "new", "backup")
	closeProducer(t, spooled(t, dir, r.Addr(), 4)) // adopted
	first := spooled(t, dir, r.Addr(), 3)
	waitFor(t, time.Minute, "the adoption", func() bool { return first.Stats().Adopted == 4 })
	if _, err := first.Enqueue(asynq.NewTask("t", []byte("in group")), asynq.Group("g")); err != nil {
		t.Fatal(err)
	}
	second := spooled(t, dir, "127.0.0.1:1", 2)
	closeProducer(t, spooled(t, dir, "127.0.0.1:2", 6)) // dead
	want := idsOf(jobsListed(t, dir))
	code, stdout, stderr := spoolCommand(t.Context(), "backup", "--dir", dir, backup)
	if code != exitOK || stderr != "" {
		t.Fatalf("%d, %s", code, stderr)
	}
	wantOutput(t, stdout, backup, "16 pending jobs and 0 dead letters of 4 owners are in DIR now; 'spool adopt' takes them back\n")
	if got := idsOf(jobsListed(t, backup)); len(want) != 16 || !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if all, err := os.ReadDir(backup); err != nil || len(all) != 4 {
		t.Errorf("%v, %v", all, err)
	}
	reports, err := spool.Verify(backup)
	if err != nil || len(reports) != 4 {
		t.Errorf("%+v, %v", reports, err)
	}
	for _, s := range reports {
		if len(s.Problems) > 0 {
			t.Errorf("%+v", s)
		}
	}
	if st := first.Stats(); st.Pending != 8 || second.Stats().Pending != 2 {
		t.Errorf("%+v", st)
	}

	again := t.TempDir()
	if code, stdout, stderr := spoolCommand(t.Context(), "adopt", "--dir", again, backup); code != exitOK {
		t.Fatalf("%d\n%s%s", code, stdout, stderr)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := spoolCommand(t.Context(), "drain", "--dir", again, "--redis", uri); code != exitLeft || !strings.Contains(stdout, "8 sent") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}

// TestABackupBesideEnqueue takes one while jobs come in and Redis is up: what was pending
// before and after is in it, and nothing twice.
func TestABackupBesideEnqueue(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := spooled(t, dir, r.Addr(), 500)
	before := idsOf(jobsListed(t, dir))
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := p.Enqueue(asynq.NewTask("t", nil)); err != nil {
				done <- err
				return
			}
		}
	}()
	backup := filepath.Join(t.TempDir(), "backup")
	code, stdout, stderr := spoolCommand(t.Context(), "backup", "--dir", dir, backup)
	close(stop)
	if err := <-done; err != nil || code != exitOK {
		t.Fatalf("%v, %d\n%s%s", err, code, stdout, stderr)
	}
	got, after := idsOf(jobsListed(t, backup)), idsOf(jobsListed(t, dir))
	for id := range before {
		if got[id] != 1 {
			t.Fatalf("%s is there %d times", id, got[id])
		}
	}
	for id, n := range got {
		if n != 1 || after[id] != 1 {
			t.Errorf("%s is there %d times", id, n)
		}
	}
}

func TestBackupRefuses(t *testing.T) {
	t.Parallel()
	dir, full := t.TempDir(), t.TempDir()
	closeProducer(t, spooled(t, dir, "127.0.0.1:1", 1))
	if err := os.WriteFile(filepath.Join(full, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		full: "is not empty: name a new directory", filepath.Join(dir, "backup"): "is in the spool itself", dir: "is in the spool itself",
	} {
		code, _, stderr := spoolCommand(t.Context(), "backup", "--dir", dir, to)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d, %s", to, code, stderr)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	to := filepath.Join(t.TempDir(), "backup")
	if code, _, stderr := spoolCommand(ctx, "backup", "--dir", dir, to); code == exitOK || !strings.Contains(stderr, "interrupted; "+to+" is not whole: remove it") {
		t.Errorf("%d, %s", code, stderr)
	}
}

// TestABackupSaysWhomItCannotAsk leaves out what another command holds.
func TestABackupSaysWhomItCannotAsk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, "127.0.0.1:1", 3))
	o, err := queue.OpenOffline(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	code, stdout, stderr := spoolCommand(t.Context(), "backup", "--dir", dir, filepath.Join(t.TempDir(), "backup"))
	if code != exitLeft || !strings.Contains(stdout, "0 pending jobs") || !strings.Contains(stderr, "does not answer, its jobs are left out") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}
