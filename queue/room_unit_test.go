package queue

import (
	"log/slog"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/queue/redistest"
)

// TestRoomWithoutAnAnswer: of a server that does not say how full it is nothing is assumed
// but what was known. One job goes there at a time, until it says.
func TestRoomWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{Args: []string{"--maxmemory", "8mb"}})
	s := newSender()
	client, _, err := connect(asynq.RedisClientOpt{Addr: r.Addr()}, s.lifetime())
	check(t, err)
	s.use(client)
	t.Cleanup(func() { check(t, s.close()) })
	items := itemsOf(t, 10, 300<<10) // of which all fit, but not twice
	log := slog.New(slog.DiscardHandler)

	check(t, r.Kill())
	g := newRoom(s, 1, log)
	for range 3 {
		if n := fitting(t, g, items); n != 1 {
			t.Errorf("%d of 10 go to a server that is down", n)
		}
		time.Sleep(2 * lookAgain)
	}
	if g.full("default") || g.due() != idle || g.err() != nil {
		t.Errorf("it is down, not full: %v", g.err())
	}
	check(t, r.Restart())
	time.Sleep(2 * lookAgain)
	if n := fitting(t, g, items); n != 10 {
		t.Errorf("%d of 10 go to a server with room for them", n)
	}
	check(t, r.Kill())
	time.Sleep(2 * lookEvery)
	if n := fitting(t, g, items); n != 1 {
		t.Errorf("%d of 10 go to a server that was well and is down", n)
	}
	if n := fitting(t, g, itemsOf(t, 1, 8<<20)); n != 0 {
		t.Error("what was known of a server that is down is forgotten")
	}
}

// TestRoomTriesLessAndLessOften while a server has no room.
func TestRoomTriesLessAndLessOften(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{Args: []string{"--maxmemory", "2mb"}})
	s := newSender()
	client, _, err := connect(asynq.RedisClientOpt{Addr: r.Addr()}, s.lifetime())
	check(t, err)
	s.use(client)
	t.Cleanup(func() { check(t, s.close()) })
	g := newRoom(s, 0.8, slog.New(slog.DiscardHandler))
	m := g.memoryOf(client)
	large, little := itemsOf(t, 1, 2<<20), itemsOf(t, 1, 10)
	for _, want := range []time.Duration{fullFor, 2 * fullFor, 4 * fullFor, 8 * fullFor, fullMost, fullMost} {
		if n := fitting(t, g, large); n != 0 {
			t.Fatal("it fits: the test shows nothing")
		}
		if m.pause != want || g.due() > want || g.stopped.Load() != 1 {
			t.Errorf("stopped for %v, want %v; %d servers are stopped", m.pause, want, g.stopped.Load())
		}
		m.stopped = time.Now().Add(time.Minute)
		if n := fitting(t, g, little); n != 0 || !g.full("default") || g.due() < time.Second {
			t.Error("a job goes to a server that is stopped")
		}
		m.stopped = time.Now()
		if want < fullMost { // else it is found out by a job that comes in between
			g.expire(m.stopped)
			if g.full("default") || g.due() != idle || g.stopped.Load() != 0 {
				t.Error("still stopped when its time has come")
			}
		}
		if g.err() == nil {
			t.Error("it does not wait, before there is room")
		}
	}
	g.expire(m.stopped)
	if n := fitting(t, g, little); n != 1 || g.err() != nil || m.pause != 0 {
		t.Errorf("%d of 1 fit: %v", n, g.err())
	}
	fitting(t, g, large)
	if m.pause != fullFor {
		t.Errorf("stopped for %v after there was room", m.pause)
	}
}

func fitting(t *testing.T, g *room, items []item) int {
	t.Helper()
	return len(g.fit(t.Context(), append([]item(nil), items...)))
}

func itemsOf(t *testing.T, n, size int) (items []item) {
	t.Helper()
	c, err := compose.New()
	check(t, err)
	t.Cleanup(func() { check(t, c.Close()) })
	for range n {
		_, cmd, err := c.Compose(t.Context(), asynq.NewTask("t", make([]byte, size)))
		check(t, err)
		items = append(items, item{job: job{Queue: "default"}, cmd: cmd})
	}
	return items
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
