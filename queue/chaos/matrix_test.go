package chaos_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	lengthFlag = flag.Float64("chaos.length", 1, "how much longer each fault lasts than usual")
	tableFlag  = flag.String("chaos.table", "", "file to write the table of the matrix to, between its marks")
)

// length is how long most faults last.
func length() time.Duration {
	usual := 1500 * time.Millisecond
	if testing.Short() {
		usual /= 3
	}
	return time.Duration(*lengthFlag * float64(usual))
}

// TestMatrix does each fault to a world of its own.
func TestMatrix(t *testing.T) {
	rows := rows{seed: seed()}
	defer removeSteppable()
	t.Run("faults", func(t *testing.T) {
		for i, f := range faults() {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				rows.add(i, f.name, tryFault(t, f))
			})
		}
	})
	rows.finish(t)
}

// tryFault does a fault while producers enqueue and workers run, and judges.
func tryFault(t *testing.T, f fault) verdict {
	t.Helper()
	w := newWorld(t, f.shape)
	w.hold(length() / 2)
	f.do(w)
	w.hold(length() / 3)
	v := w.finish()
	f.most.wait = cmp.Or(f.most.wait, usualWait)
	v.check(t, f.most)
	if v.Spooled == 0 && !f.quiet || v.Refused == 0 && f.refuses {
		t.Errorf("nobody has noticed the fault: %d jobs were spooled, %d refused", v.Spooled, v.Refused)
	}
	if f.midway && (v.Midway == 0 || v.Again < v.Midway) {
		t.Errorf("%d producers were killed between Redis's reply and the commit; Redis had %d jobs already", v.Midway, v.Again)
	}
	return v
}

// rows are what is to be in the table. Safe for concurrent use.
type rows struct {
	seed uint64
	mu   sync.Mutex
	all  []row
}

type row struct {
	place int
	name  string
	verdict
}

func (r *rows) add(place int, name string, v verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, row{place, name, v})
}

func (v verdict) midways() string {
	if v.Midway == 0 {
		return ""
	}
	return fmt.Sprintf(", %d kills between reply and commit, %d jobs found in Redis", v.Midway, v.Again)
}

// finish prints the rows, and writes the table if that was asked for.
func (r *rows) finish(t *testing.T) {
	t.Helper()
	slices.SortFunc(r.all, func(a, b row) int { return cmp.Compare(a.place, b.place) })
	for _, row := range r.all {
		t.Logf("%-70s jobs %6d spooled %5d refused %5d lost %d twice %d repeated %d held %d longest %v%s",
			row.name, row.Jobs, row.Spooled, row.Refused, row.Lost, row.Twice, row.Repeated, row.Held, row.Longest.Round(time.Millisecond), row.midways())
	}
	if *tableFlag == "" {
		return
	}
	if len(r.all) < len(faults()) {
		t.Errorf("only %d of %d faults were done: no table", len(r.all), len(faults()))
		return
	}
	if err := r.write(*tableFlag, time.Now()); err != nil {
		t.Error(err)
	}
}

// The marks between which the table is in a file.
const (
	tableBegin = "<!-- fault matrix: made by make chaos -->\n"
	tableEnd   = "<!-- end of the fault matrix -->\n"
)

// write writes the table into a file that has its marks.
func (r *rows) write(name string, now time.Time) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no marks for the table", name)
	}
	return os.WriteFile(name, []byte(before+tableBegin+r.table(now)+tableEnd+after), 0o644)
}

func (r *rows) table(now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "The run of %s, seed %d:\n\n", now.Format(time.DateOnly), r.seed)
	b.WriteString("| fault | jobs accepted | of them by the spool | refused | lost | twice | longest `Enqueue` |\n|---|---|---|---|---|---|---|\n")
	for _, row := range r.all {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d ms |\n",
			row.name, row.Jobs, row.Spooled, row.Refused, row.Lost, row.Twice, row.Longest.Milliseconds())
	}
	return b.String()
}
