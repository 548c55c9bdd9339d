package chaos_test

import (
	"encoding/json"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

// checkFinished fails unless a producer's books balance and nothing is left.
func checkFinished(tb testing.TB, o *oracle, c *child) {
	tb.Helper()
	var f finished
	if err := json.Unmarshal(c.last.Data, &f); err != nil {
		tb.Fatalf("a producer did not finish: %v; %v; %s", err, c.err, c.crash)
	}
	o.addBooks(f.Stats)
	if f.Drain != "" {
		tb.Errorf("drain: %s", f.Drain)
	}
	st := f.Stats
	if st.Accepted != st.Sent+st.Spooled {
		tb.Errorf("accepted %d, sent %d, spooled %d", st.Accepted, st.Sent, st.Spooled)
	}
	in := st.Spooled + st.Adopted + st.Retried + st.Resent
	out := st.Replayed + st.AlreadyThere + st.Superseded + st.Dead + st.Removed + st.Unreadable + int64(st.Pending)
	if in != out {
		tb.Errorf("the books: %d in, %d out: %+v", in, out, st)
	}
	// A disk that lies about what it has written may have a segment salvaged; no job is lost by that.
	if st.Superseded+st.Dead+st.Removed+st.Unreadable > 0 || len(st.Bad) > 0 {
		tb.Errorf("superseded %d, dead %d, removed %d, unreadable %d, bad %v", st.Superseded, st.Dead, st.Removed, st.Unreadable, st.Bad)
	}
}

// checkSpool fails unless a SpoolDir that nobody uses is sound and empty.
func checkSpool(tb testing.TB, dir string) {
	tb.Helper()
	reports, err := spool.Verify(dir)
	if err != nil {
		tb.Errorf("verify: %v", err)
	}
	for _, r := range reports {
		if r.Pending > 0 || r.Settled[spool.Dead] > 0 || len(r.Problems) > 0 {
			tb.Errorf("left in the spool: %+v", r)
		}
	}
}
