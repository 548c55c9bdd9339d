//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
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
	chown := func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, nobody, nobody)
	}
	if err := filepath.WalkDir(dir, chown); err != nil {
		t.Fatal(err)
	}
	for d := filepath.Dir(dir); strings.Contains(d, t.Name()); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // so that the other user can enter
			t.Fatal(err)
		}
	}
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
