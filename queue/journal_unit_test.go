package queue

import (
	"bytes"
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
