package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
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
	failing  bool    // the last try to set it failed

	// atLeast is what a dead process had set it to: it has that value or a higher one,
	// unless Redis lost something. Nobody knows which as long as possible is nil.
	atLeast uint64
	stays   time.Time // up to when it stays in Redis; zero: not known
	foreign bool      // it was set in the Redis of another target, whose data may have come along

	// Of a loss that goes on:
	acknowledged    bool   // see acknowledge
	until           uint64 // the last entry that may be lost; 0: not known yet
	missing, resent int    // so far
	elsewhere       bool   // in another Redis: this one has nothing of it
}

// newMark returns the marker of a queue that has none in Redis yet, or the first one: nobody
// may have heard of that.
func newMark(owner, queue string, keep time.Duration) *mark {
	return &mark{owner: owner, queue: queue, keep: keep, possible: []string{"", strconv.Itoa(firstMark)}}
}

// introduced says that the marker is there since some time, see firstMarks.
func (m *mark) introduced(at time.Time) {
	m.value, m.possible, m.set = firstMark, []string{strconv.Itoa(firstMark)}, at
}

func (m *mark) key() string { return markID{m.owner, m.queue}.key() }

// covers reports whether all entries up to one are covered.
func (m *mark) covers(seq uint64) bool {
	return m.value >= seq && len(m.possible) == 1 && !m.set.IsZero()
}

// advance sets the marker to the number of an entry. lost says that Redis has gone back to an
// earlier value, which is in found then.
func (m *mark) advance(ctx context.Context, s *sender, seq uint64, now time.Time) (lost bool, err error) {
	server, err := s.server(ctx, m.queue)
	if err == nil && m.possible == nil {
		err = m.inherit(ctx, server, now)
	}
	if err != nil || m.found != nil {
		return m.found != nil, scrub(err)
	}
	if stays := m.staying(); !stays.IsZero() && now.After(stays) && !slices.Contains(m.possible, "") {
		m.possible = append(m.possible, "") // it may have expired
	}
	if lost, err = m.swap(ctx, server, strconv.FormatUint(seq, 10)); err == nil && !lost {
		m.value, m.set = seq, now
	}
	return lost, err
}

// staying returns up to when the marker stays in Redis, for sure; zero: that is not known.
func (m *mark) staying() time.Time {
	if m.set.IsZero() {
		return time.Time{}
	}
	return m.set.Add(m.keep - markSlack/2)
}

// swap gives the marker a value, if it has one of those that are possible, which is then the
// only one. Without a reply both are.
func (m *mark) swap(ctx context.Context, server redis.UniversalClient, value string) (lost bool, err error) {
	args := []any{value, m.keep.Milliseconds()}
	for _, p := range m.possible {
		args = append(args, p)
	}
	reply, err := markScript().Run(ctx, server, []string{m.key()}, args...).Slice()
	if err != nil {
		if _, refused := replyText(err); !refused && !slices.Contains(m.possible, value) {
			m.possible = append(m.possible, value) // it may have been set
		}
		return false, scrub(err)
	}
	set, was, err := readMark(reply)
	switch {
	case err != nil:
		return false, err
	case !set:
		if lost, err = m.meet(was); err == nil && !lost {
			return m.swap(ctx, server, value)
		}
		return lost, err
	}
	m.possible = []string{value}
	return false, nil
}

// meet takes a value that the marker has and that is none of the possible ones. An earlier one
// is a loss, which begins or gets worse. A later one was on its way from a process that died.
func (m *mark) meet(text string) (lost bool, err error) {
	was, err := markValue(text)
	if err != nil {
		return false, err
	}
	if m.found == nil && was > m.value {
		m.value, m.possible = was, []string{text}
		return false, nil
	}
	m.lose(was, text)
	return true, nil
}

// lose begins a loss, or makes one that goes on worse: Redis went back to a value.
func (m *mark) lose(was uint64, text string) {
	if m.found == nil || was < *m.found {
		m.found = &was
	}
	m.possible, m.acknowledged, m.until = []string{text}, false, 0
}

// suspects reports whether an entry may be lost: it was acknowledged after the value was set
// that Redis went back to, and before the loss was known. False of all for nil.
func (m *mark) suspects(seq uint64) bool {
	return m != nil && m.found != nil && seq > *m.found && (m.until == 0 || seq <= m.until)
}

// acknowledge says in Redis that a loss is known, before it is looked up what is missing: if
// Redis loses something more from then on, the marker shows that, too. A zero in front
// makes the value another text.
func (m *mark) acknowledge(ctx context.Context, s *sender) error {
	server, err := s.server(ctx, m.queue)
	if err != nil {
		return scrub(err)
	}
	value := m.possible[0]
	if !m.acknowledged {
		value = "0" + value
	}
	lost, err := m.swap(ctx, server, value)
	if lost {
		return errors.Join(err, errors.New("queue: Redis has lost jobs again"))
	}
	m.acknowledged = err == nil || m.acknowledged
	return err
}

// inherit looks what a dead process has left of its marker. There may be none, if the process
// did not know of one, or if it has expired.
func (m *mark) inherit(ctx context.Context, server redis.UniversalClient, now time.Time) error {
	text, err := server.Get(ctx, m.key()).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	was, err := markValue(text)
	expired := text == "" && !m.stays.IsZero() && now.After(m.stays)
	switch {
	case err != nil:
		return err
	case was < m.atLeast && !expired:
		m.elsewhere = m.foreign && text == ""
		m.lose(was, text)
	default:
		m.value, m.possible = was, []string{text}
	}
	return nil
}

// accept ends a loss: the value that Redis went back to is what the marker covers.
func (m *mark) accept() {
	m.value, m.set, m.found, m.missing, m.resent, m.elsewhere = *m.found, time.Time{}, nil, 0, 0, false
}

func readMark(reply []any) (set bool, was string, err error) {
	if len(reply) == 2 {
		n, isInt := reply[0].(int64)
		text, isText := reply[1].(string)
		if isInt && isText {
			return n == 1, text, nil
		}
	}
	return false, "", errors.New("queue: a marker's script answers something else")
}

// markValue reads a marker. None is 0.
func markValue(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	was, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("queue: a marker holds something else: %w", err)
	}
	return was, nil
}

func markScript() *redis.Script { return redis.NewScript(advanceMark) }
