package queue

import "testing"

// moved is a handTrial that has moved to another Redis, which accepts what the first one left.
func moved(t *testing.T, k *handTrial) {
	t.Helper()
	k.cfg.Target, k.cfg.AcceptTargets = "another", []string{"t"}
	k.open(t, k.cfg)
}

// TestAMoveIsNoLoss: the old Redis may still be served by workers, so what it had acknowledged
// is sent to the new one only if a person says so.
func TestAMoveIsNoLoss(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	ids := k.enqueue(t, 3, 10)
	check(t, k.Close())
	k.flushAll(t) // the new Redis has nothing of it
	moved(t, k)
	for range 3 {
		k.advance()
		k.sweep()
	}
	if st := k.Stats(); st.Resent != 0 || st.Lost != 3 || st.ResentMaybeDone != 0 || k.Journalled() != 3 {
		t.Errorf("%d sent again, %d missing, %d in the journal", st.Resent, st.Lost, k.Journalled())
	}
	if said := k.said.all("spool guard --check"); len(said) != 1 {
		t.Errorf("%q", k.said.all(""))
	}
	k.g.ended = make(chan struct{})
	go func() {
		for {
			select {
			case a := <-k.g.asides:
				a.done <- a.fn()
			case <-k.g.ended:
				return
			}
		}
	}()
	found, err := k.g.checkByHand(t.Context(), GuardCheck{})
	close(k.g.ended)
	if check(t, err); found.SentAgain != 3 {
		t.Errorf("%+v", found)
	}
	k.wantPending(t, ids)
}

// TestAMoveWithTheData that lagged is a loss like any other, and so is one after the move.
func TestAMoveWithTheData(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	ids := k.enqueue(t, 3, 10)
	k.advance()
	key := k.mark().key()
	check(t, k.Close())
	k.flushAll(t)
	check(t, k.rdb.Set(t.Context(), key, firstMark, 0).Err())
	moved(t, k)
	k.advance()
	k.wantLost(t, 1, 3)
	k.wantPending(t, ids)
	k.advance() // the markers are set
	k.flushAll(t)
	k.advance()
	k.sweep()
	if st := k.Stats(); st.Resent != 6 {
		t.Errorf("%d sent again, want 6", st.Resent)
	}
	k.wantPending(t, ids)
}
