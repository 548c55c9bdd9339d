package queue

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// DefaultMaxMemory is the share of Redis's maxmemory up to which a replay fills it.
const DefaultMaxMemory = 0.8

const (
	// lookEvery is how old a look at Redis's memory may be, lookAgain how old where it says
	// that there is no room, lookRarely where Redis has no bound.
	lookEvery  = 200 * time.Millisecond
	lookAgain  = 10 * time.Millisecond
	lookRarely = 5 * time.Second

	// fullFor is for how long no job is sent to a server that had no room. While it still has
	// none that doubles, up to fullMost.
	fullFor  = 50 * time.Millisecond
	fullMost = 500 * time.Millisecond

	// lookTimeout bounds a look.
	lookTimeout = time.Second

	// waitsFor is for how long a server that had no room is a reason to wait for: longer than
	// from one look to the next. When none follows, something else stands in the way.
	waitsFor = 2 * (fullMost + lookTimeout)
)

// room keeps a replay from filling Redis: with its memory full, asynq's workers could not
// even take jobs out of it. Between two looks it counts what is sent, at a generous
// price. It belongs to the replayer's goroutine; full and err are safe for concurrent use.
type room struct {
	sender *sender
	share  float64 // of maxmemory; negative: off
	log    *slog.Logger
	told   bool // in the log, since the spool was empty last: that it waits
	blind  bool // in the log: that Redis does not tell

	stopped atomic.Int32 // servers that are stopped

	mu      sync.Mutex // held to change what follows, and by others to read it
	servers map[redis.UniversalClient]*memory
}

// memory is what is known of one server's.
type memory struct {
	used, limit int64 // limit is what a replay may use; 0: no bound
	most        int64 // maxmemory
	looked      time.Time
	dark        bool // the last look got no answer

	stopped time.Time     // no job is sent until then; zero: it is not stopped
	pause   time.Duration // for which it was; 0: there was room
	short   time.Time     // when it last had no room; zero: there was room
}

func newRoom(s *sender, share float64, log *slog.Logger) *room {
	return &room{sender: s, share: share, log: log, servers: map[redis.UniversalClient]*memory{}}
}

// full reports whether the server of a queue had no room a moment ago.
func (r *room) full(queue string) bool {
	if r.stopped.Load() == 0 {
		return false
	}
	server, err := r.sender.server(context.Background(), queue)
	if err != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.servers[server]
	return m != nil && time.Now().Before(m.stopped)
}

// due returns the time until jobs may be sent again to a server that had no room.
func (r *room) due() time.Duration {
	wait := idle
	if r.stopped.Load() == 0 {
		return wait
	}
	for _, m := range r.servers {
		if !m.stopped.IsZero() {
			wait = min(wait, time.Until(m.stopped))
		}
	}
	return wait
}

// expire lets jobs go again to servers whose time has come. Whether there is room now shows
// with the next job, if there is one.
func (r *room) expire(now time.Time) {
	if r.stopped.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.servers {
		if !m.stopped.IsZero() && !now.Before(m.stopped) {
			m.stopped = time.Time{}
			r.stopped.Add(-1)
		}
	}
}

// fit returns the items that Redis has room for: of each server the first ones. A server
// that does not say gets a single one, which will tell what is wrong.
func (r *room) fit(ctx context.Context, items []item) []item {
	if r.share < 0 {
		return items
	}
	given := map[*memory]bool{}
	fitting := items[:0]
	for _, it := range items {
		server, err := r.sender.server(ctx, it.job.Queue)
		if err != nil {
			fitting = append(fitting, it) // sending it will tell
			continue
		}
		m := r.memoryOf(server)
		if m.dark && given[m] || !r.takes(ctx, server, m, price(it.cmd)) {
			continue
		}
		given[m] = true
		fitting = append(fitting, it)
	}
	r.tell()
	return fitting
}

// price is how many bytes of Redis's memory a command takes at most: measured with Redis
// 7.0.15 are 460 to 970, by kind of task, beside 1.25 times its payload.
func price(c command) int64 { return 1024 + int64(c.Size())*5/4 }

func (r *room) memoryOf(server redis.UniversalClient) *memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.servers[server]
	if m == nil {
		m = &memory{}
		r.servers[server] = m
	}
	return m
}

// takes reports whether a server has room for so many bytes, and if so counts them.
func (r *room) takes(ctx context.Context, server redis.UniversalClient, m *memory, bytes int64) bool {
	now := time.Now()
	if now.Before(m.stopped) {
		return false
	}
	if m.stale(bytes, now) {
		seen, err := r.look(ctx, server)
		now = time.Now()
		r.update(m, seen, err, now)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.limit > 0 && m.used+bytes > m.limit {
		if m.stopped.IsZero() {
			r.stopped.Add(1)
		}
		m.pause = min(max(2*m.pause, fullFor), fullMost)
		m.stopped, m.short = now.Add(m.pause), now
		return false
	}
	m.used += bytes
	m.pause, m.short = 0, time.Time{}
	return true
}

// stale reports whether it is time for a look before so many bytes are sent.
func (m *memory) stale(bytes int64, now time.Time) bool {
	age := now.Sub(m.looked)
	switch {
	case m.dark, m.limit > 0 && m.used+bytes > m.limit:
		return age > lookAgain
	case m.limit > 0:
		return age > lookEvery
	}
	return age > lookRarely
}

// update takes over what a look has shown. Without an answer things are as they were.
func (r *room) update(m *memory, seen memory, err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.looked, m.dark = now, err != nil
	if err == nil {
		m.used, m.limit, m.most = seen.used, seen.limit, seen.most
	}
}

// look asks a server for its memory. A server that does not tell has no bound; an error
// says that it did not answer.
func (r *room) look(ctx context.Context, server redis.UniversalClient) (seen memory, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	info, err := server.Info(ctx, "memory").Result()
	switch {
	case err == nil:
		seen.used, seen.most = readMemory(info)
		seen.limit = int64(float64(seen.most) * r.share)
	case !deniesInfo(err):
		return seen, err
	case !r.blind:
		r.blind = true
		r.log.Warn("queue: Redis does not tell how full it is, a replay may fill it: the user needs +info", "err", scrub(err))
	}
	return seen, nil
}

// deniesInfo reports whether Redis, or what stands before it, answers everything but INFO.
func deniesInfo(err error) bool {
	reply, answered := replyText(err)
	return answered && (hasPrefix(reply, []string{"NOPERM ", "ERR unknown command"}) || classify(err) != notWritten)
}

// readMemory reads the reply to INFO memory. What Redis does not count against maxmemory
// does not count.
func readMemory(info string) (used, most int64) {
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "used_memory":
			used += n
		case "mem_not_counted_for_evict":
			used -= n
		case "maxmemory":
			most = n
		}
	}
	return used, most
}

// tell says once in the log that replay waits.
func (r *room) tell() {
	if r.told || r.stopped.Load() == 0 {
		return
	}
	for _, m := range r.servers {
		if !m.stopped.IsZero() {
			r.told = true
			r.log.Warn("queue: Redis is nearly full, replay waits for room", "used_bytes", m.used, "maxmemory_bytes", m.most)
			return
		}
	}
}

// emptied tells that there is nothing left to replay.
func (r *room) emptied() { r.told = false }

// err says which server has no room, nil if none.
func (r *room) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.servers {
		if !m.short.IsZero() && time.Since(m.short) < waitsFor {
			return fmt.Errorf("queue: Redis is nearly full, replay waits for room: %d of maxmemory's %d bytes are used", m.used, m.most)
		}
	}
	return nil
}
