package queue

import (
	"context"
	"testing"
	"time"
)

// TestASweepKeepsWhatTheMarkersWere: the process that knew is gone, and Redis is back with a
// marker that is too old.
func TestASweepKeepsWhatTheMarkersWere(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	k.enqueue(t, 2, 10)
	ids := k.enqueue(t, 3, 10)
	k.g.j.flush()
	k.advance()
	k.g.j.flush() // a blob without jobs says what the marker is
	for range 3 {
		k.sweep()
	}
	key := k.mark().key()
	check(t, k.Close())
	k.done(t, ids...)
	check(t, k.rdb.Set(t.Context(), key, "2", 0).Err())
	k.open(t, k.cfg)
	k.advance()
	k.wantLost(t, 1, 3)
}

// TestASweepNoticesALoss that came behind the last marker, and takes nothing for finished.
func TestASweepNoticesALoss(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	ids := k.enqueue(t, 3, 10)
	k.advance()
	k.flushAll(t)
	k.sweep()
	k.wantLost(t, 1, 3)
	k.wantPending(t, ids)
}

// TestASweepLetsGoOfWhatTheMarkerCovers, and of no more.
func TestASweepLetsGoOfWhatTheMarkerCovers(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	covered := k.enqueue(t, 3, 10)
	k.g.j.flush()
	k.sweep()
	if st := k.Stats(); st.JournalJobs != 3 {
		t.Errorf("%d jobs in the journal before there is a marker", st.JournalJobs)
	}
	k.advance()
	later := k.enqueue(t, 2, 10)
	k.done(t, append(covered, later...)...)
	k.sweep()
	if st := k.Stats(); st.JournalJobs != 2 || k.Journalled() != 2 {
		t.Errorf("%d jobs in the journal, %d in its blobs, want 2", st.JournalJobs, k.Journalled())
	}
	k.lose(t)
	k.advance()
	k.wantLost(t, 1, 2)
	k.wantPending(t, later)
}

// TestASweepInTheMiddleOfALoss takes nothing for finished, and what is too old stays until it
// is sent again.
func TestASweepInTheMiddleOfALoss(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	ids := k.enqueue(t, 3, 10)
	k.advance()
	k.g.j.flush()
	k.lose(t)
	k.sweep()
	keep := k.g.keep
	k.g.keep = 1
	k.sweep()
	k.g.keep = keep
	k.advance()
	k.wantLost(t, 1, 3)
	k.wantPending(t, ids)
}

// TestWhatIsTooOldIsLetGoOf, in Redis or not.
func TestWhatIsTooOldIsLetGoOf(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	ids := k.enqueue(t, 3, 10)
	k.advance()
	k.done(t, ids[0])
	k.sweep()
	k.g.j.flush()
	k.g.keep = 1
	k.sweep()
	k.sweep()
	if st := k.Stats(); st.JournalJobs != 0 || k.Journalled() != 0 || len(k.g.done) != 0 {
		t.Errorf("%d jobs in the journal, %d in its blobs, %d blobs known", st.JournalJobs, k.Journalled(), len(k.g.done))
	}
}

// neighbour enqueues jobs with a Producer that is then gone, and returns their ids. What its
// last marker covers is all.
func (k *handTrial) neighbour(t *testing.T, n, size int) (ids []string) {
	t.Helper()
	p, g := k.Producer, k.g
	k.open(t, k.cfg)
	ids = k.enqueue(t, n, size)
	check(t, k.Close())
	k.Producer, k.g = p, g
	return ids
}

// TestASweepAdopts the journals of the dead: no alarm, and their losses are found.
func TestASweepAdopts(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	ids := k.neighbour(t, 3, 10)
	k.sweep() // nothing is known of the marker yet
	k.wantLost(t, 0, 0)
	if st := k.Stats(); st.JournalJobs != 3 {
		t.Errorf("%d jobs in the journal, want 3", st.JournalJobs)
	}
	ids = append(ids, k.neighbour(t, 2, 10)...)
	k.sweep()
	k.advance()
	k.wantLost(t, 0, 0)
	if st := k.Stats(); st.JournalJobs != 5 || k.Journalled() != 5 {
		t.Errorf("%d jobs in the journal, %d in its blobs, want 5", st.JournalJobs, k.Journalled())
	}
	k.flushAll(t)
	k.sweep()
	k.sweep()
	k.wantLost(t, 2, 5) // what is missing of one marker each
	k.wantPending(t, ids)
}

// TestAdoptingInTheMiddleOfALoss keeps what is lost, of whoever is dead for longer, until it is
// sent again.
func TestAdoptingInTheMiddleOfALoss(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	ids := k.neighbour(t, 3, 10)
	k.sweep()
	k.advance()
	k.flushAll(t)
	undo := k.spoil(t, ids[2])
	for id, m := range k.g.marks {
		if _, err := m.advance(t.Context(), k.sender, m.value, time.Now()); err != nil || m.found == nil {
			t.Fatalf("%v: no loss: %v", id, err)
		}
	}
	k.neighbour(t, 1, 10)
	k.g.keep = 1 // all is old by now
	k.sweep()
	k.advance()
	undo()
	k.advance()
	k.wantLost(t, 1, 3)
	k.sweep()
	if st := k.Stats(); st.JournalJobs < 0 || len(k.g.done) > k.g.j.store.Stats().Pending {
		t.Errorf("%d jobs in the journal, %d blobs known of %d", st.JournalJobs, len(k.g.done), k.g.j.store.Stats().Pending)
	}
}

// TestAdoptingIsTriedAgain where it could not be read whose journals were adopted.
func TestAdoptingIsTriedAgain(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	ids := k.neighbour(t, 20, 100_000) // several pages
	over, stop := context.WithCancel(t.Context())
	stop()
	ctx := k.g.ctx
	k.g.ctx = over
	k.g.adopt()
	k.g.ctx = ctx
	k.sweep()
	k.advance()
	if st := k.Stats(); st.JournalJobs != 20 {
		t.Errorf("%d jobs in the journal, want 20", st.JournalJobs)
	}
	k.flushAll(t)
	k.sweep()
	k.wantLost(t, 1, 20)
	k.wantPending(t, ids)
}

// TestTheMarkersOfTheDeadAreForgotten when their journals are gone, and not before.
func TestTheMarkersOfTheDeadAreForgotten(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	k.enqueue(t, 1, 10)
	first, second := k.neighbour(t, 3, 10), k.neighbour(t, 3, 10)
	k.sweep()
	k.advance()
	k.done(t, first...)
	k.sweep() // lets go of one
	if k.sweep(); len(k.g.targets) != 1 || len(k.g.marks) != 2 {
		t.Errorf("%d targets, %d markers; want the living one and another", len(k.g.targets), len(k.g.marks))
	}
	k.lose(t)
	k.sweep()
	k.advance()
	k.wantLost(t, 2, 4)
	k.done(t, second...)
	for range 3 {
		k.sweep()
	}
	if len(k.g.targets) != 0 || len(k.g.marks) != 1 {
		t.Errorf("%d targets, %d markers; want the living one", len(k.g.targets), len(k.g.marks))
	}
}

// TestAdoptingInTheMiddleOfASweep: what was adopted lies in front of where the sweep is, and
// counts as seen none the less.
func TestAdoptingInTheMiddleOfASweep(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{})
	p, g := k.Producer, k.g
	k.open(t, k.cfg) // older than what the other enqueues
	ids := k.enqueue(t, 3, 10)
	older := k.Producer
	k.Producer, k.g = p, g
	ids = append(ids, k.enqueue(t, 1, 10)...)
	k.g.j.flush()
	if blobs, err := k.g.reader.Read(1, 1); err != nil || len(blobs) != 1 {
		t.Fatalf("%d blobs, %v", len(blobs), err)
	}
	check(t, older.Close())
	k.sweep()
	k.advance()
	k.flushAll(t)
	k.sweep()
	k.wantLost(t, 2, 4)
	k.wantPending(t, ids)
}

// TestWhatIsTrimmedIsForgotten, so that neither memory nor counts run away.
func TestWhatIsTrimmedIsForgotten(t *testing.T) {
	t.Parallel()
	k := newHandTrial(t, Config{GuardBytes: 2 << 20})
	k.g.j.writing.Lock() // both go to one blob
	ids := k.enqueue(t, 2, 10)
	k.g.j.writing.Unlock()
	k.g.j.flush()
	k.advance()
	k.done(t, ids[0])
	k.sweep()
	if len(k.g.done) != 1 || k.g.finished.Load() != 1 {
		t.Fatalf("%d blobs known, %d jobs finished: the test shows nothing", len(k.g.done), k.g.finished.Load())
	}
	for n := 0; k.g.j.skipped.Load() == 0; n++ {
		k.enqueue(t, 1, 100_000)
		k.g.j.flush()
		if n > 100 {
			t.Fatal("the journal is never without room")
		}
	}
	k.sweep()
	if len(k.g.done) != 0 || k.g.finished.Load() != 0 {
		t.Errorf("%d blobs known, %d jobs finished, of blobs that are gone", len(k.g.done), k.g.finished.Load())
	}
	if st := k.Stats(); st.JournalJobs != int64(k.Journalled()) {
		t.Errorf("%d jobs in the journal, %d in its blobs", st.JournalJobs, k.Journalled())
	}
}
