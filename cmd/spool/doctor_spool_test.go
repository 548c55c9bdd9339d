package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

// TestDoctorOfASpool looks at a directory that others may read, in which a dead and a
// living process have jobs.
func TestDoctorOfASpool(t *testing.T) {
	r, uri := downServer(t)
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, r.Addr(), 3))
	spooled(t, dir, "127.0.0.1:1", 1)            // of the same target it would adopt the dead one
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // that is what is to be found
		t.Fatal(err)
	}
	t.Setenv("REDIS_URL", "")
	d := doctored(t, "--dir", dir)
	d.want(t, "spool", "directory", resultOK, dir)
	d.want(t, "spool", "user", resultOK, "this user")
	d.want(t, "spool", "owners", resultOK, "2, of which 1 are alive")
	d.want(t, "spool", "processes", resultOK, "alive: 1, and all answer")
	d.want(t, "spool", fmt.Sprintf("process %d", os.Getpid()), resultFail, "jobs that wait: 1; dial tcp 127.0.0.1:1: connect: connection refused")
	d.want(t, "spool", "pause", resultOK, "not paused")
	d.want(t, "spool", "orphans", resultWarn, "3 jobs of 1 dead process")
	d.want(t, "spool", "foreign", resultWarn, "without --redis nobody can tell")
	d.want(t, "spool", "segments", resultOK, "")
	if runtime.GOOS != "windows" {
		d.want(t, "spool", "mode", resultWarn, "0755: others may see")
	}
	if len(d.LeftOut) != 1 || !strings.Contains(d.LeftOut[0], "--redis") || d.count(resultFail) != 1 {
		t.Errorf("%+v", d)
	}
	d = doctored(t, "--dir", dir, "--redis", uri)
	d.want(t, "spool", "orphans", resultWarn, "3 jobs of 1 dead process")
	d.want(t, "spool", "foreign", resultOK, "none")
	d = doctored(t, "--dir", dir, "--redis", "redis://127.0.0.1:2")
	d.want(t, "spool", "orphans", resultOK, "none")
	d.want(t, "spool", "foreign", resultWarn, "3 jobs of 1 dead process for another Redis")
}

// TestDoctorOfADamagedSpool cuts a segment short, and lets a drain set it aside.
func TestDoctorOfADamagedSpool(t *testing.T) {
	t.Parallel()
	r, uri := downServer(t)
	dir := t.TempDir()
	closeProducer(t, spooled(t, dir, r.Addr(), 3))
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.seg"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.Truncate(files[0], 100); err != nil {
		t.Fatal(err)
	}
	d := doctored(t, "--dir", dir, "--redis", uri)
	d.want(t, "spool", "segments", resultFail, filepath.Base(files[0]))
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	spoolCommand(t.Context(), "drain", "--dir", dir, "--redis", uri)
	d = doctored(t, "--dir", dir, "--redis", uri)
	if f := d.found(t, "spool", "quarantine"); f.Result == resultOK || !strings.Contains(f.Seen, "1 file") {
		t.Errorf("%+v", f)
	}
}

func TestDoctorOfWrongDirectories(t *testing.T) {
	t.Setenv("REDIS_URL", "")
	dir := t.TempDir()
	d := doctored(t, "--dir", filepath.Join(dir, "typo"))
	d.want(t, "spool", "directory", resultFail, "typo")
	d.want(t, "spool", "quarantine", resultWarn, "not checked")
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d = doctored(t, "--dir", dir)
	d.want(t, "spool", "owners", resultFail, "not a SpoolDir")
	d = doctored(t, "--dir", filepath.Join(dir, "letter.txt"))
	d.want(t, "spool", "directory", resultFail, "no directory")
}

func TestJudgeSpoolOnADiskThatHangs(t *testing.T) {
	t.Parallel()
	found := judgeSpool(spoolFacts{dir: "d", err: errDiskHangs}, "")
	if len(found) != 14 || found[0].Result != resultFail || !strings.Contains(found[0].Todo, "disk") || found[13].Check != "quarantine" || found[11].Result != resultWarn {
		t.Errorf("%+v", found)
	}
}

func TestJudgeDirectory(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, c := range []struct {
		got  finding
		want result
		seen string
	}{
		{judgeUser(map[int]int{7: 7}, 0), resultWarn, "belongs to uid 7, this is uid 0"},
		{judgeMode(spool.DirectoryInfo{Mode: os.ModeDir | 0o700}, map[int]int{0: 0}, "linux"), resultOK, "0700"},
		{judgeMode(spool.DirectoryInfo{Mode: os.ModeDir | 0o710}, map[int]int{0: 0}, "linux"), resultWarn, "0710"},
		{judgeMode(spool.DirectoryInfo{Mode: os.ModeDir | 0o500}, map[int]int{0: 0}, "linux"), resultFail, "may not write"},
		{judgeMode(spool.DirectoryInfo{Mode: os.ModeDir | 0o777}, nil, "windows"), resultOK, ""},
		{judgeUser(map[int]int{0: 0, 7: 7}, 0), resultWarn, "uid 0 and uid 7"},
		{judgeMode(spool.DirectoryInfo{Mode: os.ModeDir | 0o770}, map[int]int{7: 7}, "linux"), resultOK, "0770"},
		{judgeFilesystem(spool.DirectoryInfo{Warning: "tmpfs: in memory"}, "linux"), resultWarn, "tmpfs"},
		{judgeFilesystem(spool.DirectoryInfo{}, "linux"), resultOK, ""},
		{judgeFilesystem(spool.DirectoryInfo{}, "darwin"), resultWarn, "not checked"},
		{judgeFreeSpace(spool.DirectoryInfo{FreeBytes: 9 * gib, TotalBytes: 10 * gib, MinFree: 64 << 20}), resultOK, "9.0 GiB of 10 GiB"},
		{judgeFreeSpace(spool.DirectoryInfo{FreeBytes: gib, TotalBytes: 10 * gib, MinFree: 64 << 20}), resultWarn, "960 MiB for jobs"},
		{judgeFreeSpace(spool.DirectoryInfo{FreeBytes: 64 << 20, TotalBytes: 10 * gib, MinFree: 64 << 20}), resultFail, "takes no jobs"},
		{judgeGuard(nil, spool.DirectoryInfo{}), resultOK, "would take up to 256 MiB"},
		{judgeGuard(guardedProcesses(20, 5000), spool.DirectoryInfo{FreeBytes: gib}), resultOK, "20 jobs (4.9 KiB) in journals of 2 processes"},
		{judgeGuard(guardedProcesses(20, 5000), spool.DirectoryInfo{FreeBytes: 256 << 20, MinFree: 64 << 20}), resultWarn, "192 MiB"},
		{judgeDeadLetters(2), resultWarn, "2 jobs"},
		{judgeQuarantine([]spool.Quarantined{{Salvaged: 3}}, 0), resultWarn, "1 file, unreadable jobs in it: 0"},
		{judgeQuarantine([]spool.Quarantined{{}, {}}, 4), resultFail, "2 files, unreadable jobs in it: 4"},
		{judgeSegments([]string{"a: b"}), resultFail, "a: b"},
	} {
		if c.got.Result != c.want || !strings.Contains(c.got.Seen, c.seen) {
			t.Errorf("%+v, want %s with %q", c.got, c.want, c.seen)
		}
	}
	if f := judgeOrphans(heldByDead{owners: 1, pending: 2}, 1); !strings.Contains(f.Todo, "within ten seconds") {
		t.Errorf("%+v", f)
	}
}

// TestDoctorOfLivingProcesses tells what each of them says that is not well.
func TestDoctorOfLivingProcesses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	since := now.Add(-time.Minute)
	p := processes{
		paused: &spool.Pause{Since: since, By: "me", Why: "work"},
		mute:   []string{"owner x does not answer"},
		statuses: []queue.Status{
			{PID: 1, Stats: queue.Stats{State: queue.StateUp, Pending: 2, DeadLetters: 3}},
			{PID: 2, Stats: queue.Stats{State: queue.StateOutage, OutageSince: &since, OutageCause: "READONLY", SpoolFullIn: time.Hour}},
			{PID: 3, Stats: queue.Stats{State: queue.StatePartial, Queues: []queue.Outage{{Queue: "q", Since: since, Cause: "NOPERM"}}, SpoolStalled: true}},
			{PID: 4, Stats: queue.Stats{State: queue.StateUp, ReplayWaits: "Redis is nearly full", SpoolFullIn: 3 * time.Hour}},
			{PID: 5, Stats: queue.Stats{State: queue.StateUp, Losses: 2, LastLoss: &since, Lost: 7, Resent: 6, JournalSkipped: 1}},
			{PID: 6, Stats: queue.Stats{State: queue.StateUp, Guard: time.Hour, JournalJobs: 3}},
		},
	}
	var got []string
	for _, f := range judgeProcesses(p, now) {
		got = append(got, fmt.Sprintf("%s %s: %s", f.Result, f.Check, f.Seen))
	}
	want := []string{
		"warn pause: replay is paused for 1m0s by me (work)",
		"warn processes: owner x does not answer",
		"ok process 1: no outage, 2 jobs in its spool",
		"fail process 2: an outage for 1m0s, jobs that wait: 0; READONLY",
		"warn process 2: the spool is full in 1h0m0s",
		"fail process 3: an outage of queue q for 1m0s: NOPERM",
		"fail process 3: the disk of the spool does not answer",
		"warn process 4: Redis is nearly full",
		"warn process 5: Redis has lost 7 jobs that it had acknowledged, see appendonly above, last 1m0s ago; 6 sent again",
		"warn process 5: the journal could not keep 1 job",
		"ok process 6: no outage, 0 jobs in its spool",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	if n := p.deadLetters(); n != 3 {
		t.Errorf("%d dead letters", n)
	}
}

// guardedProcesses are two with a journal each, that hold so much together, and one without.
func guardedProcesses(jobs, bytes int64) []queue.Status {
	with := queue.Stats{Guard: time.Hour, JournalJobs: jobs / 2, JournalBytes: bytes / 2}
	return []queue.Status{{Stats: with}, {}, {Stats: with}}
}
