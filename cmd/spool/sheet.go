package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/jobspool/jobspool/queue"
)

// printSheet writes all of one job for people, one line for each thing that is set. Payload
// and headers come last, and only their sizes unless they are to be opened.
func printSheet(out io.Writer, j queue.Job, open bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, l := range sheet(j, time.Now()) {
		if l[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", l[0], l[1])
		}
	}
	if !open {
		fmt.Fprintf(w, "headers\t%s\n", hidden(plural(len(j.Headers), "header"), len(j.Headers)))
		fmt.Fprintf(w, "payload\t%s\n", hidden(plural(len(j.Payload), "byte"), len(j.Payload)))
		return w.Flush()
	}
	for _, k := range slices.Sorted(maps.Keys(j.Headers)) {
		fmt.Fprintf(w, "header %s\t%s\n", printable(k), printable(j.Headers[k]))
	}
	fmt.Fprintf(w, "payload\t%s\n", plural(len(j.Payload), "byte"))
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(out, payloadText(j.Payload))
	return err
}

// sheet returns names and values. Those without a value are not set.
func sheet(j queue.Job, now time.Time) [][2]string {
	lines := [][2]string{
		{"id", printable(j.ID)},
		{"queue", printable(j.Queue)},
		{"type", printable(j.Type)},
		{"state", state(j, now)},
	}
	if j.Dead != nil {
		lines = append(lines, [2]string{"reason", printable(j.Dead.Reason)})
	}
	lines = append(lines, [2]string{"unreadable", printable(j.Unreadable)}, [2]string{"enqueued", moment(&j.At, now)},
		[2]string{"owner", j.Owner}, [2]string{"size", humanize.IBytes(uint64(j.Bytes))},
		[2]string{"attempts", fmt.Sprint(j.Attempts)}, [2]string{"in doubt", inDoubt(j)})
	if j.Unreadable != "" {
		return lines
	}
	return append(lines, options(j, now)...)
}

// options returns what the caller of Enqueue chose.
func options(j queue.Job, now time.Time) [][2]string {
	return [][2]string{
		{"max retry", fmt.Sprint(j.MaxRetry)},
		{"timeout", seconds(j.TimeoutSeconds)},
		{"deadline", moment(j.Deadline, now)},
		{"retention", seconds(j.RetentionSeconds)},
		{"group", printable(j.Group)},
		{"process at", moment(j.ProcessAt, now)},
		{"unique key", printable(j.UniqueKey)},
		{"unique until", moment(j.UniqueUntil, now)},
		{"expires", moment(j.Expires, now)},
		{"id chosen by", chooser(j)},
	}
}

func state(j queue.Job, now time.Time) string {
	if j.Dead == nil {
		return "pending"
	}
	return "dead letter since " + moment(&j.Dead.Since, now)
}

func inDoubt(j queue.Job) string {
	switch {
	case j.HalfDone:
		return "half done: a script failed inside, Redis may have a part of it"
	case j.InDoubt:
		return "yes: an attempt got no reply, Redis may have it"
	}
	return "no"
}

func chooser(j queue.Job) string {
	if j.OwnID {
		return "the caller"
	}
	return ""
}

// moment returns a time and how far it is, empty for none.
func moment(t *time.Time, now time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	d := now.Sub(*t).Round(time.Second)
	if d < 0 {
		return fmt.Sprintf("%s (in %v)", t.Format(time.RFC3339), -d)
	}
	return fmt.Sprintf("%s (%v ago)", t.Format(time.RFC3339), d)
}

func seconds(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d s", n)
}

// hidden says that something is there, and how to see it.
func hidden(what string, n int) string {
	if n == 0 {
		return "none"
	}
	return what + ", --payload shows " + map[bool]string{true: "it", false: "them"}[n == 1 || strings.HasSuffix(what, "bytes")]
}

// payloadText returns a payload for people: as text if it is some, else dumped in hex.
func payloadText(p []byte) string {
	text := string(p)
	odd := func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }
	switch {
	case text == "":
		return ""
	case !utf8.Valid(p) || strings.ContainsFunc(text, odd):
		return hex.Dump(p)
	case strings.HasSuffix(text, "\n"):
		return text
	}
	return text + "\n"
}
