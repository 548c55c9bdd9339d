package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/spool"
)

// soonFull is how soon a spool is full that somebody should see to it now.
const soonFull = 2 * time.Hour

// processes are what living processes say of themselves.
type processes struct {
	paused   *spool.Pause
	statuses []queue.Status
	mute     []string // owners that nobody can ask, in words
}

func askProcesses(ctx context.Context, dir string, owners []spool.OwnerInfo) (p processes, err error) {
	p.paused, err = spool.Paused(dir)
	live, mute := liveDesks(ctx, dir, owners)
	p.mute = mute
	for _, d := range live {
		st, err := d.status(ctx)
		if err != nil {
			p.mute = append(p.mute, err.Error())
			continue
		}
		p.statuses = append(p.statuses, st)
	}
	return p, err
}

// deadLetters counts those of living processes.
func (p processes) deadLetters() (n int) {
	for _, st := range p.statuses {
		n += st.Stats.DeadLetters
	}
	return n
}

func judgeProcesses(p processes, now time.Time) []finding {
	out := []finding{judgePause(p.paused, now), judgeMute(p)}
	for _, st := range p.statuses {
		out = append(out, judgeProcess(st, now)...)
	}
	return out
}

func judgePause(p *spool.Pause, now time.Time) finding {
	if p == nil {
		return passed("pause", "replay is not paused")
	}
	return warned("pause", fmt.Sprintf("replay is paused for %s by %s%s", age(now, p.Since), printable(p.By), inParentheses(printable(p.Why))), "spool resume, once its reason is gone")
}

func judgeMute(p processes) finding {
	if len(p.mute) > 0 {
		return warned("processes", someOf(p.mute, "; "), "run spool as the service's user; a process that hangs may need a restart, which loses nothing")
	}
	return passed("processes", fmt.Sprintf("alive: %d, and all answer", len(p.statuses)))
}

// judgeProcess says what stands in the way of one process's jobs.
func judgeProcess(p queue.Status, now time.Time) []finding {
	st, name := p.Stats, fmt.Sprintf("process %d", p.PID)
	var out []finding
	if st.State == queue.StateOutage {
		out = append(out, failed(name, fmt.Sprintf("an outage for %s, jobs that wait: %s; %s", age(now, *st.OutageSince), count(int64(st.Pending)), st.OutageCause),
			"bring Redis back; see the other areas, and spool help outage"))
	}
	for _, q := range st.Queues {
		out = append(out, failed(name, fmt.Sprintf("an outage of queue %s for %s: %s", printable(q.Queue), age(now, q.Since), q.Cause), "see what its keys are, and the user's rights to them"))
	}
	switch {
	case st.SpoolStalled:
		out = append(out, failed(name, "the disk of the spool does not answer", "see to the disk"))
	case st.SpoolFullIn > 0 && st.SpoolFullIn < soonFull:
		out = append(out, warned(name, "the spool is full"+timeUntil(" in ", st.SpoolFullIn), "make room on its disk, or raise Config.Spool.MaxBytes; a full spool refuses new jobs"))
	}
	if st.ReplayWaits != "" {
		out = append(out, warned(name, st.ReplayWaits, "make room in Redis: start workers, or raise maxmemory"))
	}
	out = append(out, judgeLosses(name, st, now)...)
	if len(out) == 0 {
		out = append(out, passed(name, fmt.Sprintf("no outage, %s in its spool", plural(st.Pending, "job"))))
	}
	return out
}

// judgeLosses says what Redis has lost, and what could not be guarded against that.
func judgeLosses(name string, st queue.Stats, now time.Time) (out []finding) {
	if st.Losses > 0 {
		last := ""
		if st.LastLoss != nil {
			last = ", last " + age(now, *st.LastLoss) + " ago"
		}
		seen := fmt.Sprintf("Redis has lost %s that it had acknowledged, see appendonly above%s; %s sent again", plural(int(st.Lost), "job"), last, count(st.Resent))
		todo := "have Redis keep what it acknowledges: appendonly, replicas that keep up"
		if st.Resent < st.Lost {
			todo += "; spool guard --check sends again what is missing"
		}
		out = append(out, warned(name, seen, todo))
	}
	if st.JournalSkipped > 0 {
		out = append(out, warned(name, fmt.Sprintf("the journal could not keep %s", plural(int(st.JournalSkipped), "job")),
			"raise Config.GuardBytes, or see to its disk: what Redis loses of those is lost"))
	}
	return out
}
