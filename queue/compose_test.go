package queue

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

func testComposer(t *testing.T) *composer {
	t.Helper()
	c, err := newComposer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestComposerKnowsAsynqsSixScripts(t *testing.T) {
	c := testComposer(t)
	if len(c.scripts) != 6 {
		t.Fatalf("%d scripts", len(c.scripts))
	}
	info, cmd, err := c.compose(t.Context(), asynq.NewTask("t", []byte("p")), asynq.Queue("mail"), asynq.Unique(time.Minute))
	if err != nil || info.Queue != "mail" || info.State != asynq.TaskStatePending {
		t.Fatalf("%+v, %v", info, err)
	}
	if ttl := cmd.args[cmd.script.lockTTL]; ttl != 60 {
		t.Errorf("lock for %v s", ttl)
	}
	if lock, want := cmd.keys[cmd.script.lockKey], "asynq:{mail}:unique:t:83878c91171338902e0fe0fb97a8c47a"; lock != want {
		t.Errorf("lock %s, want %s", lock, want)
	}
}

func TestComposerTellsMintedIDsFromTheCallers(t *testing.T) {
	c := testComposer(t)
	for _, own := range []bool{false, true} {
		task := asynq.NewTask("t", nil)
		if own {
			task = asynq.NewTask("t", nil, asynq.TaskID("0192d3a4-7b1e-4c55-9f00-000000000000"))
		}
		info, _, err := c.compose(t.Context(), task)
		if err != nil || c.mints(t.Context(), info.ID, task) == own {
			t.Errorf("own id %v: %+v, %v", own, info, err)
		}
	}
}

// TestAnotherAsynqIsIncompatible shows the self-check other expectations than asynq
// meets, which is what a changed asynq would look like.
func TestAnotherAsynqIsIncompatible(t *testing.T) {
	c := testComposer(t)
	opts := []asynq.Option{asynq.Queue("q"), asynq.TaskID("id")}
	keys := []string{"asynq:{q}:t:id", "asynq:{q}:pending"}
	for i, err := range []error{
		c.learnKind(asynq.TaskStateScheduled, keys, false, opts),
		c.learnKind(asynq.TaskStatePending, append(keys, "one more"), false, opts),
		c.learnKind(asynq.TaskStatePending, keys, true, opts), // takes no lock
	} {
		if err == nil {
			t.Errorf("expectation %d was met", i)
		}
	}
	clear(c.scripts)
	if _, _, err := c.compose(t.Context(), asynq.NewTask("t", nil)); !errors.Is(err, ErrIncompatible) {
		t.Errorf("a script never seen: %v", err)
	}
}

func TestComposingClientHasNoConnection(t *testing.T) {
	c := testComposer(t)
	ctx := t.Context()
	for _, err := range []error{
		c.offline.Ping(ctx).Err(), c.offline.EvalSha(ctx, "sha", nil).Err(), c.offline.Eval(ctx, "source", nil).Err(),
	} {
		if !errors.Is(err, errOffline) {
			t.Errorf("%v", err)
		}
	}
}

func BenchmarkCompose(b *testing.B) {
	c, err := newComposer()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.close() }()
	task := asynq.NewTask("email:welcome", fmt.Append(nil, make([]byte, 200)))
	for b.Loop() {
		if _, _, err := c.compose(b.Context(), task, asynq.Queue("mail")); err != nil {
			b.Fatal(err)
		}
	}
}
