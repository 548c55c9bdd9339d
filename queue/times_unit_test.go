package queue

import (
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue/internal/compose"
)

// TestTimesOfALateJob composes jobs that lay in the spool while their times passed, or
// nearly. Times count from the replay. It holds with a clock that was set back by an hour
// in between, too: then all of a job's times are ahead, that of its call included.
func TestTimesOfALateJob(t *testing.T) {
	composer, err := compose.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = composer.Close() }()
	const s, ms, h = time.Second, time.Millisecond, time.Hour
	for _, c := range []struct {
		name                     string
		processIn, lockFor, call time.Duration // zero: none
		group                    string
		keys                     int           // of the script: what is beside task and lock tells the kind
		in                       time.Duration // for which it is scheduled, zero: not
		lock                     int           // seconds for which it asks, zero: for none
	}{
		{name: "no times", call: -h, keys: 2},
		{name: "due long ago", call: -2 * h, processIn: -h, keys: 2},
		{name: "due just now", call: -h, processIn: -ms, keys: 2},
		{name: "due later", call: -h, processIn: 10 * s, keys: 2, in: 10 * s},

		{name: "lock of an hour", call: -s, lockFor: h - s, keys: 2, lock: 3599},
		{name: "lock with 1.6 s left", call: -h, lockFor: 1600 * ms, keys: 2, lock: 2},
		{name: "lock with a second left", call: -h, lockFor: 1010 * ms, keys: 2, lock: 1},
		{name: "lock with less left", call: -h, lockFor: 900 * ms, keys: 2},
		{name: "lock that has ended", call: -h, lockFor: -s, keys: 2},
		{name: "lock that ended long ago", call: -3 * h, lockFor: -2 * h, keys: 2},
		{name: "due later, with a lock beyond", call: -h, processIn: 10 * s, lockFor: 70 * s, keys: 2, in: 10 * s, lock: 70},
		{name: "due, with a lock that goes on", call: -h, processIn: -5 * s, lockFor: 55 * s, keys: 2, lock: 55},
		{name: "due, with a lock that has ended", call: -h, processIn: -70 * s, lockFor: -10 * s, keys: 2},

		{name: "group", call: -h, group: "g", keys: 3},
		{name: "group, due later", call: -h, group: "g", processIn: 10 * s, keys: 2, in: 10 * s},
		{name: "group, due long ago", call: -2 * h, group: "g", processIn: -h, keys: 2, in: s},
		{name: "group, due in a moment", call: -h, group: "g", processIn: 300 * ms, keys: 2, in: s},
		{name: "group, with a lock", call: -h, group: "g", lockFor: 30 * s, keys: 3, lock: 30},
		{name: "group, due, with a lock", call: -h, group: "g", processIn: -s, lockFor: 30 * s, keys: 2, in: s, lock: 30},
		{name: "group, due, with a lock about to end", call: -h, group: "g", processIn: -s, lockFor: 1200 * ms, keys: 2, in: s, lock: 2},
		{name: "group, due, with a lock that has ended", call: -h, group: "g", processIn: -h, lockFor: -s, keys: 2, in: s},

		{name: "called in an hour", call: h, keys: 2},
		{name: "called in an hour, due then", call: h, processIn: h + 10*s, keys: 2, in: h + 10*s},
		{name: "called in an hour, locked from then", call: h, lockFor: h + 60*s, keys: 2, lock: 3660},
		{name: "called in an hour, group", call: h, group: "g", keys: 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Now()
			j := job{ID: "id", Queue: "q", Type: "t", MaxRetry: 1, Timeout: time.Minute, Group: c.group, At: now.Add(c.call)}
			if c.processIn != 0 {
				j.ProcessAt = now.Add(c.processIn)
			}
			if c.lockFor != 0 {
				j.Lock, j.LockUntil = "asynq:{q}:unique:t:", now.Add(c.lockFor)
			}
			info, cmd, err := composer.Compose(t.Context(), j.task(now))
			if err != nil {
				t.Fatal(err)
			}
			got := cmd.LockSeconds()
			if c.in > 0 && c.lock > 0 && got == c.lock-1 {
				got++ // asynq looks at its own clock once more
			}
			if got != c.lock {
				t.Errorf("locked for %d s, want %d", got, c.lock)
			}
			keys := len(cmd.Keys)
			if cmd.Lock() != "" {
				keys--
			}
			in := time.Duration(0)
			if info.NextProcessAt.After(now.Add(100 * ms)) {
				in = info.NextProcessAt.Sub(now)
			}
			if keys != c.keys || (in-c.in).Abs() > s/2 || info.Group != c.group && c.in == 0 {
				t.Errorf("%v in %v with %d keys, want %v with %d", info.State, in, keys, c.in, c.keys)
			}
		})
	}
}
