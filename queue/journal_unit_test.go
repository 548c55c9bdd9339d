package queue

import (
	"bytes"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool"
)

func someEntries() []entry {
	at := time.Unix(1_700_000_000, 123)
	return []entry{
		{seq: 1, queue: "default", record: spool.Record{ID: "a", At: at, Data: []byte("data")}},
		{seq: 300, queue: "", record: spool.Record{ID: "b", At: at, Lock: "lock", LockUntil: at.Add(time.Hour), Data: []byte{0, 255}}},
		{seq: 1 << 63, queue: "other"}, // a marker
		{seq: 300, queue: "default", stays: at.UnixMilli()},
	}
}

func encodeEntries(entries []entry) (blob []byte) {
	for _, e := range entries {
		blob = e.encode(blob, nil)
	}
	return blob
}

func decodeEntries(blob []byte) (entries []entry, err error) {
	err = readEntries(blob, func(e entry) error {
		entries = append(entries, e)
		return nil
	})
	return entries, err
}

func TestEntriesRoundTrip(t *testing.T) {
	t.Parallel()
	blob := encodeEntries(someEntries())
	got, err := decodeEntries(blob)
	if err != nil || !reflect.DeepEqual(got, someEntries()) {
		t.Errorf("%v, %v", got, err)
	}
	if n, err := countEntries(blob); n != 2 || err != nil {
		t.Errorf("%d jobs, %v", n, err)
	}
	for n := range blob { // what is whole before the damage is read
		got, err := decodeEntries(blob[:n])
		if whole := encodeEntries(got); (err == nil) != (len(whole) == n) || !bytes.HasPrefix(blob, whole) {
			t.Errorf("%d bytes: %v, %v", n, got, err)
		}
	}
}

// TestAJobInTheJournal is what it was.
func TestAJobInTheJournal(t *testing.T) {
	t.Parallel()
	one := job{
		ID: "id", Queue: "q", Type: "t", Payload: []byte{}, Headers: map[string]string{"a": "b"}, MaxRetry: 3, Group: "g",
		Lock: "lock", LockUntil: time.Unix(1_800_000_000, 0), At: time.Unix(1_700_000_000, 0), OwnID: true,
	}
	got, err := decodeEntries(encodeEntries([]entry{{seq: 1, queue: "q", record: one.record()}}))
	check(t, err)
	read, err := readJob(got[0].record)
	if err != nil || !reflect.DeepEqual(read, one) {
		t.Errorf("%+v, %v; want %+v", read, err, one)
	}
}

// FuzzReadEntries: no bytes make it panic, and what it reads it reads again.
func FuzzReadEntries(f *testing.F) {
	f.Add(encodeEntries(someEntries()))
	f.Add([]byte{1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, blob []byte) {
		entries, err := decodeEntries(blob)
		again, againErr := decodeEntries(encodeEntries(entries))
		if againErr != nil || len(again) != len(entries) || len(entries) > 0 && !reflect.DeepEqual(again, entries) {
			t.Errorf("%v, then %v, %v", entries, again, againErr)
		}
		if n, countErr := countEntries(blob); (countErr == nil) != (err == nil) || n > len(entries) {
			t.Errorf("%d jobs in %d entries: %v, %v", n, len(entries), countErr, err)
		}
	})
}

// newJournal returns a journal without a guard.
func newJournal(t *testing.T) *journal {
	t.Helper()
	j, err := openJournal(Config{SpoolDir: t.TempDir(), Target: "t", Guard: time.Minute, GuardBytes: DefaultGuardBytes, Logger: slog.New(slog.DiscardHandler)})
	check(t, err)
	t.Cleanup(func() { check(t, j.close()) })
	return j
}

func someJob(queue string, size int) job {
	return job{ID: "id", Queue: queue, Type: "t", Payload: make([]byte, size), At: time.Unix(1_700_000_000, 0)}
}

// TestTheFirstEntryOfAQueue asks for a marker, once.
func TestTheFirstEntryOfAQueue(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	for _, c := range []struct {
		queue string
		fresh int
	}{{"a", 1}, {"a", 0}, {"b", 1}, {"a", 0}, {"b", 0}} {
		if j.add(someJob(c.queue, 10)); len(j.fresh) != c.fresh {
			t.Errorf("queue %s: asked for %d markers, want %d", c.queue, len(j.fresh), c.fresh)
		}
		select {
		case <-j.fresh:
		default:
		}
	}
}

// TestAnEntryIsWrittenSoon: what the process had acknowledged a moment before it was killed is
// on disk.
func TestAnEntryIsWrittenSoon(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	quick(t, 100*time.Millisecond, func() {
		before := j.jobs.Load()
		j.add(someJob("q", 10))
		soon(t, "it is written", func() bool { return j.jobs.Load() > before })
	})
	if n := j.store.Stats().Pending; n == 0 {
		t.Error("there are no blobs")
	}
}

// TestBlobsAreSmall, but for one large job, and are written together up to a limit.
func TestBlobsAreSmall(t *testing.T) {
	t.Parallel()
	var w waiting
	for i := range uint64(100) {
		one := someJob("q", 1000)
		w.add(entry{seq: i, queue: "q", record: spool.Record{ID: "id", At: one.At}}, &one)
	}
	jobs, end := 0, 0
	for i, b := range w.blobs {
		if b.begin != end || b.end-b.begin > journalBlob+2000 || i < len(w.blobs)-1 && b.end-b.begin < journalBlob {
			t.Errorf("blob %d is from %d to %d, behind %d", i, b.begin, b.end, end)
		}
		n, err := countEntries(w.bytes[b.begin:b.end])
		if err != nil || n != b.jobs {
			t.Errorf("blob %d has %d jobs, %v; want %d", i, n, err, b.jobs)
		}
		jobs, end = jobs+b.jobs, b.end
	}
	if jobs != 100 || end != len(w.bytes) || len(w.blobs) < 6 {
		t.Errorf("%d jobs, %d of %d bytes, %d blobs", jobs, end, len(w.bytes), len(w.blobs))
	}
	for _, c := range []struct {
		sizes []int
		want  int
	}{
		{[]int{1}, 1},
		{[]int{1, 2, 3}, 3},
		{[]int{journalMost / 2, journalMost / 2, 1}, 2},
		{[]int{journalMost / 2, journalMost, 1}, 1},
		{[]int{3 * journalMost, 1}, 1},
	} {
		var blobs []waitingBlob
		at := 1000
		for _, size := range c.sizes {
			blobs = append(blobs, waitingBlob{begin: at, end: at + size})
			at += size
		}
		if n := firstBlobs(blobs); n != c.want {
			t.Errorf("%v: the first %d, want %d", c.sizes, n, c.want)
		}
	}
}

// TestWhatWaitsIsBounded, as while a disk does not answer: the newest is not taken, and that is
// said once.
func TestWhatWaitsIsBounded(t *testing.T) {
	t.Parallel()
	said := &saidLines{}
	j := newJournal(t)
	j.log = slog.New(slog.NewTextHandler(said, nil))
	const jobs = 72
	one := someJob("q", 1<<20)
	for round := range int64(2) {
		j.writing.Lock()
		for range jobs {
			j.add(one)
		}
		j.mu.Lock()
		waits, last := len(j.waits.bytes), *j.last["q"]
		j.mu.Unlock()
		if waits > waitsMost+2<<20 {
			t.Errorf("%d bytes wait", waits)
		}
		j.writing.Unlock()
		j.flush()
		n, skipped := j.jobs.Load(), j.skipped.Load()
		if all := (round+1)*jobs + round; n < (round+1)*(waitsMost>>20-1) || n+skipped != all || last < uint64(n) {
			t.Errorf("%d jobs in the journal and %d skipped, of %d; the last is %d", n, skipped, all, last)
		}
		if n := len(said.all("cannot be written as fast")); n != int(round)+1 {
			t.Errorf("%d lines in the log: %q", n, said.all(""))
		}
		j.add(one) // there is room again
		j.flush()
	}
}
