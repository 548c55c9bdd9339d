package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"

	"github.com/jobspool/jobspool/queue"
)

// jobSink takes a list of jobs, one by one.
type jobSink interface {
	add(queue.Job) error
	end(more bool, leftOut []string) error // there are more than were added; why there may be others
}

// jobTable writes jobs for people.
type jobTable struct {
	out  io.Writer
	w    *tabwriter.Writer
	dead bool
	kept bool // in a journal: Redis has acknowledged them
	now  time.Time
	rows int
}

// flushEvery is how many rows are aligned with each other: those are kept in memory.
const flushEvery = 1000

func newJobTable(out io.Writer, dead bool, now time.Time) *jobTable {
	return &jobTable{out: out, w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0), dead: dead, now: now}
}

func (t *jobTable) add(j queue.Job) error {
	if t.rows == 0 {
		fmt.Fprintln(t.w, t.head())
	}
	t.rows++
	fmt.Fprintln(t.w, strings.Join(t.row(j), "\t"))
	if t.rows%flushEvery == 0 {
		return t.w.Flush()
	}
	return nil
}

func (t *jobTable) end(bool, []string) error {
	switch {
	case t.rows > 0:
		return t.w.Flush()
	case t.kept:
		_, err := fmt.Fprintln(t.out, "no jobs in the journal")
		return err
	case t.dead:
		_, err := fmt.Fprintln(t.out, "no dead letters")
		return err
	}
	_, err := fmt.Fprintln(t.out, "no pending jobs")
	return err
}

func (t *jobTable) head() string {
	if t.kept {
		return "ID\tQUEUE\tTYPE\tAGE\tBYTES\tJOURNAL OF"
	}
	if t.dead {
		return "ID\tQUEUE\tTYPE\tAGE\tBYTES\tIN DOUBT\tOWNER\tDEAD FOR\tREASON"
	}
	return "ID\tQUEUE\tTYPE\tAGE\tBYTES\tATTEMPTS\tIN DOUBT\tOWNER"
}

func (t *jobTable) row(j queue.Job) []string {
	cells := []string{printable(j.ID), printable(j.Queue), printable(j.Type), age(t.now, j.At), humanize.IBytes(uint64(j.Bytes))}
	switch {
	case t.kept:
		return append(cells, shortOwner(j.Owner))
	case !t.dead:
		return append(cells, strconv.Itoa(j.Attempts), doubt(j), shortOwner(j.Owner))
	}
	cells = append(cells, doubt(j), shortOwner(j.Owner))
	if j.Dead == nil {
		return append(cells, "?", "?")
	}
	return append(cells, age(t.now, j.Dead.Since), printable(j.Dead.Reason))
}

// doubt says whether Redis may have the job.
func doubt(j queue.Job) string {
	switch {
	case j.HalfDone:
		return "half done"
	case j.InDoubt:
		return "yes"
	}
	return "-"
}

// shortOwner returns the end of an owner's name, which tells owners apart for people.
func shortOwner(name string) string { return name[strings.LastIndexByte(name, '-')+1:] }

// printable returns text that cannot change what a terminal shows of the rest: ids, types
// and reasons come from elsewhere.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// jobDocument writes jobs as one JSON document, without having all of them in memory.
type jobDocument struct {
	out  io.Writer
	some bool
}

func (d *jobDocument) add(j queue.Job) error {
	before := ",\n    "
	if !d.some {
		before, d.some = "{\n  \"jobs\": [\n    ", true
	}
	b, err := json.Marshal(listed(j))
	if err == nil {
		_, err = io.WriteString(d.out, before+string(b))
	}
	return err
}

func (d *jobDocument) end(more bool, leftOut []string) error {
	why, err := json.Marshal(append([]string{}, leftOut...))
	if err != nil {
		return err
	}
	before := "\n  ]"
	if !d.some {
		before = "{\n  \"jobs\": []"
	}
	_, err = fmt.Fprintf(d.out, "%s,\n  \"more\": %v,\n  \"left_out\": %s\n}\n", before, more, why)
	return err
}
