package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// printRest prints what the table leaves out: all facts, all stores and numbers of callers,
// what spool is to reach, and every other number.
func printRest(out io.Writer, res results) error {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range res.facts {
		fmt.Fprintf(w, "%s\t%s\n", f.key, f.value)
	}
	printAppends(w, res)
	printTargets(w, res)
	printOthers(w, res)
	return w.Flush()
}

// printAppends prints appends per second, a row for each number of callers.
func printAppends(w io.Writer, res results) {
	stores, callers := appendAxes(res)
	if len(stores) == 0 {
		return
	}
	fmt.Fprintf(w, "\nappends/s, median\n\ncallers\t%s\n", strings.Join(stores, "\t"))
	for _, n := range callers {
		fmt.Fprint(w, n)
		for _, store := range stores {
			cell := "-"
			if s := res.rounds[appends(store, n)]; len(s) > 0 {
				cell = number(s.median())
			}
			fmt.Fprint(w, "\t", cell)
		}
		fmt.Fprintln(w)
	}
}

// appendAxes returns the stores and numbers of callers of BenchmarkAppend.
func appendAxes(res results) (stores []string, callers []int) {
	for _, m := range res.order {
		rest, ok := strings.CutPrefix(m.bench, "Append/store=")
		store, count, _ := strings.Cut(rest, "/callers=")
		n, err := strconv.Atoi(count)
		if !ok || err != nil {
			continue
		}
		if !slices.Contains(stores, store) {
			stores = append(stores, store)
		}
		if !slices.Contains(callers, n) {
			callers = append(callers, n)
		}
	}
	return stores, callers
}

// printTargets prints each target that was measured.
func printTargets(w io.Writer, res results) {
	header := "\ntargets\tmedian\trounds\ttarget\n"
	for _, t := range targets() {
		value, rounds, ok := t.measured(res)
		if !ok {
			continue
		}
		sense, verdict := "at least", "missed"
		if t.atMost {
			sense = "at most"
		}
		if t.met(value) {
			verdict = "met"
		}
		fmt.Fprintf(w, "%s%s\t%s%s\t%s\t%s %s%s\t%s\n", header,
			t.label, number(value), t.unit, spread(rounds), sense, number(t.want), t.unit, verdict)
		header = ""
	}
}

// printOthers prints every metric of the other benchmarks. Where there is a rate,
// the time per iteration says no more than that.
func printOthers(w io.Writer, res results) {
	header := "\nother benchmarks\tmedian\trounds\tunit\n"
	for _, m := range res.order {
		if strings.HasPrefix(m.bench, "Append/") || m.unit == "sec/op" && res.rated(m.bench) {
			continue
		}
		s := res.rounds[m]
		fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\n", header, m.bench, number(s.median()), spread(s), m.unit)
		header = ""
	}
}

// spread is the least and the greatest of the rounds.
func spread(rounds samples) string {
	if len(rounds) == 0 {
		return "-"
	}
	return number(slices.Min(rounds)) + " .. " + number(slices.Max(rounds))
}

// number prints three digits, or whole thousands with commas.
func number(v float64) string {
	if v < 1000 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return grouped(strconv.FormatFloat(v, 'f', 0, 64))
}

// grouped puts commas between the thousands of a whole number.
func grouped(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
