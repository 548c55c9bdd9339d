package queue

import (
	"errors"

	"github.com/jobspool/jobspool/spool"
)

// sendAgain writes jobs to the spool, from where they are replayed. It returns how many those
// were: not those whose twin is there already.
func (g *lossGuard) sendAgain(lost []suspect) (n int, err error) {
	records, jobs := make([]spool.Record, len(lost)), make([]*job, len(lost))
	for i, s := range lost {
		s.job.InDoubt = true
		jobs[i], records[i] = &s.job, s.job.record()
	}
	op := g.p.beginSpool(g.ctx, nil, jobs...)
	defer func() { g.p.end(op, err) }()
	for len(records) > 0 {
		err = g.p.spool.Append(records...)
		twins := (*spool.TwinsError)(nil)
		if !errors.As(err, &twins) {
			g.p.counters.notStored(len(records), err)
			if err == nil {
				n = len(records)
				g.p.replayer.poke()
			}
			return n, err
		}
		kept := records[:0]
		for i, r := range records {
			if twins.Errs[i] == nil {
				kept = append(kept, r)
			}
		}
		records = kept
	}
	return 0, nil
}
