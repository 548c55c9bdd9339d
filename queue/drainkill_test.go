package queue_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
	"github.com/jobspool/jobspool/spool/crashtest"
)

// drainChildren are what a child can do instead of enqueueing.
var drainChildren = map[string]func(){"replay": replayUntilKilled}

// childDoes adds to drainChildren, for a package variable.
func childDoes(name string, what func()) bool { //nolint:unparam // for a package variable to take it
	drainChildren[name] = what
	return true
}

// replayUntilKilled adopts and drains, prints a line when nothing is left, and waits.
func replayUntilKilled() {
	cfg := childConfig()
	cfg.Logger = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p, err := queue.New(cfg)
	if err == nil {
		err = p.Drain(ctx)
	}
	if err != nil {
		crashtest.Fail(err)
	}
	fmt.Println("drained")
	select {}
}

// largestBatch is how many records the replay sends in one batch. It sends another while it
// records what became of one.
const largestBatch = 500

// TestKilledAgainAndAgainDuringADrain: a process that replays is killed at any moment, the
// next one adopts and goes on, and so forth. Each job is in Redis once, in its order. Redis
// is sent no more than two batches again for each kill, and refuses them.
func TestKilledAgainAndAgainDuringADrain(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir, ids := leaveShares(t)
	killDrains(t, r, dir, ids)
	there := pendingIDs(t, r.Addr())
	wantOnce(t, there, ids)
	slices.Reverse(there)
	if !slices.Equal(there, ids) {
		t.Error("the jobs are not in their order")
	}
}

// TestKilledAgainAndAgainWhileWorkersWork: with a retention longer than the restart takes,
// workers that finish jobs in the meantime make no difference. Each job runs once.
func TestKilledAgainAndAgainWhileWorkersWork(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	dir, ids := leaveShares(t, asynq.Retention(time.Hour))
	w := startWorker(t, r)
	killDrains(t, r, dir, ids)
	w.idle(t, len(ids))
	wantOnce(t, w.ran(), ids)
}

// leaveShares leaves thousands of jobs in several shares.
func leaveShares(t *testing.T, opts ...asynq.Option) (dir string, ids []string) {
	t.Helper()
	dir = t.TempDir()
	for range 3 {
		tasks := make([]*asynq.Task, 2000)
		for i := range tasks {
			tasks[i] = asynq.NewTask("t", nil, opts...)
		}
		ids = append(ids, leave(t, dir, tasks...)...)
	}
	return dir, ids
}

// killDrains drains by processes that are killed, each at a random moment after it has
// sent a random number of jobs. The last one may finish.
func killDrains(t *testing.T, r *redistest.Server, dir string, ids []string) {
	t.Helper()
	const most = 10
	must(t, client(t, r.Addr()).ScriptLoad(t.Context(), asynqScript(t)).Err()) // each job is sent by one command
	proxy := redistest.NewProxy(t, r.Addr())
	sent := func() int { return scriptsSent(proxy) }
	replaying := func() *crashtest.Child {
		return crashtest.Start(t, childDrains+"=replay", childDir+"="+dir, childTarget+"=t", childRedis+"="+proxy.Addr())
	}
	kills := 0
	for ; kills < most && sent() < len(ids); kills++ {
		enough := sent() + 1 + rand.N(2*len(ids)/most)
		c := replaying()
		eventually(t, "some are sent", func() bool { return sent() >= min(enough, len(ids)) })
		time.Sleep(rand.N(15 * time.Millisecond)) // a batch takes about as long
		c.Kill()
	}
	last := replaying()
	last.Await(1)
	last.Kill()
	again := sent() - len(ids)
	t.Logf("%d kills, %d jobs sent again", kills, again)
	if again < 0 || again > kills*2*largestBatch {
		t.Errorf("%d jobs were sent again after %d kills", again, kills)
	}
}

// scriptRuns returns how many enqueue scripts Redis has run, whatever they answered.
func scriptRuns(tb testing.TB, r *redistest.Server) (runs int) {
	tb.Helper()
	info, err := client(tb, r.Addr()).InfoMap(context.Background(), "commandstats").Result()
	must(tb, err)
	for _, name := range []string{"cmdstat_evalsha", "cmdstat_eval"} {
		for _, field := range strings.Split(info["Commandstats"][name], ",") {
			key, value, _ := strings.Cut(field, "=")
			n, _ := strconv.Atoi(value)
			switch key {
			case "calls":
				runs += n
			case "failed_calls": // a script that was not known
				runs -= n
			}
		}
	}
	return runs
}
