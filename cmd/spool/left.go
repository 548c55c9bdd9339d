package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/jobspool/jobspool/queue"
)

// judge says of which owners the Redis given is another's.
func (s *status) judge(r *redisStatus) {
	for i, o := range s.Owners {
		if r != nil && o.State == stateOrphan && !queue.SameTarget(o.Target, r.Target) {
			s.Owners[i].State, s.Owners[i].Foreign = stateForeign, true
		}
	}
}

// left says in words what is still in the spool, and why living owners were not asked to send
// it, if they were not.
func (s *status) left(notAsked string) []string {
	if notAsked != "" {
		notAsked = "; it was " + notAsked
	}
	left := []string{}
	for _, o := range s.Owners {
		who := fmt.Sprintf("owner %s (pid %d on %s)", o.Name, o.PID, o.Host)
		switch {
		case o.State == stateBusy && o.Segments > 0:
			left = append(left, who+" is in use by a process that does not answer, and holds jobs")
		case o.Pending == nil || *o.Pending == 0:
		case o.State == stateAlive || o.State == stateHeld:
			left = append(left, fmt.Sprintf("%s is alive and replays itself: %s%s%s", who, plural(*o.Pending, "job"), s.outageOf(o), notAsked))
		case o.Target == "":
			left = append(left, fmt.Sprintf("%s: %s not sent, since nobody can tell where to: its identity cannot be read", who, plural(*o.Pending, "job")))
		case o.State == stateForeign:
			left = append(left, fmt.Sprintf("%s is foreign: %s for %s", who, plural(*o.Pending, "job"), o.Target))
		default:
			left = append(left, fmt.Sprintf("%s: %s not sent", who, plural(*o.Pending, "job")))
		}
		if o.DeadLetters > 0 {
			left = append(left, fmt.Sprintf("%s: %s", who, plural(o.DeadLetters, "dead letter")))
		}
		for _, bad := range o.Bad {
			left = append(left, who+": "+bad)
		}
	}
	return left
}

// outageOf says whether the process that holds a share sees an outage, or some of its queues do.
func (s *status) outageOf(o ownerStatus) string {
	for _, p := range s.Processes {
		if p.Owner != o.Name && p.PID != o.HeldBy {
			continue
		}
		switch st := p.Stats; st.State {
		case queue.StateOutage:
			return fmt.Sprintf(", in an outage since %s: %s", st.OutageSince.Local().Format(time.DateTime), st.OutageCause)
		case queue.StatePartial:
			return ", " + queueOutages(st)
		}
	}
	return ""
}

// queueOutages says which queues have an outage of their own.
func queueOutages(st queue.Stats) string {
	texts := make([]string, len(st.Queues))
	for i, q := range st.Queues {
		texts[i] = fmt.Sprintf("queue %q has an outage since %s: %s", q.Queue, q.Since.Local().Format(time.DateTime), q.Cause)
	}
	return strings.Join(texts, ", ")
}
