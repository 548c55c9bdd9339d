package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool"
)

func TestInspectSeesTheLivingAndTheDeadAndChangesNothing(t *testing.T) {
	dir := t.TempDir()
	if owners, err := spool.Inspect(dir); err != nil || len(owners) != 0 {
		t.Fatalf("empty: %v, %v", owners, err)
	}
	dead := open(t, spool.Options{Dir: dir, Target: "a"})
	mustAppend(t, dead, records(0, 10)...)
	closeSpool(t, dead)
	living := open(t, spool.Options{Dir: dir, Target: "b"})
	mustAppend(t, living, records(0, 10)...)

	before := listing(t, dir)
	for range 2 {
		owners, err := spool.Inspect(dir)
		if err != nil || len(owners) != 2 {
			t.Fatalf("%+v, %v", owners, err)
		}
		d, l := owners[0], owners[1]
		if d.Alive || d.Pending != 10 || d.PendingBytes == 0 || !d.Oldest.Equal(time.Unix(1, 5)) || d.Identity.Target != "a" || len(d.Bad) != 0 {
			t.Errorf("dead: %+v", d)
		}
		if !l.Alive || l.Segments != 1 || l.Bytes == 0 || l.Pending != 0 || len(l.Bad) != 0 {
			t.Errorf("living: %+v", l)
		}
	}
	if after := listing(t, dir); after != before {
		t.Errorf("changed:\n%s\n%s", before, after)
	}
	mustAppend(t, living, records(10, 20)...)
	next := open(t, spool.Options{Dir: dir, Target: "a"})
	mustAdopt(t, next, 10)
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	text := ""
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err == nil {
			text += path + " " + fi.ModTime().String() + "\n"
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestInspectKnowsAWrongPath(t *testing.T) {
	dir := t.TempDir()
	if _, err := spool.Inspect(filepath.Join(dir, "typo")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "photos"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.Inspect(dir); !errors.Is(err, spool.ErrNotSpool) {
		t.Errorf("something else: %v", err)
	}
}

// A process that is killed while it makes or removes its owner, or while it pauses, leaves
// something behind that holds nothing.
func TestInspectKnowsLeftovers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"20261127T174500.000-0badcafe", ".stage-1"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ".stage-2"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if owners, err := spool.Inspect(dir); err != nil || len(owners) > 0 {
		t.Errorf("%+v, %v", owners, err)
	}
	if reports, err := spool.Verify(dir); err != nil || len(reports) > 0 {
		t.Errorf("verify: %+v, %v", reports, err)
	}
}
