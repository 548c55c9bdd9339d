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

	// fullFor is for how long no job is sent to a server that had no room.
	fullFor = 50 * time.Millisecond

	// lookTimeout bounds a look.
	lookTimeout = time.Second
)

// guard keeps a replay from filling Redis: with its memory full, asynq's workers could not
// even take jobs out of it (H45). Between two looks it counts what is sent, at a generous
// price. Safe for concurrent use.
type guard struct {
	sender *sender
	share  float64 // of maxmemory; negative: off
	log    *slog.Logger

	anyFull atomic.Int32 // servers whose full is not zero

	mu      sync.Mutex
	servers map[redis.UniversalClient]*memory
	told    bool // in the log: since the spool was empty last
	blind   bool // in the log: that Redis does not tell
}

// memory is what is known of one server's.
type memory struct {
	used, limit int64 // limit is what a replay may use; 0: no bound
	most        int64 // maxmemory
	looked      time.Time
	full        time.Time // no job is sent until then; zero: there was room
}

func newGuard(s *sender, share float64, log *slog.Logger) *guard {
	return &guard{sender: s, share: share, log: log, servers: map[redis.UniversalClient]*memory{}}
}

// full reports whether the server of a queue had no room a moment ago.
func (g *guard) full(queue string) bool {
	if g.anyFull.Load() == 0 {
		return false
	}
	server, err := g.sender.server(context.Background(), queue)
	if err != nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.servers[server]
	return m != nil && time.Now().Before(m.full)
}

// due returns the time until a server is looked at again that had no room.
func (g *guard) due() time.Duration {
	wait := idle
	if g.anyFull.Load() == 0 {
		return wait
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.servers {
		if !m.full.IsZero() {
			wait = min(wait, max(time.Until(m.full), time.Millisecond))
		}
	}
	return wait
}

// fit returns the items that Redis has room for: of each server the first ones.
func (g *guard) fit(ctx context.Context, items []item) []item {
	if g.share < 0 {
		return items
	}
	fitting := items[:0]
	for _, it := range items {
		server, err := g.sender.server(ctx, it.job.Queue)
		if err != nil || g.takes(ctx, server, price(it.cmd)) { // what is wrong, sending it will tell
			fitting = append(fitting, it)
		}
	}
	return fitting
}

// price is how many bytes of Redis's memory a command takes at most: measured with Redis
// 7.0.15 are 460 to 970, by kind of task, beside 1.25 times its payload.
func price(c command) int64 { return 1024 + int64(c.Size())*5/4 }

// takes reports whether a server has room for so many bytes, and if so counts them.
func (g *guard) takes(ctx context.Context, server redis.UniversalClient, bytes int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.servers[server]
	if m == nil {
		m = &memory{}
		g.servers[server] = m
	}
	now := time.Now()
	if now.Before(m.full) {
		return false
	}
	age := now.Sub(m.looked)
	if age > lookRarely || m.limit > 0 && (age > lookEvery || age > lookAgain && m.used+bytes > m.limit) {
		g.look(ctx, server, m)
	}
	fits := m.limit == 0 || m.used+bytes <= m.limit
	g.setFull(m, !fits, now)
	if fits {
		m.used += bytes
	}
	return fits
}

func (g *guard) setFull(m *memory, full bool, now time.Time) {
	was := !m.full.IsZero()
	m.full = time.Time{}
	if full {
		m.full = now.Add(fullFor)
	}
	switch {
	case full && !was:
		g.anyFull.Add(1)
		if !g.told {
			g.told = true
			g.log.Warn("queue: Redis is nearly full, replay waits for room", "used_bytes", m.used, "maxmemory_bytes", m.most)
		}
	case !full && was:
		g.anyFull.Add(-1)
	}
}

// look asks a server for its memory; mu is held: nobody else has anything to do without
// the answer. A server that does not tell has no bound.
func (g *guard) look(ctx context.Context, server redis.UniversalClient, m *memory) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	info, err := server.Info(ctx, "memory").Result()
	m.looked = time.Now()
	m.used, m.most = readMemory(info)
	m.limit = int64(float64(m.most) * g.share)
	if _, answered := replyText(err); answered && !g.blind {
		g.blind = true
		g.log.Warn("queue: Redis does not tell how full it is, a replay may fill it: the user needs +info", "err", scrub(err))
	}
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

// emptied tells that there is nothing left to replay.
func (g *guard) emptied() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = false
}

// err says which server has no room, nil if none.
func (g *guard) err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.servers {
		if !m.full.IsZero() {
			return fmt.Errorf("queue: Redis is nearly full, replay waits for room: %d of maxmemory's %d bytes are used", m.used, m.most)
		}
	}
	return nil
}
