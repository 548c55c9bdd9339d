package chaos_test

import (
	"reflect"
	"testing"
	"time"
)

// TestOracle: it sees each way in which a promise can be broken.
func TestOracle(t *testing.T) {
	try := func(name string) report { return report{Kind: reportTry, Name: name, Sum: "sum"} }
	ok := func(name string) report {
		return report{Kind: reportOK, Name: name, ID: "id-" + name, Where: "spool", Took: time.Second}
	}
	ran := func(name string) report {
		return report{Kind: reportRan, Name: name, ID: "id-" + name, Sum: "sum"}
	}
	in := func(state string) heldJob { return heldJob{"p-1", "id-p-1", "sum", state} }
	now := time.Now()
	live := func(at time.Time) report {
		return report{Kind: reportOK, Name: "p-1", ID: "id-p-1", Where: "redis", At: at.UnixNano()}
	}
	with := func(r report, change func(*report)) report {
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		said []report
		held []heldJob
		past time.Duration // since Redis forgot something; 0: it did not
		want verdict       // but for Longest
	}{
		"run":            {said: []report{try("p-1"), ok("p-1"), ran("p-1")}, want: verdict{Jobs: 1, Spooled: 1}},
		"run before":     {said: []report{ran("p-1"), try("p-1"), ok("p-1")}, want: verdict{Jobs: 1, Spooled: 1}},
		"in Redis":       {said: []report{try("p-1"), ok("p-1")}, held: []heldJob{in("active")}, want: verdict{Jobs: 1, Spooled: 1, Held: 1}},
		"run, kept":      {said: []report{try("p-1"), ok("p-1"), ran("p-1")}, held: []heldJob{in("completed")}, want: verdict{Jobs: 1, Spooled: 1}},
		"in a group":     {said: []report{try("p-1"), with(ok("p-1"), func(r *report) { r.Group = true })}, held: []heldJob{in(grouped)}, want: verdict{Jobs: 1, Spooled: 1, Grouped: 1}},
		"left its group": {said: []report{try("p-1"), with(ok("p-1"), func(r *report) { r.Group = true }), ran("p-1")}, held: []heldJob{in("completed")}, want: verdict{Jobs: 1, Spooled: 1, Grouped: 1, Troubles: []string{`p-1 has left its group: it is "completed" and ran 1 times`}}},
		"lost of group":  {said: []report{try("p-1"), with(ok("p-1"), func(r *report) { r.Group = true })}, want: verdict{Jobs: 1, Spooled: 1, Lost: 1, lostNames: []string{"p-1[id-p-1]"}}},
		"no answer":      {said: []report{try("p-1")}, held: []heldJob{in("pending")}},
		"held unknown":   {held: []heldJob{in("pending")}, want: verdict{Unknown: 1, Troubles: []string{`Redis has "p-1" (id-p-1, pending), which nobody enqueued`}}},
		"held changed":   {said: []report{try("p-1"), ok("p-1")}, held: []heldJob{{"p-1", "id-p-1", "another", "active"}}, want: verdict{Jobs: 1, Spooled: 1, Held: 1, Troubles: []string{"the payload of p-1 is another one"}}},
		"held, two ids":  {said: []report{try("p-1"), ok("p-1"), ran("p-1")}, held: []heldJob{{"p-1", "other", "sum", "active"}}, want: verdict{Jobs: 1, Spooled: 1, TwoIDs: 1}},
		"held twice":     {said: []report{try("p-1")}, held: []heldJob{in("active"), {"p-1", "other", "sum", "pending"}}, want: verdict{TwoIDs: 1, Troubles: []string{"p-1 is in Redis twice: active and pending"}}},
		"held, refused":  {said: []report{try("p-1"), {Kind: reportNo, Name: "p-1", Text: "full"}}, held: []heldJob{in("pending")}, want: verdict{Refused: 1, Unwanted: 1, Troubles: []string{"p-1 was refused (full), and is there"}}},
		"lost":           {said: []report{try("p-1"), ok("p-1")}, want: verdict{Jobs: 1, Spooled: 1, Lost: 1, lostNames: []string{"p-1[id-p-1]"}}},
		"lost at once":   {said: []report{try("p-1"), live(now)}, past: time.Millisecond, want: verdict{Jobs: 1, Lost: 1, Unguarded: 1, lostNames: []string{"p-1[id-p-1]"}}},
		"lost, older":    {said: []report{try("p-1"), live(now.Add(-time.Second))}, past: time.Millisecond, want: verdict{Jobs: 1, Lost: 1, lostNames: []string{"p-1[id-p-1]"}}},
		"twice":          {said: []report{try("p-1"), ok("p-1"), ran("p-1"), ran("p-1")}, want: verdict{Jobs: 1, Spooled: 1, Twice: 1}},
		"asynq repeated": {said: []report{try("p-1"), ok("p-1"), ran("p-1"), with(ran("p-1"), func(r *report) { r.Again = 1 })}, want: verdict{Jobs: 1, Spooled: 1, Repeated: 1}},
		"two ids":        {said: []report{try("p-1"), ok("p-1"), ran("p-1"), with(ran("p-1"), func(r *report) { r.ID, r.Again = "other", 1 })}, want: verdict{Jobs: 1, Spooled: 1, Repeated: 1, TwoIDs: 1}},
		"changed":        {said: []report{try("p-1"), ok("p-1"), with(ran("p-1"), func(r *report) { r.Sum = "another" })}, want: verdict{Jobs: 1, Spooled: 1, Troubles: []string{"the payload of p-1 is another one"}}},
		"unknown":        {said: []report{ran("p-1")}, want: verdict{Unknown: 1, Troubles: []string{`a worker ran "p-1", which nobody enqueued`}}},
		"refused":        {said: []report{try("p-1"), {Kind: reportNo, Name: "p-1", Text: "full"}}, want: verdict{Refused: 1}},
		"refused, ran":   {said: []report{try("p-1"), {Kind: reportNo, Name: "p-1", Text: "full"}, ran("p-1")}, want: verdict{Refused: 1, Unwanted: 1, Troubles: []string{"p-1 was refused (full), and is there"}}},
		"nobody knows":   {said: []report{try("p-1"), {Kind: reportMaybe, Name: "p-1"}, ran("p-1")}, want: verdict{Refused: 1}},
		"killed in call": {said: []report{try("p-1")}, want: verdict{}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOracle()
			if c.past > 0 {
				o.forgot = now.Add(-c.past)
			}
			for _, r := range c.said {
				o.note(r)
			}
			got := o.judge(c.held)
			got.Longest = 0
			if len(got.Troubles) == 0 {
				got.Troubles = nil
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}
