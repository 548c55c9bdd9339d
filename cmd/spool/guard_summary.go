package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/jobspool/jobspool/queue"
)

// guardSummary is what spool guard prints without --jobs and --check.
type guardSummary struct {
	Jobs      int            `json:"jobs"`
	Bytes     int64          `json:"bytes"`
	Processes []guardProcess `json:"processes"`
	LeftOut   []string       `json:"left_out"` // why some of it may have been left out
}

// guardProcess is what one process keeps.
type guardProcess struct {
	PID   int  `json:"pid,omitempty"` // none: what dead processes left
	Guard bool `json:"guard"`         // false: it keeps no journal
	queue.Kept
}

func (p guardProcess) name() string {
	if p.PID == 0 {
		return "dead"
	}
	return strconv.Itoa(p.PID)
}

// kept returns the totals of a desk's journal, of one queue if it is named.
func (d *desk) kept(ctx context.Context, queueName string) (queue.Kept, error) {
	var page queue.GuardPage
	if err := d.call(ctx, http.MethodGet, keptJobs+"?limit=0", nil, &page); err != nil || page.Kept == nil {
		return queue.Kept{}, cmp.Or(err, fmt.Errorf("%s does not say what its journal holds", d.name))
	}
	all := *page.Kept
	if queueName == "" {
		return all, nil
	}
	k := queue.Kept{Queues: []queue.KeptQueue{}, Bad: all.Bad}
	for _, q := range all.Queues {
		if q.Queue == queueName {
			k.Jobs, k.Bytes, k.Queues = k.Jobs+q.Jobs, k.Bytes+q.Bytes, append(k.Queues, q)
			if k.Oldest == nil || q.Oldest != nil && q.Oldest.Before(*k.Oldest) {
				k.Oldest = q.Oldest
			}
		}
	}
	return k, nil
}

// kept returns what each desk's journal holds. Dead processes without one are left out.
func (s *survey) kept(ctx context.Context, queueName string) (all []guardProcess, err error) {
	for _, d := range s.all {
		k, err := d.kept(ctx, queueName)
		unable := errors.As(err, new(unableError))
		switch {
		case ctx.Err() != nil:
			return all, ctx.Err()
		case err != nil && !unable:
			s.failed(err)
			continue
		case !d.live && (unable || len(k.Queues) == 0 && len(k.Bad) == 0):
			continue
		}
		if unable {
			k.Queues = []queue.KeptQueue{}
		}
		all = append(all, guardProcess{PID: d.pid, Guard: !unable, Kept: k})
		for _, bad := range k.Bad {
			s.mute = append(s.mute, "of the journal something cannot be read, its jobs are left out: "+bad)
		}
		s.complain()
	}
	return all, nil
}

func (g guarding) summarize(ctx context.Context, s *survey) error {
	all, err := s.kept(ctx, g.filter.queue)
	if err != nil {
		return leftError{"interrupted"}
	}
	sum := guardSummary{Processes: append([]guardProcess{}, all...), LeftOut: append([]string{}, s.mute...)}
	for _, p := range all {
		sum.Jobs, sum.Bytes = sum.Jobs+p.Jobs, sum.Bytes+p.Bytes
	}
	if g.flags.json {
		err = printJSON(g.out, sum)
	} else {
		err = g.print(sum, time.Now())
	}
	return cmp.Or(err, s.verdict())
}

func (g guarding) print(sum guardSummary, now time.Time) error {
	w := tabwriter.NewWriter(g.out, 0, 0, 2, ' ', 0)
	rows := 0
	for _, p := range sum.Processes {
		for _, q := range p.Queues {
			if rows++; rows == 1 {
				fmt.Fprintln(w, "PROCESS\tJOURNAL OF\tQUEUE\tJOBS\tBYTES\tOLDEST\tMARKER")
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.name(), shortOwner(q.Owner), printable(q.Queue), count(int64(q.Jobs)),
				humanize.IBytes(uint64(q.Bytes)), oldest(now, q.Oldest), markerText(now, q.Marker))
		}
	}
	if rows > 0 {
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	guarded := 0
	for _, p := range sum.Processes {
		if p.Guard {
			guarded++
			continue
		}
		fmt.Fprintf(g.out, "process %s keeps no journal: its Config.Guard is off\n", p.name())
	}
	if guarded == 0 {
		fmt.Fprintln(g.out, "no journal: nothing is kept in case Redis loses it")
		return nil
	}
	_, err := fmt.Fprintf(g.out, "kept in case Redis loses them: %s (%s)\n", plural(sum.Jobs, "job"), humanize.IBytes(uint64(sum.Bytes)))
	return err
}

func oldest(now time.Time, at *time.Time) string {
	if at == nil {
		return "-"
	}
	return age(now, *at)
}

func markerText(now time.Time, m *queue.Marker) string {
	switch {
	case m == nil:
		return "-"
	case m.Lost:
		return "LOST"
	case m.Set.IsZero():
		return "not set"
	}
	return "set " + age(now, m.Set) + " ago"
}
