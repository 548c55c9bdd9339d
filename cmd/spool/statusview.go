package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/jobspool/jobspool/queue"
)

// maxKinds is how many lines of queues and types are shown.
const maxKinds = 20

// watcher shows a status, once or again and again.
type watcher struct {
	again bool
	every time.Duration
}

func (w watcher) run(ctx context.Context, out io.Writer, flags common) error {
	if w.every <= 0 {
		return usageError{"--interval must be positive"}
	}
	dir, opt, err := flags.place()
	if err != nil {
		return err
	}
	for {
		st, err := look(ctx, dir, opt)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if w.again && !flags.json && terminal(out) != nil {
			fmt.Fprint(out, "\x1b[H\x1b[2J") // clears the screen
		}
		if err := st.show(out, flags.json); err != nil || !w.again {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(w.every):
		}
	}
}

func (s *status) show(out io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(out, s)
	}
	return s.print(out, time.Now())
}

func (s *status) print(out io.Writer, now time.Time) error {
	s.printRedis(out)
	if p := s.Paused; p != nil {
		fmt.Fprintf(out, "replay is PAUSED for %s by %s%s; 'spool resume' ends that\n", age(now, p.Since), printable(p.By), inParentheses(printable(p.Why)))
	}
	for _, p := range s.Processes {
		printProcess(out, p, now)
	}
	for _, q := range s.Quarantine {
		fmt.Fprintf(out, "quarantine/%s: %d jobs salvaged, %d unreadable (%s)\n", q.File, q.Salvaged, q.Unreadable, q.At.Format(time.DateTime))
	}
	if len(s.Owners) == 0 {
		fmt.Fprintf(out, "%s is empty: nothing is spooled\n", s.Dir)
		return nil
	}
	if err := s.printTables(out, now); err != nil {
		return err
	}
	for _, o := range s.Owners {
		for _, bad := range o.Bad {
			fmt.Fprintf(out, "%s: %s (kept, not replayed)\n", o.Name, bad)
		}
	}
	atLeast := ""
	for _, why := range s.LeftOut {
		fmt.Fprintln(out, why)
		atLeast = "at least "
	}
	fmt.Fprintf(out, "%s%s (%s) and %s\n", atLeast, plural(s.Pending, "pending job"), humanize.IBytes(uint64(s.PendingBytes)), plural(s.DeadLetters, "dead letter"))
	return nil
}

func (s *status) printRedis(out io.Writer) {
	switch r := s.Redis; {
	case r == nil:
	case r.Writable:
		fmt.Fprintf(out, "Redis %s takes writes (%.1f ms)\n", r.Target, r.LatencyMS)
	default:
		fmt.Fprintf(out, "Redis %s takes no writes: %s\n", r.Target, r.Error)
	}
}

// printProcess says how Redis is as a living process sees it, and how its replay gets on.
func printProcess(out io.Writer, p queue.Status, now time.Time) {
	st := p.Stats
	fmt.Fprintf(out, "process %d, %s: ", p.PID, st.Target)
	switch st.State {
	case queue.StateOutage:
		fmt.Fprintf(out, "OUTAGE for %s, jobs go to the spool: %s\n", age(now, *st.OutageSince), st.OutageCause)
	case queue.StatePartial:
		fmt.Fprintf(out, "an OUTAGE of %s, their jobs go to the spool\n", plural(len(st.Queues), "queue"))
	default:
		fmt.Fprintln(out, "up, jobs go to Redis")
	}
	for _, q := range st.Queues {
		fmt.Fprintf(out, "  queue %s for %s: %s\n", printable(q.Queue), age(now, q.Since), q.Cause)
	}
	fmt.Fprintf(out, "  accepted %s: %s sent, %s spooled (%s in doubt)\n", count(st.Accepted), count(st.Sent), count(st.Spooled), count(st.InDoubt))
	if st.ReplayRate > 0 {
		fmt.Fprintf(out, "  replays %s jobs/s%s\n", humanize.CommafWithDigits(st.ReplayRate, 1), timeUntil(", empty in ", st.EmptyIn))
	}
	fmt.Fprintf(out, "  the spool takes %s more%s\n", humanize.IBytes(uint64(max(st.SpoolLeftBytes, 0))), timeUntil(", full in ", st.SpoolFullIn))
	if st.ReplayWaits != "" {
		fmt.Fprintf(out, "  %s\n", st.ReplayWaits)
	}
	if st.Deferred > 0 {
		fmt.Fprintf(out, "  Redis does not answer %s, they are tried again\n", plural(st.Deferred, "job"))
	}
	if st.SpoolStalled {
		fmt.Fprintln(out, "  the DISK of the spool does not answer")
	}
	printGuard(out, st, now)
}

// printGuard says what a process keeps in case Redis loses it, and what Redis has lost.
func printGuard(out io.Writer, st queue.Stats, now time.Time) {
	if st.Guard == 0 {
		return
	}
	fmt.Fprintf(out, "  guard: keeps %s that Redis acknowledged within %v (%s)\n", plural(int(st.JournalJobs), "job"), st.Guard, humanize.IBytes(uint64(st.JournalBytes)))
	if st.Losses > 0 {
		last := ""
		if st.LastLoss != nil {
			last = ", last " + age(now, *st.LastLoss) + " ago"
		}
		fmt.Fprintf(out, "  Redis has LOST acknowledged jobs (%s%s): %s missing, %s sent again", plural(int(st.Losses), "time"), last, count(st.Lost), count(st.Resent))
		if st.ResentMaybeDone > 0 {
			fmt.Fprintf(out, ", of which %s may have been finished", count(st.ResentMaybeDone))
		}
		if st.Resent < st.Lost {
			fmt.Fprint(out, "; 'spool guard --check' sends what is missing")
		}
		fmt.Fprintln(out)
	}
	if st.JournalSkipped > 0 {
		fmt.Fprintf(out, "  the journal could not keep %s: it was full, or its disk failed\n", plural(int(st.JournalSkipped), "job"))
	}
}

func (s *status) printTables(out io.Writer, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nOWNER\tSTATE\tPROCESS\tTARGET\tPENDING\tBYTES\tOLDEST\tDEAD\tON DISK")
	for _, o := range s.Owners {
		fmt.Fprintln(w, o.row(now))
	}
	fmt.Fprintln(w)
	if len(s.Kinds) > 0 {
		fmt.Fprintln(w, "QUEUE\tTYPE\tPENDING\tBYTES\tOLDEST")
		for _, k := range s.Kinds[:min(len(s.Kinds), maxKinds)] {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", cmp.Or(printable(k.Queue), "(others)"), cmp.Or(printable(k.Type), "(others)"), count(int64(k.Pending)),
				humanize.IBytes(uint64(k.Bytes)), age(now, k.Oldest))
		}
		if more := len(s.Kinds) - maxKinds; more > 0 {
			fmt.Fprintf(w, "and %d more\n", more)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func (o ownerStatus) row(now time.Time) string {
	pending, size, oldest, dead, state := "?", "?", "-", "?", o.State
	if o.Pending != nil {
		pending, size, dead = count(int64(*o.Pending)), humanize.IBytes(uint64(o.PendingBytes)), strconv.Itoa(o.DeadLetters)
	}
	if o.Oldest != nil {
		oldest = age(now, *o.Oldest)
	}
	if o.HeldBy != 0 {
		state += fmt.Sprintf(" by %d", o.HeldBy)
	}
	return fmt.Sprintf("%s\t%s\t%d on %s\t%s\t%s\t%s\t%s\t%s\t%s", o.Name, state, o.PID, printable(o.Host), printable(o.Target),
		pending, size, oldest, dead, humanize.IBytes(uint64(o.FileBytes)))
}

func count(n int64) string { return humanize.Comma(n) }

// age is how long ago something was, to the second, or to the hour after days.
func age(now, then time.Time) string {
	d := max(now.Sub(then), 0)
	if d < 48*time.Hour {
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

func timeUntil(text string, d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return text + age(time.Time{}.Add(d), time.Time{})
}

func inParentheses(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "s") {
		noun += "e"
	}
	return fmt.Sprintf("%s %ss", count(int64(n)), noun)
}
