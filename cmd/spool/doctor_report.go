package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/redis/go-redis/v9"
)

// result is what a check comes to.
type result string

const (
	resultOK   result = "ok"
	resultWarn result = "warn" // jobs can be lost, or wait, if something else happens; or nobody can tell
	resultFail result = "fail" // jobs are refused, stuck or lost now, or with the next crash of Redis
)

// finding is what one check has seen, and what is to be done about it.
type finding struct {
	Area   string `json:"area"`
	Check  string `json:"check"`
	Result result `json:"result"`
	Seen   string `json:"seen"`
	Todo   string `json:"todo"` // empty if the result is ok
}

func passed(check, seen string) finding { return finding{Check: check, Result: resultOK, Seen: seen} }

func warned(check, seen, todo string) finding {
	return finding{Check: check, Result: resultWarn, Seen: seen, Todo: todo}
}

func failed(check, seen, todo string) finding {
	return finding{Check: check, Result: resultFail, Seen: seen, Todo: todo}
}

// notMade is the finding of a check that could not be made.
func notMade(check string, err error) finding {
	todo := "run doctor again when that is mended, or look by hand"
	if redis.HasErrorPrefix(err, "NOPERM") {
		todo = "let this user do that, name another user in --redis, or look by hand"
	}
	return warned(check, "not checked: "+shown(err), todo)
}

// notMadeOf is notMade of several checks.
func notMadeOf(err error, checks ...string) []finding {
	out := make([]finding, len(checks))
	for i, check := range checks {
		out[i] = notMade(check, err)
	}
	return out
}

// shown is the text of an error, without what it may hold of arguments.
func shown(err error) string {
	text, _, _ := strings.Cut(withoutLocalPort(err.Error()), ", with args beginning with")
	return text
}

// diagnosis is what the command prints.
type diagnosis struct {
	Redis   string    `json:"redis,omitempty"` // the target
	Dir     string    `json:"dir,omitempty"`
	Result  result    `json:"result"`   // the worst of the checks
	LeftOut []string  `json:"left_out"` // what was not looked at because it was not named
	Checks  []finding `json:"checks"`
}

// add takes findings. What was seen is one line: joined errors are several.
func (d *diagnosis) add(area string, findings ...finding) {
	for _, f := range findings {
		f.Area, f.Seen = area, strings.ReplaceAll(f.Seen, "\n", "; ")
		d.Checks = append(d.Checks, f)
		d.Result = worse(d.Result, f.Result)
	}
}

func worse(a, b result) result {
	if a == resultFail || b == resultFail {
		return resultFail
	}
	if a == resultWarn || b == resultWarn {
		return resultWarn
	}
	return resultOK
}

func (d *diagnosis) count(r result) int {
	n := 0
	for _, f := range d.Checks {
		if f.Result == r {
			n++
		}
	}
	return n
}

// print shows the findings for a person, by area.
func (d *diagnosis) print(w io.Writer) {
	paint, rows := painter(w), d.rows()
	width, area := 0, ""
	for _, f := range rows {
		width = max(width, len(f.Check))
	}
	for _, f := range rows {
		if f.Area != area {
			area = f.Area
			fmt.Fprintln(w, area)
		}
		fmt.Fprintf(w, "  %s  %-*s  %s\n", paint(f.Result.colour(), fmt.Sprintf("%-4s", f.Result)), width, f.Check, f.Seen)
		if f.Todo != "" {
			fmt.Fprintf(w, "  %4s  %*s  do: %s\n", "", width, "", f.Todo)
		}
	}
	for _, what := range d.LeftOut {
		fmt.Fprintln(w, what)
	}
	fmt.Fprintf(w, "%d ok, %d warn, %d fail\n", d.count(resultOK), d.count(resultWarn), d.count(resultFail))
}

// rows returns the findings, those as one that come one after another and differ in the
// check only.
func (d *diagnosis) rows() []finding {
	var rows []finding
	for i := 0; i < len(d.Checks); {
		row, checks := d.Checks[i], []string{}
		for _, f := range d.Checks[i:] {
			name := f.Check
			if f.Check = row.Check; f != row {
				break
			}
			checks = append(checks, name)
		}
		if i += len(checks); len(checks) > 1 {
			row.Check = fmt.Sprintf("%d checks", len(checks))
			row.Seen += " (" + strings.Join(checks, ", ") + ")"
		}
		rows = append(rows, row)
	}
	return rows
}

func (r result) colour() colour {
	switch r {
	case resultFail:
		return red
	case resultWarn:
		return yellow
	default:
		return green
	}
}

// merge makes one finding of those that one check has of several servers: the worst, of
// which it names the servers.
func merge(addrs []string, findings []finding) finding {
	if len(findings) == 1 {
		return findings[0]
	}
	worst, same := findings[0], true
	for _, f := range findings[1:] {
		same = same && f.Seen == worst.Seen
		if f.Result != worst.Result && worse(f.Result, worst.Result) == f.Result {
			worst.Result, worst.Todo = f.Result, f.Todo
		}
	}
	if same {
		worst.Seen = fmt.Sprintf("each of %d: %s", len(findings), worst.Seen)
		return worst
	}
	var seen []string
	for i, f := range findings {
		if f.Result == worst.Result {
			seen = append(seen, addrs[i]+": "+f.Seen)
		}
	}
	worst.Seen = someOf(seen, "; ")
	return worst
}

// someOf joins the first few of a list, and says how many more there are.
func someOf(list []string, by string) string {
	const few = 4
	if len(list) <= few {
		return strings.Join(list, by)
	}
	return fmt.Sprintf("%s%sand %d more", strings.Join(list[:few], by), by, len(list)-few)
}
