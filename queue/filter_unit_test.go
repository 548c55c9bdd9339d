package queue

import (
	"testing"
	"time"
)

// TestFilterTravels: what Values writes parseFilter reads, nothing is lost.
func TestFilterTravels(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 25, 3, 0, 0, 123456789, time.FixedZone("", 3600))
	f := Filter{IDs: []string{"a", "b"}, Queue: "q", Type: "t", OlderThan: time.Minute, Before: at, InDoubt: true, Dead: true, Reason: "r"}
	v := f.Values()
	v.Set("cursor", "x")
	got, err := parseFilter(v)
	if err != nil || !got.Before.Equal(at) {
		t.Fatalf("%+v, %v", got, err)
	}
	got.Before = at
	if len(got.IDs) != 2 || got.IDs[0] != "a" || got.IDs[1] != "b" {
		t.Errorf("%+v", got)
	}
	got.IDs, f.IDs = nil, nil
	if a, b := got, f; a.Queue != b.Queue || a.Type != b.Type || a.OlderThan != b.OlderThan || a.InDoubt != b.InDoubt || a.Dead != b.Dead || a.Reason != b.Reason {
		t.Errorf("%+v, want %+v", got, f)
	}
	if len(v) != 1 || v.Get("cursor") != "x" {
		t.Errorf("left: %v", v)
	}
	for key, bad := range map[string]string{"older_than": "soon", "before": "noon", "in_doubt": "perhaps"} {
		v := Filter{}.Values()
		v.Set(key, bad)
		if _, err := parseFilter(v); err == nil {
			t.Errorf("%s=%s is taken", key, bad)
		}
	}
}

// TestFilterBefore picks what was enqueued until a time, that included, and what died until then.
func TestFilterBefore(t *testing.T) {
	t.Parallel()
	now := time.Now()
	f := Filter{Before: now}
	for after, want := range map[time.Duration]bool{-1: true, 0: true, 1: false} {
		at := now.Add(after)
		for _, j := range []Job{{At: at}, {At: now.Add(-time.Hour), Dead: &Death{Since: at}}} {
			if got := f.picks(j, now); got != want {
				t.Errorf("%v after: %v: %+v", after, got, j)
			}
		}
	}
}
