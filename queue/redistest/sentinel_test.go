package redistest_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/redistest"
)

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	s := redistest.RunSentinel(t, redistest.Options{AppendOnly: true})
	if len(s.Addrs()) != 3 || len(s.Processes()) != 3 {
		t.Fatalf("sentinels: %q", s.Addrs())
	}
	first, second := s.Master(), s.Replica()
	if s := s.Servers(); first != s[0] || second != s[1] {
		t.Fatal("Master and Replica are not what was started as such")
	}
	c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: s.MasterName(), SentinelAddrs: s.Addrs()})
	defer c.Close()
	must(t, c.Set(t.Context(), "job", "here", 0).Err())
	must(t, c.Wait(t.Context(), 1, time.Second).Err())

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, s.Failover(ctx))
	if s.Master() != second || s.Replica() != first {
		t.Error("the servers have not changed places")
	}
	eventually(t, "the client finds the new master", func() bool {
		return c.Set(t.Context(), "job", "there", 0).Err() == nil
	})
	expect(t, second.Addr(), "GET job", "there")

	// Not by request, but because the sentinels see that the master hangs.
	eventually(t, "the old master replicates", func() bool {
		got, err := try(first.Addr(), "GET job", time.Second)
		return err == nil && got == "there"
	})
	must(t, second.Freeze())
	eventually(t, "the sentinels replace a frozen master", func() bool { return s.Master() == first })
	must(t, second.Thaw())
	eventually(t, "the client finds the first master", func() bool {
		return c.Set(t.Context(), "job", "back", 0).Err() == nil
	})
}

func TestKillSentinels(t *testing.T) {
	t.Parallel()
	s := redistest.RunSentinel(t, redistest.Options{})
	must(t, s.Processes()[0].Freeze())
	if s.Master() != s.Servers()[0] {
		t.Error("a frozen sentinel changes the master")
	}
	s.KillSentinels()
	for _, addr := range s.Addrs() {
		if _, err := try(addr, "PING", time.Second); err == nil {
			t.Errorf("sentinel %s answers", addr)
		}
	}
	if s.Master() != s.Servers()[0] || s.Replica() != s.Servers()[1] {
		t.Error("without sentinels, the servers' roles are not known")
	}
	for _, p := range s.Processes() {
		must(t, p.Restart())
		expect(t, p.Addr(), "PING", "+PONG")
	}
}
