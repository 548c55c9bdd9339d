package queue

import (
	"context"
	"testing"
	"time"

	"github.com/hibiken/asynq"
)

// TestALossBeforeTheGuardHasSetAMarker: the first job of a queue is guarded as well, and a
// batch's jobs of several queues are.
func TestALossBeforeTheGuardHasSetAMarker(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	k.enqueue(t, 1, 0)
	_, err := k.EnqueueBatch(t.Context(), []*asynq.Task{
		asynq.NewTask("t", nil, asynq.Queue("a")), asynq.NewTask("t", nil, asynq.Queue("b")), asynq.NewTask("t", nil, asynq.Queue("a")),
	})
	check(t, err)
	k.flushAll(t)
	k.g.advance()
	if st := k.Stats(); st.Losses != 3 || st.Resent != 4 {
		t.Errorf("%d losses, %d sent again", st.Losses, st.Resent)
	}
}

// TestTheFirstMarkerIsNoLoss where nothing was lost, and where it could not be set first.
func TestTheFirstMarkerIsNoLoss(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	k.enqueue(t, 1, 0)
	k.g.advance()
	k.sender.first.owner = "another" // so that there is none where the guard looks
	_, err := k.EnqueueContext(context.Background(), asynq.NewTask("t", nil), asynq.Queue("other"))
	check(t, err)
	k.sender.first.set.Delete("other")
	k.g.advance()
	if st := k.Stats(); st.Losses != 0 || st.Resent != 0 {
		t.Errorf("%d losses, %d sent again", st.Losses, st.Resent)
	}
}

// TestTheFirstMarkerExpires where the queue's first job is acknowledged only long after it was
// set, as in a long outage of the queue: that is no loss.
func TestTheFirstMarkerExpires(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	k.sender.first.set.Store("idle", time.Now().Add(-k.g.markKeep()))
	_, err := k.Enqueue(asynq.NewTask("t", nil), asynq.Queue("idle"))
	check(t, err)
	k.g.advance()
	if st := k.Stats(); st.Losses != 0 || st.Resent != 0 {
		t.Errorf("%d losses, %d sent again", st.Losses, st.Resent)
	}
}

// TestTheFirstMarkerWithoutAReply may be there or not, for the process itself and for whoever
// adopts its journal: neither is a loss.
func TestTheFirstMarkerWithoutAReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		there, dies bool
	}{{"there", true, false}, {"not there", false, false}, {"there, adopted", true, true}, {"not there, adopted", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := newHandTrial(t, Config{})
			key := markID{k.g.j.store.OwnName(), "default"}.key()
			k.sender.first, k.g.j.first = nil, nil // neither knows of one
			k.done(t, k.enqueue(t, 3, 0)...)
			if c.dies {
				k.die(t)
				k.open(t, k.cfg)
			}
			check(t, k.rdb.Del(t.Context(), key).Err())
			if c.there {
				check(t, k.rdb.Set(t.Context(), key, firstMark, 0).Err())
			}
			k.g.advance()
			k.wantLost(t, 0, 0)
		})
	}
}
