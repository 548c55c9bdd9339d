package chaos_test

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue"
)

// oracle keeps what the children say of each job. Safe for concurrent use.
type oracle struct {
	mu        sync.Mutex
	jobs      map[string]*fate
	accepted  int
	processed int // of those that were accepted: no worker has more to do with them
	refused   int
	longest   time.Duration
	losses    int       // that guards have seen
	midway    int       // producers that killed themselves before they knew Redis's answer to a batch
	again     int       // jobs that a replay found in Redis
	forgot    time.Time // when Redis has forgotten its last moments; zero: it has not
	troubles  []string
}

// fate is what became of a job.
type fate struct {
	sum      string
	kind     string // the last that its producer said
	spooled  bool
	at       time.Time // when it was accepted
	grouped  bool      // no worker runs it
	ids      []string
	runs     int // that asynq itself did not repeat
	repeated int // by asynq itself: after a worker died with it, or could not say that it was done
	held     string
	text     string
}

func newOracle() *oracle { return &oracle{jobs: map[string]*fate{}} }

func (o *oracle) trouble(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.troubleLocked(text)
}

func (o *oracle) troubleLocked(text string) {
	if len(o.troubles) < 20 {
		o.troubles = append(o.troubles, text)
	}
}

// note takes what a child said.
func (o *oracle) note(r report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch r.Kind {
	case reportTrouble:
		o.troubleLocked(r.Text)
		return
	case reportMidway:
		o.midway++
		return
	}
	f := o.jobs[r.Name]
	if f == nil {
		f = &fate{} // a worker may be heard before the producer
		o.jobs[r.Name] = f
	}
	switch r.Kind {
	case reportRan:
		if f.runs+f.repeated == 0 && f.kind == reportOK {
			o.processed++
		}
		if r.Again > 0 {
			f.repeated++
		} else {
			f.runs++
		}
		o.identify(f, r)
	case reportTry:
		o.sumUp(f, r)
		f.kind = cmp.Or(f.kind, reportTry)
	case reportOK:
		f.kind, f.spooled, f.at = reportOK, r.Where != queue.InRedis.String(), time.Unix(0, r.At)
		o.accepted++
		if f.grouped = r.Group; f.runs+f.repeated > 0 || f.grouped {
			o.processed++
		}
		o.identify(f, r)
		o.longest = max(o.longest, r.Took)
	default:
		f.kind, f.text = r.Kind, r.Text
		o.refused++
		o.longest = max(o.longest, r.Took)
	}
}

// identify notes a job's id and payload.
func (o *oracle) identify(f *fate, r report) {
	if !slices.Contains(f.ids, r.ID) {
		f.ids = append(f.ids, r.ID)
	}
	o.sumUp(f, r)
}

func (o *oracle) sumUp(f *fate, r report) {
	if f.sum = cmp.Or(f.sum, r.Sum); r.Sum != "" && f.sum != r.Sum {
		o.troubleLocked("the payload of " + r.Name + " is another one")
	}
}

// counts returns how many jobs were accepted, and how many of those a worker ran or never will.
func (o *oracle) counts() (accepted, processed int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.accepted, o.processed
}

// addBooks notes what a producer says of itself at the end.
func (o *oracle) addBooks(st queue.Stats) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.losses += int(st.Losses)
	o.again += int(st.AlreadyThere)
}

func (o *oracle) refusals() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refused
}

// said returns what children complained of.
func (o *oracle) said() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.troubles)
}

// verdict is a row of the table.
type verdict struct {
	Jobs      int           // accepted
	Spooled   int           // of Jobs: at first
	Refused   int           // the caller got an error
	Lost      int           // accepted, and neither run nor in Redis
	Unguarded int           // of Lost: Guard does not promise to see it
	Twice     int           // runs more than one that asynq itself did not repeat
	Repeated  int           // runs that asynq itself repeated
	Held      int           // accepted and in Redis, not run: in the hands of a dead worker
	Grouped   int           // accepted and in Redis, in a group
	Longest   time.Duration // Enqueue
	TwoIDs    int
	Unknown   int // run or in Redis, and nobody enqueued them
	Unwanted  int // refused, and run all the same
	Losses    int // of Redis, that guards have seen
	Midway    int // kills between Redis's reply and the commit
	Again     int // jobs that a replay found in Redis
	Troubles  []string
	lostNames []string
}

// judge says what became of all jobs, of which some are in Redis.
func (o *oracle) judge(inRedis []heldJob) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := verdict{Longest: o.longest, Losses: o.losses, Midway: o.midway, Again: o.again, Unknown: o.hold(inRedis)}
	v.Troubles = slices.Clone(o.troubles)
	for name, f := range o.jobs {
		there := f.runs+f.repeated > 0 || f.held != ""
		v.Twice += max(f.runs-1, 0)
		v.Repeated += f.repeated
		if len(f.ids) > 1 {
			v.TwoIDs++
		}
		switch f.kind {
		case reportOK:
			v.Jobs++
			if f.spooled {
				v.Spooled++
			}
			switch {
			case !there:
				v.Lost++
				if o.unguarded(f) {
					v.Unguarded++
				}
				v.lostNames = append(v.lostNames, fmt.Sprint(name, f.ids))
			case f.grouped:
				v.Grouped++
				if f.held != grouped || f.runs+f.repeated > 0 {
					v.Troubles = append(v.Troubles, fmt.Sprintf("%s has left its group: it is %q and ran %d times", name, f.held, f.runs+f.repeated))
				}
			case f.runs+f.repeated == 0:
				v.Held++
			}
		case reportNo:
			v.Refused++
			if there {
				v.Unwanted++
				v.Troubles = append(v.Troubles, fmt.Sprintf("%s was refused (%s), and is there", name, f.text))
			}
		case reportMaybe:
			v.Refused++
		case "":
			v.Unknown++
			v.Troubles = append(v.Troubles, fmt.Sprintf("a worker ran %q, which nobody enqueued", name))
		}
	}
	slices.Sort(v.lostNames)
	return v
}

// hold notes the jobs that are in Redis, with their ids and payloads, and returns how many of
// them nobody has enqueued.
func (o *oracle) hold(jobs []heldJob) (unknown int) {
	for _, h := range jobs {
		f := o.jobs[h.name]
		if f == nil {
			unknown++
			o.troubleLocked(fmt.Sprintf("Redis has %q (%s, %s), which nobody enqueued", h.name, h.id, h.state))
			continue
		}
		if f.held != "" {
			o.troubleLocked(fmt.Sprintf("%s is in Redis twice: %s and %s", h.name, f.held, h.state))
		}
		f.held = h.state
		o.identify(f, report{Name: h.name, ID: h.id, Sum: h.sum})
	}
	return unknown
}

// blindness is for how long before a loss Guard may not see it: its marker is set every 100 ms,
// by a process that may have to wait for this machine.
const blindness = 500 * time.Millisecond

// forgets notes that Redis is about to lose what its replica has not got.
func (o *oracle) forgets() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forgot = time.Now()
}

// unguarded reports whether Guard may miss that Redis has lost a job.
func (o *oracle) unguarded(f *fate) bool {
	return !f.spooled && !o.forgot.IsZero() && f.at.After(o.forgot.Add(-blindness))
}

// check fails the test unless every promise was kept.
func (v verdict) check(tb testing.TB, most allowed) {
	tb.Helper()
	if v.Jobs == 0 {
		tb.Error("no job was accepted: nothing was tested")
	}
	if v.Lost > v.Unguarded {
		tb.Errorf("%d of %d jobs are lost, %d of them Guard may miss, for example %v",
			v.Lost, v.Jobs, v.Unguarded, v.lostNames[:min(5, len(v.lostNames))])
	}
	if v.Twice > most.twice {
		tb.Errorf("%d runs too many", v.Twice)
	}
	if v.Losses > 0 && most.twice == 0 {
		tb.Errorf("Redis has lost nothing, and guards have seen %d losses", v.Losses)
	}
	if v.TwoIDs > 0 {
		tb.Errorf("%d jobs have two ids", v.TwoIDs)
	}
	if v.Unknown > 0 {
		tb.Errorf("nobody enqueued %d jobs", v.Unknown)
	}
	if v.Refused > 0 && !most.refused {
		tb.Errorf("%d jobs were refused", v.Refused)
	}
	if v.Longest > most.wait {
		tb.Errorf("an Enqueue took %v", v.Longest)
	}
	for _, s := range v.Troubles {
		tb.Error(s)
	}
}

// allowed is what a fault may do at most.
type allowed struct {
	twice   int
	refused bool
	wait    time.Duration // of Enqueue
}
