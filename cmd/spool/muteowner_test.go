package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

// TestOwnersThatDoNotAnswer are complained of; a removal ends with exit code 3 unless all
// ids that were given were found elsewhere.
func TestOwnersThatDoNotAnswer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mute := newSpooler(t, dir, away)
	spoolJobs(t, mute, "mute", "q", "t", 1)
	socks, err := filepath.Glob(filepath.Join(dir, "*", "sock"))
	if err != nil || len(socks) != 1 {
		t.Fatal(socks, err)
	}
	if err := os.Remove(socks[0]); err != nil {
		t.Fatal(err)
	}
	spoolJobs(t, newSpooler(t, dir, "127.0.0.1:2"), "loud", "q", "t", 2)
	for _, c := range []struct {
		line   string
		code   int
		stdout string
	}{
		{"ls --json", exitLeft, `"left_out": ["owner `},
		{"dead ls", exitLeft, "no dead letters"},
		{"ls --limit 1", exitLeft, "loud-0"},
		{"drain --dry-run --json", exitLeft, `"left_out": [
    "owner `},
		{"guard", exitLeft, "no journal"},
		{"show loud-0", exitOK, "loud-0"},
		{"show mute-0", exitError, ""},
		{"rm loud-0 --yes", exitOK, "1 pending job of queue q removed"},
		{"rm mute-0 --yes", exitLeft, "0 pending jobs removed"},
		{"rm --all --dry-run", exitLeft, "1 pending job of queue q would be removed"},
		{"rm --all --yes", exitLeft, "1 pending job of queue q removed"},
		{"dead retry --all", exitLeft, "0 dead letters made pending again"},
	} {
		code, stdout, stderr := spoolCommand(t.Context(), append(strings.Fields(c.line), "--dir", dir)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, "does not answer, its jobs are left out") {
			t.Errorf("%s: %d\n%s%s", c.line, code, stdout, stderr)
		}
	}
	if code, stdout, stderr := spoolCommand(t.Context(), "status", "--dir", dir); code != exitOK || !strings.Contains(stdout, "at least 0 pending jobs") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := spoolCommand(t.Context(), "status", "--json", "--dir", dir); code != exitOK || !strings.Contains(stdout, `"left_out": [
    "owner `) {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if st := mute.Stats(); st.Pending != 1 {
		t.Errorf("%+v", st)
	}
	if _, _, stderr := spoolCommand(t.Context(), "show", "mute-0", "--dir", dir); !strings.Contains(stderr, "not all of it could be searched") {
		t.Error(stderr)
	}
}

// TestOwnerThatAnotherCommandHolds: what another process has taken over is complained of.
func TestOwnerThatAnotherCommandHolds(t *testing.T) {
	t.Parallel()
	dir := twoOwners(t, 0)
	holder := common{dir: dir}
	ds, err := holder.openDesks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// One that saw the owners dead, a moment before they were taken over, says so as well.
	seen, err := spool.Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range seen {
		seen[i].Alive = false
	}
	late, err := desksOf(t.Context(), dir, seen)
	if err != nil || len(late.mute) != 2 || !strings.Contains(late.mute[1], "does not answer") {
		t.Errorf("%+v, %v", late, err)
	}
	if err := late.close(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := spoolCommand(t.Context(), "rm", "--all", "--yes", "--dir", dir)
	if code != exitLeft || stdout != "0 pending jobs removed\n" || strings.Count(stderr, "does not answer") != 2 {
		t.Errorf("%d, %q, %q", code, stdout, stderr)
	}
	if err := ds.close(); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, "old-0 old-1 old-2 new-0 new-1 new-2 img-0", "ls", "--dir", dir)
}

// TestLongAndStaleSockets: the path of a socket may be longer than an address can be, and a
// process that was killed leaves a file behind that nobody listens at.
func TestLongAndStaleSockets(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	dead := newSpooler(t, dir, "127.0.0.1:2")
	spoolJobs(t, dead, "dead", "q", "t", 2)
	closeProducer(t, dead)
	owners, err := spool.Inspect(dir)
	if err != nil || len(owners) != 1 {
		t.Fatal(owners, err)
	}
	if err := os.WriteFile(spool.SocketOf(dir, owners[0].Name), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	living := newSpooler(t, dir, away)
	spoolJobs(t, living, "live", "q", "t", 2)
	wantIDs(t, "live-0 live-1 dead-0 dead-1", "ls", "--dir", dir)
	code, stdout, stderr := spoolCommand(t.Context(), "rm", "live-0", "dead-1", "--yes", "--dir", dir)
	if code != exitOK || stderr != "" {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	wantIDs(t, "live-1 dead-0", "ls", "--dir", dir)
	if st := living.Stats(); st.Removed != 1 {
		t.Errorf("%+v", st)
	}
}

// TestSegmentThatCannotBeRead: its jobs are left out, which is said.
func TestSegmentThatCannotBeRead(t *testing.T) {
	t.Parallel()
	dir := twoOwners(t, 0)
	owners, err := spool.Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, owners[0].Name, "00000000000000000099.seg"), 0o700); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]int{"ls": exitLeft, "rm --all --dry-run": exitLeft} {
		code, stdout, stderr := spoolCommand(t.Context(), append(strings.Fields(line), "--dir", dir)...)
		if code != want || stdout == "" || !strings.Contains(stderr, "a segment cannot be read, its jobs are left out: "+owners[0].Name) {
			t.Errorf("%s: %d\n%s%s", line, code, stdout, stderr)
		}
	}
}

// TestAdoptedByALivingOwner: what a living process has adopted is listed and removed once.
func TestAdoptedByALivingOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dead := newSpooler(t, dir, away)
	spoolJobs(t, dead, "dead", "q", "t", 2)
	closeProducer(t, dead)
	living := newSpooler(t, dir, away)
	spoolJobs(t, living, "live", "q", "t", 2)
	until(t, "adopted", func() bool { return living.Stats().Adopted == 2 })
	wantIDs(t, "dead-0 dead-1 live-0 live-1", "ls", "--dir", dir)
	code, stdout, stderr := spoolCommand(t.Context(), "rm", "dead-1", "live-0", "--yes", "--dir", dir)
	if code != exitOK || stderr != "" {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	wantIDs(t, "dead-0 live-1", "ls", "--dir", dir)
}

// TestOwnerThatHasJustDied: its jobs are in nobody's hands, which is said.
func TestOwnerThatHasJustDied(t *testing.T) {
	t.Parallel()
	dir := twoOwners(t, 0)
	ds, err := desksOf(t.Context(), dir, nil) // as if all had lived when they were looked at
	if err != nil || len(ds.mute) != 2 || !strings.Contains(ds.mute[0], "was not taken over") {
		t.Fatalf("%+v, %v", ds, err)
	}
	if err := ds.close(); err != nil {
		t.Fatal(err)
	}
}
