package spool_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/jobspool/jobspool/spool"
)

// nobody is a user that root becomes to see what a user may not do.
const nobody = 65534

// becomeNobody gives up root for good, in a process for one test, and takes a directory
// below os.TempDir along. A user that is not root stays who it is.
func becomeNobody(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	for ; strings.Contains(dir, t.Name()); dir = filepath.Dir(dir) {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
		t.Fatal(err)
	}
}

// deadOwners leaves owners with records and returns their directories.
func deadOwners(t *testing.T, dir string, n int) (owners []string) {
	t.Helper()
	for i := range n {
		s := open(t, spool.Options{Dir: dir})
		mustAppend(t, s, records(i*10, i*10+10)...)
		owners = append(owners, filepath.Dir(segmentFiles(t, dir)[i]))
		closeSpool(t, s)
	}
	return owners
}

// wantOtherUser checks an error of Adopt.
func wantOtherUser(t *testing.T, err error, owner, uids string) {
	t.Helper()
	if !errors.Is(err, spool.ErrOtherUser) || strings.Count(err.Error(), "spool: adopt") != 1 || !strings.Contains(err.Error(), filepath.Base(owner)) {
		t.Fatalf("Adopt: %v", err)
	}
	for uid := range strings.FieldsSeq(uids) {
		if !strings.Contains(err.Error(), "uid "+uid) {
			t.Errorf("%v does not name uid %s", err, uid)
		}
	}
}

func TestOwnerOfAnotherUserIsLeftAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		lacking(t, errors.New("only root can give files away"))
	}
	dir := t.TempDir()
	owners := deadOwners(t, dir, 3)
	if err := os.Chown(owners[1], nobody, nobody); err != nil {
		t.Fatal(err)
	}
	s := open(t, spool.Options{Dir: dir})
	n, err := s.Adopt()
	wantOtherUser(t, err, owners[1], "65534 0")
	if ids := drain(t, s); n != 20 || len(ids) != 20 {
		t.Errorf("adopted %d records, read %d, want 20", n, len(ids))
	}
	if len(segmentFiles(t, owners[1]+"/..")) != 1 {
		t.Error("touched")
	}
}

// TestNobodyMeetsAnOwnerOfRoot is about what a person leaves who once ran a tool as root.
func TestNobodyMeetsAnOwnerOfRoot(t *testing.T) {
	if !isolated(t) {
		return
	}
	if os.Geteuid() != 0 {
		lacking(t, errors.New("only root can have files that others cannot read"))
	}
	dir := filepath.Join(os.TempDir(), "spool") // which the parent cleans up, as root
	ofRoot := deadOwners(t, dir, 1)[0]
	becomeNobody(t, dir)
	s := open(t, spool.Options{Dir: dir})
	mustAppend(t, s, records(0, 10)...)
	if n, err := s.Adopt(); n != 0 {
		t.Errorf("adopted %d", n)
	} else {
		wantOtherUser(t, err, ofRoot, "0 65534")
	}
	wantIDs(t, drain(t, s), 10)
}

func TestTheFileSystemIsJudgedOnOpen(t *testing.T) {
	if !isolatedMounts(t) {
		return
	}
	var log bytes.Buffer
	s := open(t, spool.Options{Dir: smallDisk(t, 1), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	closeSpool(t, s)
	if lines := strings.Count(log.String(), "\n"); lines != 1 || !strings.Contains(log.String(), "tmpfs") {
		t.Errorf("on tmpfs: %s", &log)
	}
	log.Reset()
	dir := t.TempDir()
	s = open(t, spool.Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	closeSpool(t, s)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if kind := uint32(st.Type); kind != unix.EXT4_SUPER_MAGIC && kind != unix.XFS_SUPER_MAGIC && kind != unix.BTRFS_SUPER_MAGIC {
		t.Skipf("%s is on a file system of type %#x: what is said of it is not checked; set TMPDIR to a disk", dir, kind)
	}
	if log.Len() > 0 {
		t.Errorf("on a disk: %s", &log)
	}
}
