package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// markdown is where and with what the benchmarks ran, and the table.
func markdown(res results) string {
	var b strings.Builder
	b.WriteString(circumstances(res))
	b.WriteString("\n| | jobspool | beside | its figure | ratio | in the rounds | p99, ratio |\n|---|---|---|---|---|---|---|\n")
	for _, g := range groups() {
		heading := "| **" + g.heading + "** | | | | | | |\n"
		for _, r := range g.rows {
			if line := r.line(res); line != "" {
				b.WriteString(heading + line)
				heading = ""
			}
		}
	}
	return b.String()
}

// circumstances says in sentences what a number needs to be judged.
func circumstances(res results) string {
	day, _, _ := strings.Cut(res.fact("date"), "T")
	disk, _, _ := strings.Cut(res.fact("filesystem"), " ")
	s := fmt.Sprintf("Medians of alternating rounds (%s), %s. Machine: %s cores (%s), %s, %s. %s", res.roundCounts(), day,
		res.fact("cores"), res.fact("cpu"), res.fact("kernel"), disk, strings.Replace(res.fact("go"), "go", "Go ", 1))
	for _, f := range res.facts {
		if name, ok := versioned()[f.key]; ok {
			s += ", " + name + " " + f.value
		}
	}
	s += ".\n"
	if least, greatest, ok := res.noise(); ok {
		s += fmt.Sprintf("Plain asynq beside itself had ratios of %s to %s in a round, so much is noise.\n", ratio(least), ratio(greatest))
	}
	return s
}

// versioned are the facts that are versions, and how to name them.
func versioned() map[string]string {
	return map[string]string{
		"redis-server": "redis-server", "asynq": "asynq", "go-redis": "go-redis", "bbolt": "bbolt",
		"pebble": "pebble", "dque": "dque", "sqlite": "SQLite", "tidwall-wal": "tidwall/wal",
	}
}

// line is the row, or empty.
func (r row) line(res results) string {
	ours := res.rounds[r.ours]
	if len(ours) == 0 {
		return ""
	}
	cells := []string{r.what, figure(ours.median(), r.ours.unit), "", "", "", "", ""}
	if theirs := res.rounds[r.theirs]; r.peer != "" {
		if len(theirs) == 0 {
			return ""
		}
		value, least, greatest := r.compare(res)
		cells[2], cells[3], cells[4] = r.peer, figure(theirs.median(), r.theirs.unit), "**"+ratio(value)+"**"
		if greatest > 0 {
			cells[5] = ratio(least) + " to " + ratio(greatest)
		}
	}
	if tail := res.rounds[metric{r.ours.bench, r.tail}]; len(tail) > 0 {
		cells[6] = ratio(tail.median())
	}
	var b strings.Builder
	for _, cell := range cells {
		b.WriteString(strings.TrimRight("| "+cell, " ") + " ")
	}
	return b.String() + "|\n"
}

// compare returns the ratio, the least, and the greatest of the rounds; those are 0 where
// there was one round.
func (r row) compare(res results) (value, least, greatest float64) {
	named := func(suffix string) samples { return res.rounds[metric{r.ours.bench, r.ratio + suffix}] }
	if r.ratio != "" && len(named("")) > 0 {
		value = named("").median()
		if lows, highs := named("-min"), named("-max"); len(lows) > 0 && len(highs) > 0 {
			least, greatest = slices.Min(lows), slices.Max(highs)
		}
		return value, least, greatest
	}
	ours, theirs := res.rounds[r.ours], res.rounds[r.theirs]
	if each := ours.over(theirs); len(each) > 1 {
		least, greatest = slices.Min(each), slices.Max(each)
	}
	return ours.median() / theirs.median(), least, greatest
}

// noise is the least and the greatest ratio of plain asynq to itself.
func (r results) noise() (least, greatest float64, ok bool) {
	var lows, highs samples
	for m, s := range r.rounds {
		switch m.unit {
		case "x-self-min":
			lows = append(lows, s...)
		case "x-self-max":
			highs = append(highs, s...)
		}
	}
	if len(lows) == 0 || len(highs) == 0 {
		return 0, 0, false
	}
	return slices.Min(lows), slices.Max(highs), true
}

// roundCounts says how many rounds the benchmarks had.
func (r results) roundCounts() string {
	var counts []int
	for m, s := range r.rounds {
		n := 0
		switch {
		case m.unit == "rounds":
			n = int(s.median())
		case strings.HasPrefix(m.bench, "Append/"):
			n = len(s)
		}
		if n > 0 && !slices.Contains(counts, n) {
			counts = append(counts, n)
		}
	}
	slices.Sort(counts)
	if len(counts) == 0 {
		return "1"
	}
	words := strconv.Itoa(counts[0])
	for _, n := range counts[1:] {
		words += " or " + strconv.Itoa(n)
	}
	return words
}

// figure is a median with its unit, as a reader wants it.
func figure(v float64, unit string) string {
	switch {
	case strings.HasSuffix(unit, "-ms"):
		return number(v) + " ms"
	case unit == "sec/op":
		return number(v*1e3) + " ms"
	case unit == "redis-B/job", unit == "overhead-bytes/record":
		return number(v) + " bytes"
	default:
		return number(v) + "/s"
	}
}

// ratio prints two decimals, or three digits.
func ratio(v float64) string {
	switch {
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
}
