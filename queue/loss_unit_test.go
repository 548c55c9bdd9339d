package queue

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue/internal/compose"
)

const cannot = "cannot be found out"

// TestWhatComesAfterALossIsNotSuspect: jobs that are enqueued and done while a loss goes on do
// not run again.
func TestWhatComesAfterALossIsNotSuspect(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	ids := k.enqueue(t, 3, 10)
	k.advance()
	k.lose(t)
	undo := k.spoil(t, ids[0])
	k.advance()
	k.wantLost(t, 0, 0)
	k.done(t, k.enqueue(t, 2, 10)...)
	k.advance()
	undo()
	k.advance()
	k.wantLost(t, 1, 3)
	k.wantPending(t, ids)
}

// TestALossIsTriedAgainLater, not with each tick.
func TestALossIsTriedAgainLater(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	ids := k.enqueue(t, 3, 10)
	k.advance()
	k.lose(t)
	undo := k.spoil(t, ids[0])
	k.advance()
	undo()
	k.g.tried = time.Now().Add(time.Minute) // so that the test may take its time
	k.g.advance()
	k.wantLost(t, 0, 0)
	k.g.tried = time.Now().Add(-recoverAgain)
	k.g.advance()
	k.wantLost(t, 1, 3)
}

// TestALossIsComplainedOfOnce as long as the trouble lasts, and again when it is back.
func TestALossIsComplainedOfOnce(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	ids := k.enqueue(t, 3, 10)
	k.advance()
	for n := 1; n <= 2; n++ {
		k.lose(t)
		undo := k.spoil(t, ids[0])
		for range 5 {
			k.advance()
			k.sweep()
		}
		if said := k.said.all(cannot); len(said) != n {
			t.Errorf("%d lines, want %d: %q", len(said), n, said)
		}
		undo()
		k.advance()
		k.wantLost(t, int64(n), int64(3*n))
		k.wantPending(t, ids)
		k.advance()
	}
}

// TestAMarkerThatCannotBeSetIsComplainedOfOnce, whatever becomes of others.
func TestAMarkerThatCannotBeSetIsComplainedOfOnce(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	for n := 1; n <= 2; n++ {
		k.enqueue(t, 1, 10)
		k.advance()
		if k.mark().value != k.g.lasts()[markID{k.mark().owner, "default"}] {
			t.Fatal("the marker is not set")
		}
		k.sweep()
		was := k.rdb.Get(t.Context(), k.mark().key()).Val()
		check(t, k.rdb.Del(t.Context(), k.mark().key()).Err())
		check(t, k.rdb.SAdd(t.Context(), k.mark().key(), "no string").Err())
		_, err := k.Enqueue(asynq.NewTask("t", nil), asynq.Queue("other"))
		check(t, err)
		k.enqueue(t, 1, 10)
		for range 5 {
			k.advance()
			k.sweep()
		}
		if said := k.said.all(cannot); len(said) != n {
			t.Errorf("%d lines, want %d: %q", len(said), n, said)
		}
		check(t, k.rdb.Set(t.Context(), k.mark().key(), was, 0).Err())
	}
	k.advance()
	k.wantLost(t, 0, 0)
}

// TestTheGuardSaysNothingOfAnOutage, of which others do.
func TestTheGuardSaysNothingOfAnOutage(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	k.enqueue(t, 3, 10)
	check(t, k.r.Kill())
	k.enqueue(t, 3, 10)
	soon(t, "the outage is known", func() bool { return k.breakers.stops("default") })
	for range 3 {
		k.advance()
		k.sweep()
	}
	if said := k.said.all(cannot); len(said) > 0 {
		t.Errorf("%q", said)
	}
}

// TestALossLargerThanTheSpool: what fits in is sent again, and the rest when there is room.
func TestALossLargerThanTheSpool(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{Spool: SpoolConfig{MaxBytes: 1 << 20, MinFreeBytes: -1}})
	ids := k.enqueue(t, 20, 200_000) // of which a page of the journal has more than there is room for
	k.advance()
	k.lose(t)
	soon(t, "all are sent again", func() bool {
		k.advance()
		return k.Stats().Losses > 0
	})
	k.wantLost(t, 1, 20)
	k.wantPending(t, ids)
}

// TestAQueueIsRegisteredAgain before what it has lost is sent again.
func TestAQueueIsRegisteredAgain(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	ids := k.enqueue(t, 20, 100_000) // several pages
	k.advance()
	k.lose(t)
	undo := k.spoil(t, ids[19])
	k.advance()
	if st := k.Stats(); st.Resent == 0 || st.Losses != 0 {
		t.Fatalf("the test shows nothing: %+v", st)
	}
	check(t, k.replayer.drain(t.Context()))
	if !k.rdb.SIsMember(t.Context(), "asynq:queues", "default").Val() {
		t.Error("there are jobs in a queue that is not registered")
	}
	undo()
	k.advance()
	k.wantLost(t, 1, 20)
	k.wantPending(t, ids)
}

// TestTheFirstMarkerComesAtOnce: jobs that are lost before it, of a process that dies then,
// nobody would miss.
func TestTheFirstMarkerComesAtOnce(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	p, err := New(Config{Redis: asynq.RedisClientOpt{Addr: k.r.Addr()}, Target: "t", SpoolDir: t.TempDir(), Guard: time.Minute})
	check(t, err)
	defer func() { check(t, p.Close()) }()
	n := 0
	quick(t, 9*markEvery/2, func() { // with each tick one would take nine of them
		for range 10 {
			n++
			name := "queue-" + string(rune('a'+n/10)) + string(rune('a'+n%10))
			_, err := p.Enqueue(asynq.NewTask("t", nil), asynq.Queue(name))
			check(t, err)
			key := compose.QueuePrefix(name) + "spool:mark:" + p.journal.store.OwnName()
			soon(t, "there is a marker", func() bool { return k.rdb.Exists(t.Context(), key).Val() == 1 })
		}
	})
}

// TestALateMarkerOfADeadProcess, which was on its way when that died, is no loss; Redis going
// back behind it is.
func TestALateMarkerOfADeadProcess(t *testing.T) {
	t.Parallel()
	for name, notice := range map[string]func(*handTrial){"by the marker": (*handTrial).advance, "by the sweep": func(k *handTrial) {
		for _, m := range k.g.marks {
			m.set = time.Now()
		}
		k.sweep()
	}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newHandTrial(t, Config{})
			id := markID{k.g.j.store.OwnName(), "default"}
			ids := k.enqueue(t, 5, 0)
			k.die(t)
			k.open(t, k.cfg)
			check(t, k.rdb.Set(t.Context(), id.key(), firstMark, 0).Err())
			server, err := k.sender.server(t.Context(), "default")
			check(t, err)
			check(t, k.g.marks[id].inherit(t.Context(), server, time.Now()))
			k.done(t, ids...)
			check(t, k.rdb.Set(t.Context(), id.key(), "3", 0).Err())
			notice(k)
			k.wantLost(t, 0, 0)
			k.advance()
			check(t, k.rdb.Set(t.Context(), id.key(), "3", 0).Err())
			k.g.targets[id]++ // so that it is looked at
			k.advance()
			if st := k.Stats(); st.Losses != 1 {
				t.Errorf("%d losses", st.Losses)
			}
		})
	}
}

// TestALossMeetsAJobOnItsWay to the journal: Redis has acknowledged it and has lost it.
func TestALossMeetsAJobOnItsWay(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	k.enqueue(t, 1, 0)
	k.advance()
	var c call
	check(t, k.compose(t.Context(), &c, asynq.NewTask("t", nil), nil))
	flight := k.flights.begin()
	go func() {
		time.Sleep(100 * time.Millisecond)
		k.journal.add(newJob(c.info, c.cmd, c.at))
		k.flights.end(flight)
	}()
	k.flushAll(t)
	k.enqueue(t, 1, 0) // without traffic nobody looks
	k.advance()
	k.wantLost(t, 1, 2)
}

// TestAMarkerIsNotSetTooOften, whatever else the guard is asked to do meanwhile.
func TestAMarkerIsNotSetTooOften(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	p, err := New(Config{Redis: asynq.RedisClientOpt{Addr: k.r.Addr()}, Target: "t", SpoolDir: t.TempDir(), Guard: time.Minute})
	check(t, err)
	defer func() { check(t, p.Close()) }()
	begin := time.Now()
	for n := 0; time.Since(begin) < 2*time.Second; n++ {
		name := "default"
		if n%1000 == 0 {
			name = "queue-" + strconv.Itoa(n)
		}
		_, err := p.Enqueue(asynq.NewTask("t", nil), asynq.Queue(name))
		check(t, err)
		check(t, p.losses.aside(t.Context(), func() error { return nil }))
		poke(p.journal.fresh)
	}
	key := markID{p.journal.store.OwnName(), "default"}
	soon(t, "the marker covers all", func() bool {
		value, err := k.rdb.Get(t.Context(), key.key()).Uint64()
		return err == nil && value == p.journal.lasts()["default"]
	})
	ran := time.Since(begin)
	info, err := k.rdb.InfoMap(t.Context(), "commandstats").Result()
	check(t, err)
	text, _, _ := strings.Cut(strings.TrimPrefix(info["Commandstats"]["cmdstat_set"], "calls="), ",")
	sets, err := strconv.Atoi(text)
	check(t, err)
	t.Logf("%d times in %v", sets, ran)
	queues := len(p.journal.lasts())
	if most := int(ran/markEvery) + 3*queues + 5; sets > most { // a new queue has its first, and its last
		t.Errorf("markers of one busy queue and %d others were set %d times in %v, want at most %d", queues-1, sets, ran, most)
	}
}
