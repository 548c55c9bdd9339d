package queue

import (
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// TestAMarkerThatHasExpired of a dead process: whether that is a loss does not hang on how
// long those who adopt its journal keep theirs.
func TestAMarkerThatHasExpired(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		name    string
		written time.Time
		stays   int64
		losses  int64
	}{
		{"an hour ago", now.Add(-2 * time.Hour), now.Add(-time.Hour).UnixMilli(), 0},
		{"though the journal is new", now, now.Add(-time.Hour).UnixMilli(), 0},
		{"not yet", now.Add(-2 * time.Hour), now.Add(time.Hour).UnixMilli(), 1},
		{"nobody knows", now.Add(-2 * time.Hour), 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := newHandTrial(t, Config{})
			blob := (&entry{seq: 5, queue: "default", stays: c.stays}).encode(nil, nil)
			for seq := range uint64(8) {
				one := someJob("default", 10)
				one.ID = string(rune('a' + seq))
				blob = (&entry{seq: seq, queue: "default", record: one.record()}).encode(blob, nil)
			}
			check(t, k.g.j.store.Append(spool.Record{Class: journalFlow, At: c.written, Data: blob}))
			check(t, k.Close())
			k.cfg.Guard = 24 * time.Hour
			k.open(t, k.cfg)
			k.advance()
			if st := k.Stats(); st.Losses != c.losses || (st.Resent > 0) != (c.losses > 0) {
				t.Errorf("%d losses, %d jobs sent again", st.Losses, st.Resent)
			}
			k.sweep()
			k.sweep()
			if n := k.Journalled(); c.losses == 0 && n != 0 {
				t.Errorf("%d jobs are kept that are done", n)
			}
		})
	}
}
