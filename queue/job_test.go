package queue

import (
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/spool"
)

func TestJobComesBackFromItsRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := func(name string) time.Time {
			if s := rapid.Int64Range(-1e9, 1e11).Draw(t, name); s != 0 {
				return time.Unix(s, 0)
			}
			return time.Time{}
		}
		want := job{
			ID: rapid.String().Draw(t, "id"), Queue: rapid.String().Draw(t, "queue"), Type: rapid.String().Draw(t, "type"),
			Headers:  rapid.MapOfN(rapid.String(), rapid.String(), 0, 3).Draw(t, "headers"),
			MaxRetry: rapid.Int().Draw(t, "retry"), Group: rapid.String().Draw(t, "group"), Lock: rapid.String().Draw(t, "lock"),
			Timeout:   compose.Seconds(rapid.Int64().Draw(t, "timeout")),
			Retention: compose.Seconds(rapid.Int64().Draw(t, "retention")),
			Deadline:  at("deadline"), ProcessAt: at("process at"),
			OwnID: rapid.Bool().Draw(t, "own id"), InDoubt: rapid.Bool().Draw(t, "in doubt"), HalfDone: rapid.Bool().Draw(t, "half done"),
		}
		if rapid.Bool().Draw(t, "has payload") {
			want.Payload = rapid.SliceOf(rapid.Byte()).Draw(t, "payload")
		}
		got, err := readJob(want.record())
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got.Headers, want.Headers) || string(got.Payload) != string(want.Payload) || (got.Payload == nil) != (want.Payload == nil) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if !got.Deadline.Equal(want.Deadline) || !got.ProcessAt.Equal(want.ProcessAt) {
			t.Fatalf("times: got %+v, want %+v", got, want)
		}
		if got.ID != want.ID || got.Queue != want.Queue || got.Type != want.Type || got.MaxRetry != want.MaxRetry ||
			got.Group != want.Group || got.Lock != want.Lock || got.Timeout != want.Timeout || got.Retention != want.Retention ||
			got.OwnID != want.OwnID || got.InDoubt != want.InDoubt || got.HalfDone != want.HalfDone {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

func FuzzReadJob(f *testing.F) {
	f.Add(job{Queue: "q", Type: "t", Payload: []byte("p"), Headers: map[string]string{"a": "b"}}.encode())
	f.Add([]byte{0x7a, 0x01, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := readJob(spool.Record{ID: "id", Data: data})
		if err != nil {
			return
		}
		again, err := readJob(j.record())
		if err != nil || again.Queue != j.Queue || string(again.Payload) != string(j.Payload) || !maps.Equal(again.Headers, j.Headers) {
			t.Fatalf("%+v, %v; want %+v", again, err, j)
		}
	})
}

func TestARecordOfANewerVersionIsNotMisread(t *testing.T) {
	r := job{Queue: "q", Type: "t"}.record()
	r.Data = append(r.Data, 0xf8, 0x01, 0x01) // field 31
	if j, err := readJob(r); err == nil {
		t.Fatalf("read as %+v", j)
	}
}

func TestBudget(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		timeout, left, want time.Duration
		shortened           bool
	}{
		{500 * ms, -1, 500 * ms, false},
		{500 * ms, time.Hour, 500 * ms, false},
		{500 * ms, 600 * ms, 500 * ms, false},
		{500 * ms, 400 * ms, 300 * ms, true},
		{500 * ms, 100 * ms, 50 * ms, true},
		{500 * ms, 0, 0, true},
		{-1, -1, -1, false},
		{-1, time.Second, 900 * ms, true},
	} {
		if got, shortened := attemptTime(c.timeout, c.left); got != c.want || shortened != c.shortened {
			t.Errorf("attemptTime(%v, %v) = %v, %v; want %v, %v", c.timeout, c.left, got, shortened, c.want, c.shortened)
		}
	}
}
