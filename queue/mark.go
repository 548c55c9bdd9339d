package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/internal/compose"
)

// advanceMark sets a marker, unless it is none of the values that it can have: then Redis
// has forgotten something, and the value it went back to is the evidence, which stays. A
// plain SET with GET would destroy it where its reply is lost.
const advanceMark = `
local was = redis.call("GET", KEYS[1]) or ""
for i = 3, #ARGV do
	if was == ARGV[i] then
		redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
		return {1, was}
	end
end
return {0, was}`

const (
	// markEvery is the shortest time between two advances of a marker.
	markEvery = 100 * time.Millisecond

	// markSlack is how much longer than the journal keeps jobs a marker stays in Redis.
	markSlack = time.Hour
)

// mark is a queue's marker in Redis: it has the number of the last entry of the journal that
// Redis had acknowledged when it was set. Redis executes, and forgets, in one order: after
// a loss the marker is back at an earlier value, or gone, and what was acknowledged since
// that value was set is what may be missing. Used by one goroutine.
type mark struct {
	owner string // whose journal it is
	queue string
	keep  time.Duration // of a marker in Redis

	value    uint64   // that it is to have
	possible []string // what it can be in Redis now; "" is none
	set      time.Time
	found    *uint64 // a loss goes on: the value that Redis went back to

	// atLeast is what a dead process was about to set it to: it has that value or a higher
	// one, unless Redis lost something. Nobody knows which as long as possible is nil.
	atLeast uint64
}

// newMark returns the marker of a queue that has none in Redis yet.
func newMark(owner, queue string, keep time.Duration) *mark {
	return &mark{owner: owner, queue: queue, keep: keep, possible: []string{""}}
}

func (m *mark) key() string { return compose.QueuePrefix(m.queue) + "spool:mark:" + m.owner }

// covers reports whether all entries up to one are covered.
func (m *mark) covers(seq uint64) bool {
	return m.value >= seq && len(m.possible) == 1 && !m.set.IsZero()
}

// advance sets the marker to the number of an entry. lost says that Redis has gone back to an
// earlier value, which is in found then.
func (m *mark) advance(ctx context.Context, s *sender, seq uint64, now time.Time) (lost bool, err error) {
	server, err := s.server(ctx, m.queue)
	if err == nil && m.possible == nil {
		err = m.inherit(ctx, server)
	}
	if err != nil || m.found != nil {
		return m.found != nil, scrub(err)
	}
	if !m.set.IsZero() && now.Sub(m.set) > m.keep-markSlack/2 && !slices.Contains(m.possible, "") {
		m.possible = append(m.possible, "") // it may have expired
	}
	value := strconv.FormatUint(seq, 10)
	args := []any{value, m.keep.Milliseconds()}
	for _, p := range m.possible {
		args = append(args, p)
	}
	reply, err := markScript().Run(ctx, server, []string{m.key()}, args...).Slice()
	if err != nil {
		if !slices.Contains(m.possible, value) {
			m.possible = append(m.possible, value) // it may have been set
		}
		return false, scrub(err)
	}
	set, was, err := readMark(reply)
	if err != nil {
		return false, err
	}
	if !set {
		m.found = &was
		return true, nil
	}
	m.value, m.possible, m.set, m.found = seq, []string{value}, now, nil
	return false, nil
}

// inherit looks what a dead process has left of its marker. One that was never set is lost
// as well: what it would have covered was acknowledged before.
func (m *mark) inherit(ctx context.Context, server redis.UniversalClient) error {
	text, err := server.Get(ctx, m.key()).Result()
	was := uint64(0)
	if err == nil {
		was, err = strconv.ParseUint(text, 10, 64)
	}
	switch {
	case err != nil && !errors.Is(err, redis.Nil):
		return err
	case was < m.atLeast || was == 0:
		m.found = &was
	default:
		m.value, m.possible = was, []string{text}
	}
	return nil
}

// accept ends a loss: the value that Redis went back to is what the marker holds.
func (m *mark) accept() {
	m.possible = []string{""}
	if *m.found != 0 {
		m.possible = []string{strconv.FormatUint(*m.found, 10)}
	}
	m.value, m.set, m.found = *m.found, time.Time{}, nil
}

func readMark(reply []any) (set bool, was uint64, err error) {
	if len(reply) == 2 {
		n, _ := reply[0].(int64)
		text, ok := reply[1].(string)
		if text != "" {
			was, err = strconv.ParseUint(text, 10, 64)
		}
		if ok && err == nil {
			return n == 1, was, nil
		}
	}
	return false, 0, fmt.Errorf("queue: a marker holds something else: %v", err)
}

func markScript() *redis.Script { return redis.NewScript(advanceMark) }
