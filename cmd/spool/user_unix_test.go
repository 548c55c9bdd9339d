//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jobspool/jobspool/queue"
)

// TestSpoolOfAnotherUser is refused, unless root says --force; then what is written belongs
// to that user.
func TestSpoolOfAnotherUser(t *testing.T) {
	const nobody = 65534
	if os.Geteuid() != 0 {
		if os.Getenv("SPOOL_TEST_REQUIRE_ROOT") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root, to make files of another user")
	}
	r, uri := downServer(t)
	dir := t.TempDir()
	closeProducer(t, living(t, dir, r.Addr(), 20, queue.Config{}))
	chownAll(t, dir, nobody)
	letIn(t, filepath.Dir(dir))
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"pause", "drain --redis " + uri, "drill --redis " + uri, "enqueue --type t --redis " + uri} {
		args := append(strings.Fields(line), "--dir", dir)
		if code, _, stderr := spoolCommand(t.Context(), args...); code != exitError || !strings.Contains(stderr, "belongs to uid 65534") || !strings.Contains(stderr, "--force") {
			t.Errorf("%s: %d, %s", line, code, stderr)
		}
	}
	if code, stdout, _ := spoolCommand(t.Context(), "status", "--dir", dir); code != exitOK || !strings.Contains(stdout, " orphan ") {
		t.Errorf("status: %d, %s", code, stdout)
	}
	if out, err := command(t, "pause", "--dir", dir, "--force").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	fi, err := os.Stat(filepath.Join(dir, "paused"))
	if err != nil {
		t.Fatal(err)
	}
	if uid, gid, _ := userOf(fi); uid != nobody || gid != nobody {
		t.Errorf("written by %d:%d", uid, gid)
	}
	for _, line := range []string{"resume", "drain --redis " + uri} {
		args := append(strings.Fields(line), "--dir", dir, "--force")
		if out, err := command(t, args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
		}
	}
	if n, _ := inQueues(t, r.Addr()); n != 20 {
		t.Errorf("%d in Redis", n)
	}
}

// TestSpoolOnAVolume that Kubernetes made: root owns its root, the service's group may write
// there, and the owners in it are the service's.
func TestSpoolOnAVolume(t *testing.T) {
	const nobody = 65534
	if os.Geteuid() != 0 {
		if os.Getenv("SPOOL_TEST_REQUIRE_ROOT") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root, to make files of another user")
	}
	dir := filepath.Join(t.TempDir(), "volume")
	closeProducer(t, living(t, dir, away, 20, queue.Config{}))
	owners := names(t, dir)
	for _, owner := range owners {
		chownAll(t, owner, nobody)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chown(dir, 0, nobody))
	must(os.Chmod(dir, 0o775|os.ModeSetgid)) //nolint:gosec // as such volumes are
	letIn(t, filepath.Dir(dir))
	program := filepath.Join(filepath.Dir(dir), "spool")
	b, err := os.ReadFile(os.Args[0])
	must(err)
	must(os.WriteFile(program, b, 0o755)) //nolint:gosec // so that the other user can run it
	as := func(uid uint32, line string) (string, error) {
		cmd := command(t, append(strings.Fields(line), "--dir", dir)...)
		cmd.Path = program
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := as(nobody, "ls"); err != nil || !strings.Contains(out, "low") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := as(0, "pause"); err == nil || !strings.Contains(out, "belongs to uid 65534") || !strings.Contains(out, "--force") {
		t.Errorf("%v: %s", err, out)
	}
	for _, line := range []string{"pause", "resume"} {
		if out, err := as(0, line+" --force"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if fi, err := os.Stat(filepath.Join(dir, "paused")); err == nil {
			if uid, _, _ := userOf(fi); uid != nobody {
				t.Errorf("written by %d", uid)
			}
		} else if line == "pause" {
			t.Error(err)
		}
	}
	d := doctored(t, "--dir", dir)
	d.want(t, "spool", "user", resultWarn, "uid 65534")
	d.want(t, "spool", "mode", resultWarn, "0775")
	if f := d.found(t, "spool", "mode"); strings.Contains(f.Todo, "700") {
		t.Errorf("%+v: locks the service out", f)
	}

	closeProducer(t, living(t, dir, "127.0.0.1:2", 2, queue.Config{})) // somebody was here as root
	for uid, line := range map[uint32]string{0: "pause --force", 7: "pause"} {
		if out, err := as(uid, line); err == nil || !strings.Contains(out, "uid 0 and uid 65534") {
			t.Errorf("%s: %v: %s", line, err, out)
		}
	}
	if out, _ := as(nobody, "ls"); !strings.Contains(out, "low") || !strings.Contains(out, "of uid 0") { // its own, and what it cannot see
		t.Error(out)
	}
}

// chownAll gives a directory and all in it away.
func chownAll(t *testing.T, dir string, uid int) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, uid, uid)
	}); err != nil {
		t.Fatal(err)
	}
}

// letIn lets other users reach a directory below os.TempDir.
func letIn(t *testing.T, dir string) {
	t.Helper()
	for d := dir; strings.Contains(d, t.Name()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // so that the other user can enter
			t.Fatal(err)
		}
	}
}
