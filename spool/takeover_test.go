package spool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool"
)

type takeOver func(context.Context, string, string) ([]spool.Taken, []string, error)

// eachWay runs a test with shares that are renamed and with some that are copied.
func eachWay(t *testing.T, test func(t *testing.T, take takeOver)) {
	t.Helper()
	for name, take := range map[string]takeOver{"rename": spool.TakeOver, "copy": spool.TakeOverByCopy} {
		t.Run(name, func(t *testing.T) { test(t, take) })
	}
}

// leave makes a dead owner with records and a dead letter, in several segments.
func leave(t *testing.T, dir, target string, from, to int) {
	t.Helper()
	s := open(t, spool.Options{Dir: dir, Target: target, SegmentBytes: 32 << 10})
	for part := range slices.Chunk(records(from, to), 10) {
		part[0].Data = make([]byte, 20<<10)
		mustAppend(t, s, part...)
	}
	entries, err := s.Read(1, 1<<20)
	if err == nil {
		err = s.Settle(spool.Settlement{Position: entries[0].Position, Outcome: spool.Dead, Reason: "test"})
	}
	if err != nil {
		t.Fatal(err)
	}
	closeSpool(t, s)
}

func TestTakeOverMovesTheDeadAndLeavesTheLiving(t *testing.T) {
	eachWay(t, func(t *testing.T, take takeOver) {
		t.Helper()
		from, to := t.TempDir(), t.TempDir()
		leave(t, from, "a", 0, 100)
		leave(t, from, "b", 100, 150)
		living := open(t, spool.Options{Dir: from, Target: "a"})
		mustAppend(t, living, record(200))
		taken, alive, err := take(t.Context(), from, to)
		if err != nil || len(taken) != 2 || !slices.Equal(alive, []string{living.OwnName()}) {
			t.Fatalf("%+v, %v, %v", taken, alive, err)
		}
		if a, b := taken[0], taken[1]; a.Pending != 99 || a.DeadLetters != 1 || a.Target != "a" || a.Owner != a.Was || b.Pending != 49 || b.Target != "b" {
			t.Errorf("%+v", taken)
		}
		if there := lookInto(t, to); len(there) != 150 {
			t.Errorf("%d records are there", len(there))
		}
		left, err := filepath.Glob(filepath.Join(from, "*"))
		if err != nil || len(left) != 1 || filepath.Base(left[0]) != living.OwnName() {
			t.Errorf("left: %v, %v", left, err)
		}
		if hidden, err := filepath.Glob(filepath.Join(to, ".*")); err != nil || len(hidden) != 0 {
			t.Errorf("left in the middle: %v, %v", hidden, err)
		}
		mustAppend(t, living, record(201))

		s := open(t, spool.Options{Dir: to, Target: "a"}) // as a Producer does
		mustAdopt(t, s, 99)
	})
}

// TestTakeOverOfANameThatIsTaken takes over a copy of a share that is there.
func TestTakeOverOfANameThatIsTaken(t *testing.T) {
	eachWay(t, func(t *testing.T, take takeOver) {
		t.Helper()
		from, to, backup := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "backup")
		s := open(t, spool.Options{Dir: from})
		mustAppend(t, s, records(0, 10)...)
		if err := s.Backup(t.Context(), backup); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, s, records(10, 20)...)
		closeSpool(t, s)
		for _, dir := range []string{from, backup} {
			if _, _, err := take(t.Context(), dir, to); err != nil {
				t.Fatal(err)
			}
		}
		there := lookInto(t, to)
		if len(there) != 20 || there[record(0).ID] != 2 || there[record(19).ID] != 1 {
			t.Errorf("%v", there)
		}
	})
}

// TestTwoTakeOversAtOnce race for the same shares, beside a Spool that adopts what it can.
func TestTwoTakeOversAtOnce(t *testing.T) {
	eachWay(t, func(t *testing.T, take takeOver) {
		t.Helper()
		from, to := t.TempDir(), []string{t.TempDir(), t.TempDir()}
		const owners, each = 20, 10
		for i := range owners {
			leave(t, from, "a", i*each, (i+1)*each)
		}
		s := open(t, spool.Options{Dir: from, Target: "a", AdoptOnly: true})
		var wg sync.WaitGroup
		for _, dir := range to {
			wg.Go(func() {
				if _, _, err := take(t.Context(), from, dir); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			if _, err := s.Adopt(); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		closeSpool(t, s)
		count := map[string]int{}
		for _, dir := range append(to, from) {
			for id, n := range lookInto(t, dir) {
				count[id] += n
			}
		}
		for i := range owners * each {
			if id := record(i).ID; count[id] != 1 {
				t.Errorf("%s is there %d times", id, count[id])
			}
		}
	})
}

func TestTakeOverRefuses(t *testing.T) {
	dir, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	leave(t, dir, "a", 0, 3)
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string][2]string{
		"the same directory":       {dir, link},
		"what is not there":        {filepath.Join(dir, "typo"), t.TempDir()},
		"a place that's not there": {dir, filepath.Join(dir, "typo")},
	} {
		if taken, _, err := spool.TakeOver(t.Context(), call[0], call[1]); err == nil || len(taken) != 0 {
			t.Errorf("%s: %v, %v", what, taken, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if taken, _, err := spool.TakeOver(ctx, dir, t.TempDir()); !errors.Is(err, context.Canceled) || len(taken) != 0 {
		t.Errorf("%v, %v", taken, err)
	}
	if there := lookInto(t, dir); len(there) != 3 {
		t.Errorf("%d records are left", len(there))
	}
}

func TestAnImportIsThereAsAWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	twin := func(i int) spool.Record {
		r := record(i)
		r.Lock, r.LockUntil = "lock", time.Now().Add(time.Hour)
		return r
	}
	newImport := func() *spool.Import {
		i, err := spool.NewImport(spool.Options{Dir: dir, Target: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Append(append(records(0, 10), twin(10), twin(11), record(12))...); err != nil {
			t.Fatal(err)
		}
		if there := lookInto(t, dir); len(there) != 0 {
			t.Errorf("%d records are there before it is committed", len(there))
		}
		return i
	}
	if err := newImport().Discard(); err != nil {
		t.Fatal(err)
	}
	if left := listing(t, dir); strings.Count(left, "\n") != 1 {
		t.Errorf("left: %s", left)
	}
	i := newImport()
	taken, err := i.Commit(t.Context())
	if err != nil || len(taken) != 2 || taken[0].Pending != 12 || taken[1].Pending != 1 || taken[0].Target != "a" {
		t.Fatalf("%+v, %v", taken, err)
	}
	if err := i.Discard(); err != nil {
		t.Error(err)
	}
	s := open(t, spool.Options{Dir: dir, Target: "a"})
	mustAdopt(t, s, 13)
	if ids := drain(t, s); len(ids) != 13 {
		t.Errorf("%v", ids)
	}
}

func TestAnImportThatIsBuried(t *testing.T) {
	dir := t.TempDir()
	i, err := spool.NewImport(spool.Options{Dir: dir})
	if err == nil {
		err = i.Append(records(0, 2500)...)
	}
	if err == nil {
		err = i.Bury("because")
	}
	if err != nil {
		t.Fatal(err)
	}
	taken, err := i.Commit(t.Context())
	if err != nil || len(taken) != 1 || taken[0].Pending != 0 || taken[0].DeadLetters != 2500 {
		t.Fatalf("%+v, %v", taken, err)
	}
	s := open(t, spool.Options{Dir: dir, AdoptOnly: true})
	mustAdopt(t, s, 0)
	letters, _, err := s.DeadLetters("", 10000)
	if err != nil || len(letters) != 2500 || letters[0].Reason != "because" || letters[0].ID != record(0).ID {
		t.Errorf("%d, %v", len(letters), err)
	}
}
