package compose

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

func testComposer(t *testing.T) *Composer {
	t.Helper()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
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
	info, cmd, err := c.Compose(t.Context(), asynq.NewTask("t", []byte("p")), asynq.Queue("mail"), asynq.Unique(time.Minute))
	if err != nil || info.Queue != "mail" || info.State != asynq.TaskStatePending {
		t.Fatalf("%+v, %v", info, err)
	}
	if ttl := cmd.LockSeconds(); ttl != 60 {
		t.Errorf("lock for %v s", ttl)
	}
	if lock, want := cmd.Lock(), "asynq:{mail}:unique:t:83878c91171338902e0fe0fb97a8c47a"; lock != want {
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
		info, _, err := c.Compose(t.Context(), task)
		if err != nil || c.Mints(t.Context(), info.ID, task) == own {
			t.Errorf("own id %v: %+v, %v", own, info, err)
		}
	}
}

func TestCommandReadsAsWhatAsynqMadeOfTheTask(t *testing.T) {
	c := testComposer(t)
	headers := map[string]string{"a": "1", "b": "", "": "2"}
	for _, payload := range [][]byte{[]byte("p"), {}, nil} {
		for _, kind := range [][]asynq.Option{nil, {asynq.ProcessIn(time.Hour)}, {asynq.Group("g")}} {
			opts := append(kind, asynq.Unique(time.Minute), asynq.Retention(time.Hour), asynq.Timeout(1<<62), asynq.MaxRetry(-1))
			want, cmd, err := c.Compose(t.Context(), asynq.NewTaskWithHeaders("t", payload, headers), opts...)
			if err != nil || !c.Knows(cmd.Script.SHA) {
				t.Fatal(err)
			}
			got, again, err := c.Read(cmd.Script.SHA, cmd.Keys, cmd.Args)
			if err != nil || !same(got, want) || again.TaskKey() != cmd.TaskKey() || again.Lock() != cmd.Lock() {
				t.Errorf("got %+v, %v; want %+v", got, err, want)
			}
		}
	}
}

// TestWithHeaders adds one and replaces one, in the copy only.
func TestWithHeaders(t *testing.T) {
	c := testComposer(t)
	_, cmd, err := c.Compose(t.Context(), asynq.NewTaskWithHeaders("t", []byte("p"), map[string]string{"a": "1", "b": "2"}), asynq.Unique(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	more := cmd.WithHeaders(map[string]string{"b": "3", "ä": ""})
	for _, want := range []struct {
		cmd     Command
		headers map[string]string
	}{
		{more, map[string]string{"a": "1", "b": "3", "ä": ""}},
		{cmd, map[string]string{"a": "1", "b": "2"}},
	} {
		info, again, err := c.Read(want.cmd.Script.SHA, want.cmd.Keys, want.cmd.Args)
		if err != nil || !maps.Equal(info.Headers, want.headers) || string(info.Payload) != "p" || again.Lock() != cmd.Lock() {
			t.Errorf("%+v, %v; want %v", info, err, want.headers)
		}
	}
}

func TestReadRefusesWhatAsynqDoesNotSend(t *testing.T) {
	c := testComposer(t)
	_, cmd, err := c.Compose(t.Context(), asynq.NewTask("t", []byte("secret")), asynq.ProcessIn(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Read("sha", cmd.Keys, cmd.Args); !errors.Is(err, ErrIncompatible) {
		t.Errorf("an unknown script: %v", err)
	}
	for i := range cmd.Args {
		if _, _, err := c.Read(cmd.Script.SHA, cmd.Keys, cmd.Args[:i]); i <= cmd.Script.message && !errors.Is(err, ErrIncompatible) {
			t.Errorf("%d arguments: %v", i, err)
		}
	}
	args := slices.Clone(cmd.Args)
	args[cmd.Script.message] = append(slices.Clone(args[cmd.Script.message].([]byte)), 0x30, 1) // field 6: retried
	if _, _, err := c.Read(cmd.Script.SHA, cmd.Keys, args); !errors.Is(err, ErrIncompatible) || strings.Contains(err.Error(), "secret") {
		t.Errorf("a task that is not new: %v", err)
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
	if _, _, err := c.Compose(t.Context(), asynq.NewTask("t", nil)); !errors.Is(err, ErrIncompatible) {
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
	c, err := New()
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	task := asynq.NewTask("email:welcome", fmt.Append(nil, make([]byte, 200)))
	for b.Loop() {
		if _, _, err := c.Compose(b.Context(), task, asynq.Queue("mail")); err != nil {
			b.Fatal(err)
		}
	}
}
