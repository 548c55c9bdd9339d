package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

// TestRemainsOfADamagedSegment reads files as they lie in quarantine: all that is left of
// them, and no more.
func TestRemainsOfADamagedSegment(t *testing.T) {
	for _, h := range []*share{newShare(t, 60, 1, false), newShare(t, 300, 3, true)} {
		sound := damageCase{name: "sound", do: func(_ *share, b []byte) []byte { return b }}
		for _, d := range append(damages(), sound) {
			if d.needs != nil && !d.needs(h) {
				continue
			}
			t.Run(fmt.Sprint(d.name, " ", h.classes), func(t *testing.T) {
				file := d.do(h, bytes.Clone(h.file))
				found := file
				if d.moved {
					found = h.file
				}
				h.wantRemains(t, file, found)
			})
		}
	}
}

// wantRemains reads a file, and compares with what is left in found.
func (h *share) wantRemains(t *testing.T, file, found []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), h.name+".0000000000000001.1.seg")
	writeFile(t, path, file)
	got := map[string]string{}
	_, err := spool.ReadRemains(path, func(r spool.Remains) error {
		if _, twice := got[r.ID]; twice {
			t.Errorf("%s comes twice", r.ID)
		}
		got[r.ID] = r.State + r.Reason + string(r.Data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	left, _ := h.left(found, nil)
	want := map[string]string{}
	for seq, r := range h.records {
		letter, dead := left.dead[seq]
		_, pending := left.pending[seq]
		switch {
		case !h.in(found, h.pairs[seq]):
			continue
		case pending:
			want[r.ID] = spool.RemainsPending
		case dead && letter.Reason == uncertain:
			want[r.ID] = spool.RemainsUnsure
		case dead:
			want[r.ID] = spool.RemainsDead + letter.Reason
		default:
			want[r.ID] = spool.RemainsSettled
		}
		want[r.ID] += string(r.Data)
	}
	if !maps.Equal(got, want) {
		t.Errorf("%d records, want %d", len(got), len(want))
		for id := range h.records {
			if id := h.records[id].ID; got[id] != want[id] {
				t.Errorf("%s: %.60q, want %.60q", id, got[id], want[id])
			}
		}
	}
	if !bytes.Equal(readFile(t, path), file) {
		t.Error("the file was changed")
	}
}

func TestRemainsOfAFileUnderAnyName(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir, Target: "target"})
	mustAppend(t, s, records(0, 3)...)
	closeSpool(t, s)
	path := segmentFiles(t, dir)[0]
	other := filepath.Join(t.TempDir(), "copy")
	writeFile(t, other, readFile(t, path))
	for _, path := range []string{path, other} {
		n := 0
		from, err := spool.ReadRemains(path, func(spool.Remains) error {
			n++
			return nil
		})
		if err != nil || n != 3 || from.Owner != s.OwnName() || from.Target != "target" {
			t.Errorf("%s: %d, %+v, %v", path, n, from, err)
		}
	}
	stop := errors.New("stop")
	if _, err := spool.ReadRemains(path, func(spool.Remains) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	if err := os.Truncate(other, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.ReadRemains(other, nil); err == nil {
		t.Error("an empty file of no name")
	}
}
