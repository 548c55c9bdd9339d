package queue

import (
	"context"
	"sync"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue/internal/compose"
)

// atResend is an Observer that does something once, when the first lost jobs are sent again.
type atResend struct {
	once sync.Once
	do   func()
}

func (o *atResend) Begin(ctx context.Context, op *Operation) context.Context {
	if op.Kind == OpSpool && o.do != nil {
		o.once.Do(o.do)
	}
	return ctx
}

func (*atResend) End(context.Context, *Operation, error) {}

// enqueueOn enqueues n jobs on a queue, and returns their ids.
func (k *handTrial) enqueueOn(t *testing.T, name string, n int) (ids []string) {
	t.Helper()
	for range n {
		info, err := k.Enqueue(asynq.NewTask("t", nil), asynq.Queue(name))
		check(t, err)
		ids = append(ids, info.ID)
	}
	return ids
}

// TestOneLossOfManyQueues: what comes after it is suspect of none of them, however long it takes
// to look up what is missing of the first.
func TestOneLossOfManyQueues(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c", "d"}
	during := &atResend{}
	k := newHandTrial(t, Config{Observer: during})
	for _, q := range names {
		k.enqueueOn(t, q, 3)
	}
	k.advance()
	during.do = func() {
		for _, q := range names {
			for _, id := range k.enqueueOn(t, q, 5) { // and workers have done them
				check(t, k.rdb.Del(t.Context(), compose.TaskKey(q, id)).Err())
			}
		}
	}
	k.flushAll(t)
	k.enqueueOn(t, "c", 1) // which is how it is noticed
	for range 2 {
		k.advance()
	}
	k.wantLost(t, 4, 12)
}

// TestALossKeepsNoMoreThanItNeeds: what is too old of other queues is let go of, however long
// the loss of one goes on.
func TestALossKeepsNoMoreThanItNeeds(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	k.enqueueOn(t, "default", 3)
	k.g.j.flush()
	k.enqueueOn(t, "a", 2)
	k.g.j.flush()
	k.advance()
	m := k.g.marks[markID{k.g.j.store.OwnName(), "a"}]
	check(t, k.rdb.Del(t.Context(), m.key()).Err())
	if lost, err := m.advance(t.Context(), k.sender, m.value, m.set); err != nil || !lost {
		t.Fatalf("lost is %v, %v", lost, err)
	}
	k.g.j.flush()
	k.g.keep = 1
	k.sweep()
	if n := k.Journalled(); n != 2 {
		t.Errorf("%d jobs in the journal, want the 2 that may be lost", n)
	}
}

// TestWhatIsLostIsNotTrimmed between two tries to send it again: it is the newest that the journal
// has no room for then.
func TestWhatIsLostIsNotTrimmed(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{GuardBytes: 2 << 20})
	ids := k.enqueue(t, 3, 10)
	k.advance()
	k.lose(t)
	undo := k.spoil(t, ids[0])
	fill := func() {
		before := k.g.j.skipped.Load()
		for n := 0; k.g.j.skipped.Load() == before; n++ {
			k.enqueue(t, 1, 100_000)
			k.g.j.flush()
			if n > 100 {
				t.Fatal("the journal is never without room")
			}
		}
	}
	for range 3 {
		k.advance()
		fill()
		k.g.adopt()
		k.sweep()
		fill()
	}
	undo()
	k.advance()
	k.wantLost(t, 1, 3)
	fill()
	if n := k.Journalled(); n > 30 {
		t.Errorf("%d jobs in the journal", n)
	}
	blobs, err := k.g.j.store.Read(1, 1)
	check(t, err)
	e, err := decodeEntries(blobs[0].Data)
	check(t, err)
	if len(e) > 0 && e[len(e)-1].seq <= 4 {
		t.Error("after the loss nothing is trimmed")
	}
}
