package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/redistest"
)

func TestDoctorOfAsynqsKeys(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	redisDo(t, r.Addr(), "SADD asynq:queues default", "LPUSH asynq:{lost}:pending id", "ZADD asynq:{later}:scheduled 1 id", "SET asynq:{default}:paused 1",
		"SET asynq:{gone}:processed 7", "HSET asynq:{never}:t:x:pending msg m", "LPUSH asynq:{lost}:active stale", "LPUSH asynq:{default}:active old new",
		"ZADD asynq:{default}:lease 1000 old", "ZADD asynq:{default}:lease 9999999999 new")
	d := doctored(t, "--redis", "redis://"+r.Addr())
	d.want(t, "asynq", "queues", resultWarn, "do not show them: later, lost")
	d.want(t, "asynq", "paused", resultWarn, "nothing out of default")
	d.want(t, "asynq", "leases", resultFail, "never takes back: 1 of lost (stale)")
	redisDo(t, r.Addr(), "ZADD asynq:{lost}:lease 9999999999 stale")
	d = doctored(t, "--redis", "redis://"+r.Addr())
	d.want(t, "asynq", "leases", resultWarn, "1 of default (old)")
}

// TestTheAdviceForATaskWithoutALease does what doctor says is to be done about one.
func TestTheAdviceForATaskWithoutALease(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	opt := asynq.RedisClientOpt{Addr: r.Addr()}
	client := asynq.NewClient(opt)
	defer client.Close()
	if _, err := client.Enqueue(asynq.NewTask("t", nil), asynq.TaskID("stale")); err != nil {
		t.Fatal(err)
	}
	redisDo(t, r.Addr(), "RPOPLPUSH asynq:{default}:pending asynq:{default}:active", "HSET asynq:{default}:t:stale state active")
	d := doctored(t, "--redis", "redis://"+r.Addr())
	d.want(t, "asynq", "leases", resultFail, "1 of default (stale)")
	if todo := d.found(t, "asynq", "leases").Todo; !strings.Contains(todo, "ZADD asynq:{<queue>}:lease 0 <task id>") {
		t.Error(todo)
	}
	redisDo(t, r.Addr(), "ZADD asynq:{default}:lease 0 stale")

	ran := make(chan struct{})
	server := asynq.NewServer(opt, asynq.Config{
		LogLevel: asynq.FatalLevel, DelayedTaskCheckInterval: 50 * time.Millisecond,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return 0 },
	})
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		close(ran)
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	select {
	case <-ran:
	case <-time.After(20 * time.Second):
		t.Fatal("the task was not taken back")
	}
}

// TestTheScanHasABound looks at more keys than there are steps for.
func TestTheScanHasABound(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	c := redis.NewClient(&redis.Options{Addr: r.Addr()})
	defer c.Close()
	pipe := c.Pipeline()
	for i := range 3 * scanStep {
		pipe.Set(t.Context(), fmt.Sprintf("asynq:{default}:t:%d", i), "", 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, all, err := scanQueues(t.Context(), c, 1); err != nil || all {
		t.Errorf("with one step: %v, %v", all, err)
	}
	if _, all, err := scanQueues(t.Context(), c, mostSteps); err != nil || !all {
		t.Errorf("with all steps: %v, %v", all, err)
	}
}

func TestJudgeQueues(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for _, c := range []struct {
		q    queueSet
		want result
		seen string
	}{
		{queueSet{registered: []string{"a", "b"}, found: []string{"a"}, scanned: true}, resultOK, "2 queues"},
		{queueSet{registered: []string{"a"}}, resultWarn, "not all keys were looked at"},
		{queueSet{registered: []string{"a"}, found: []string{"b"}}, resultWarn, "do not show them: b"},
		{queueSet{registered: []string{"a"}, err: away}, resultWarn, "not checked"},
		{queueSet{regErr: away}, resultWarn, "not checked"},
	} {
		if got := judgeQueues(c.q); got.Result != c.want || !strings.Contains(got.Seen, c.seen) {
			t.Errorf("%+v", got)
		}
	}
	for key, want := range map[string]string{
		"asynq:{a}:pending": "a", "asynq:{a}:groups": "a", "asynq:{a}b}:active": "a}b",
		"asynq:{a}:t:x": "", "asynq:{a}:paused": "", "asynq:{a}:processed": "", "asynq:queues": "", "other": "", "asynq:{a": "",
	} {
		if got, ok := queueOf(key); got != want && ok || ok != (want != "") {
			t.Errorf("%s: %q, %v", key, got, ok)
		}
	}
}

func TestNewLease(t *testing.T) {
	t.Parallel()
	now := time.Unix(10_000, 0)
	l := newLease([]string{"live", "late", "over", "none"}, []redis.Z{
		{Member: "live", Score: 10_020}, {Member: "late", Score: 9_900}, {Member: "over", Score: 9_800},
	}, 9, now)
	if strings.Join(l.without, " ") != "none" || strings.Join(l.expired, " ") != "over" || !l.cut || l.active != 9 {
		t.Errorf("%+v", l)
	}
	if f := judgeLeases([]string{"q"}, map[string]lease{"q": {active: 12000, cut: true}}); f.Result != resultWarn {
		t.Errorf("%+v", f)
	}
}
