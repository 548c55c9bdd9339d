package queue

import (
	"sync/atomic"

	"github.com/jobspool/jobspool/spool"
)

// settleCounts count what was settled by what the spool does not know of it. Safe for
// concurrent use.
type settleCounts struct {
	dead    [deathKinds]atomic.Int64
	inDoubt struct{ replayed, alreadyThere, superseded, dead atomic.Int64 }
}

// add counts one settlement that is durable.
func (c *settleCounts) add(s settlement) {
	if s.Outcome == spool.Dead {
		c.dead[s.why].Add(1)
	}
	if !s.event.InDoubt {
		return
	}
	switch s.Outcome {
	case spool.Delivered:
		c.inDoubt.replayed.Add(1)
	case spool.AlreadyThere:
		c.inDoubt.alreadyThere.Add(1)
	case spool.Superseded:
		c.inDoubt.superseded.Add(1)
	case spool.Dead:
		c.inDoubt.dead.Add(1)
	default: // Kept is not final, and the others are not the replay's
	}
}

// addStats adds what was counted.
func (c *settleCounts) addStats(st *Stats) {
	st.DeadBy = make(map[string]int64, deathKinds)
	for k := alive + 1; k < deathKinds; k++ {
		st.DeadBy[k.String()] = c.dead[k].Load()
	}
	st.InDoubtSettled = Settled{
		Replayed: c.inDoubt.replayed.Load(), AlreadyThere: c.inDoubt.alreadyThere.Load(),
		Superseded: c.inDoubt.superseded.Load(), Dead: c.inDoubt.dead.Load(),
	}
}
