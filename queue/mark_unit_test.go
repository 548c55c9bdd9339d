package queue

import (
	"context"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/redistest"
)

// markTrial is a marker of 100 in a real Redis, behind a proxy.
type markTrial struct {
	m     *mark
	s     *sender
	proxy *redistest.Proxy
	rdb   *redis.Client
}

func newMarkTrial(t *testing.T) *markTrial {
	t.Helper()
	r := redistest.Run(t, redistest.Options{})
	k := &markTrial{
		m: newMark("owner", "default", 2*time.Hour), s: newSender(), proxy: redistest.NewProxy(t, r.Addr()),
		rdb: redis.NewClient(&redis.Options{Addr: r.Addr()}),
	}
	client, _, err := connect(asynq.RedisClientOpt{Addr: k.proxy.Addr()}, k.s.lifetime())
	check(t, err)
	k.s.use(client)
	t.Cleanup(func() {
		check(t, k.s.close())
		check(t, k.rdb.Close())
	})
	check(t, k.s.client.Ping(t.Context()).Err())
	k.advance(t, 100, time.Now(), false)
	return k
}

func (k *markTrial) advance(t *testing.T, to uint64, now time.Time, wantLost bool) {
	t.Helper()
	if lost, err := k.m.advance(t.Context(), k.s, to, now); err != nil || lost != wantLost {
		t.Fatalf("advance to %d: lost is %v, %v", to, lost, err)
	}
}

// unanswered advances the marker, by a command that reaches Redis only when its reply is not
// waited for any more.
func (k *markTrial) unanswered(t *testing.T, to uint64) {
	t.Helper()
	k.proxy.HoldRequests(time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	runs := k.runs(t)
	if _, err := k.m.advance(ctx, k.s, to, time.Now()); err == nil {
		t.Fatal("there is a reply")
	}
	for end := time.Now().Add(10 * time.Second); k.runs(t) == runs; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the command never arrives")
		}
	}
}

// runs returns which scripts Redis has run so far.
func (k *markTrial) runs(t *testing.T) string {
	t.Helper()
	info, err := k.rdb.InfoMap(t.Context(), "commandstats").Result()
	check(t, err)
	return info["Commandstats"]["cmdstat_evalsha"]
}

func (k *markTrial) set(t *testing.T, text string) {
	t.Helper()
	check(t, k.rdb.Set(t.Context(), k.m.key(), text, 0).Err())
}

func (k *markTrial) want(t *testing.T, text string) {
	t.Helper()
	if got := k.rdb.Get(t.Context(), k.m.key()).Val(); got != text {
		t.Errorf("the marker is %q, want %q", got, text)
	}
}

func TestAMarkerWhoseReplyIsLost(t *testing.T) {
	t.Parallel()
	k := newMarkTrial(t)
	k.unanswered(t, 200)
	k.want(t, "200")
	if k.m.covers(200) {
		t.Error("200 is not known to be covered")
	}
	k.advance(t, 200, time.Now(), false)
	k.advance(t, 300, time.Now(), false)
	k.want(t, "300")
}

// TestTheEvidenceOfALossSurvivesALostReply: the reply is lost that says that there was one.
func TestTheEvidenceOfALossSurvivesALostReply(t *testing.T) {
	t.Parallel()
	k := newMarkTrial(t)
	k.advance(t, 200, time.Now(), false)
	k.set(t, "100")
	k.unanswered(t, 300)
	k.unanswered(t, 400)
	k.want(t, "100")
	k.advance(t, 500, time.Now(), true)
	k.want(t, "100")
	if *k.m.found != 100 {
		t.Errorf("found %d", *k.m.found)
	}
	check(t, k.m.acknowledge(t.Context(), k.s))
	k.m.accept()
	k.advance(t, 600, time.Now(), false)
	k.want(t, "600")
}

// TestALossInTheMiddleOfAnother shows at any time after the first is acknowledged.
func TestALossInTheMiddleOfAnother(t *testing.T) {
	t.Parallel()
	k := newMarkTrial(t)
	for _, back := range []string{"", "50"} {
		k.advance(t, 200, time.Now(), false)
		back := func() {
			if check(t, k.rdb.Del(t.Context(), k.m.key()).Err()); back != "" {
				k.set(t, back)
			}
		}
		back()
		k.advance(t, 300, time.Now(), true)
		was := *k.m.found
		check(t, k.m.acknowledge(t.Context(), k.s))
		check(t, k.m.acknowledge(t.Context(), k.s)) // the attempt before it failed
		back()
		if err := k.m.acknowledge(t.Context(), k.s); err == nil || k.m.found == nil || *k.m.found != was {
			t.Errorf("not noticed before it is mended: %v", err)
		}
		check(t, k.m.acknowledge(t.Context(), k.s))
		k.m.accept()
		back()
		k.advance(t, 300, time.Now(), true)
		check(t, k.m.acknowledge(t.Context(), k.s))
		k.m.accept()
	}
}

// TestAMarkerThatRedisRefuses has not been set, however often that was tried.
func TestAMarkerThatRedisRefuses(t *testing.T) {
	t.Parallel()
	k := newMarkTrial(t)
	check(t, k.rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	for n := range uint64(5) {
		if lost, err := k.m.advance(t.Context(), k.s, 200+n, time.Now()); err == nil || lost {
			t.Fatalf("lost is %v, %v", lost, err)
		}
	}
	if len(k.m.possible) != 1 {
		t.Errorf("it may be %q", k.m.possible)
	}
	check(t, k.rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
	k.want(t, "100")
	k.advance(t, 300, time.Now(), false)
}

// TestAMarkerExpires in Redis, where nothing was enqueued for long: no loss. One that is gone
// before that time is.
func TestAMarkerExpires(t *testing.T) {
	t.Parallel()
	k := newMarkTrial(t)
	if ttl := k.rdb.PTTL(t.Context(), k.m.key()).Val(); ttl < k.m.keep-time.Minute {
		t.Errorf("it expires in %v", ttl)
	}
	check(t, k.rdb.Del(t.Context(), k.m.key()).Err())
	late := time.Now().Add(k.m.keep)
	k.advance(t, 200, late, false)
	k.advance(t, 300, late.Add(k.m.keep-time.Second), false) // about to, and there
	check(t, k.rdb.Del(t.Context(), k.m.key()).Err())
	k.advance(t, 400, late.Add(k.m.keep+time.Minute), true)
}

// TestAMarkerThatIsNone is an error, and no loss.
func TestAMarkerThatIsNone(t *testing.T) {
	t.Parallel()
	k := newMarkTrial(t)
	k.set(t, "x")
	for range 2 {
		if lost, err := k.m.advance(t.Context(), k.s, 200, time.Now()); err == nil || k.m.found != nil {
			t.Errorf("lost is %v, %v", lost, err)
		}
	}
}

// TestAnInheritedMarker: what a dead process had set it to, or more, is no loss.
func TestAnInheritedMarker(t *testing.T) {
	t.Parallel()
	k := newMarkTrial(t)
	for _, c := range []struct {
		atLeast uint64
		text    string
		lost    bool
	}{{90, "100", false}, {100, "100", false}, {101, "100", true}, {0, "100", false}, {0, "", false}, {7, "", true}, {1, "0", true}} {
		k.m = newMark("owner", "default", 2*time.Hour)
		k.m.possible, k.m.atLeast = nil, c.atLeast
		if check(t, k.rdb.Del(t.Context(), k.m.key()).Err()); c.text != "" {
			k.set(t, c.text)
		}
		k.advance(t, 110, time.Now(), c.lost)
	}
}

// TestAnInheritedLossGetsWorse before it is acknowledged.
func TestAnInheritedLossGetsWorse(t *testing.T) {
	t.Parallel()
	k := newMarkTrial(t)
	k.m = newMark("owner", "default", 2*time.Hour)
	k.m.possible, k.m.atLeast = nil, 100
	k.set(t, "50")
	k.advance(t, 110, time.Now(), true)
	k.set(t, "40")
	if err := k.m.acknowledge(t.Context(), k.s); err == nil || *k.m.found != 40 {
		t.Errorf("found is %d, %v", *k.m.found, err)
	}
}
