package queue

import (
	"context"
	"sync/atomic"
	"time"
)

// reserve is what an attempt leaves of the caller's deadline for the disk.
const reserve = 100 * time.Millisecond

// budget is the time that attempts at Redis may take. Safe for concurrent use.
type budget struct {
	limit time.Duration // negative: no bound
	last  atomic.Pointer[term]
}

// term is a context that many attempts share: one of its own, and its timer, would cost
// each a tenth of the time of composing it.
type term struct {
	ctx    context.Context //nolint:containedctx // to be shared
	cancel context.CancelFunc
	until  time.Time // when it is too short for a new attempt
}

// of bounds the context of a caller by the budget, and says whether the caller's own
// deadline made that shorter. It ends up to a hundredth of the budget early.
func (b *budget) of(ctx context.Context) (limited context.Context, shortened bool, cancel context.CancelFunc) {
	if b.limit >= 0 && ctx.Done() == nil {
		return b.share(), false, func() {}
	}
	left := time.Duration(-1)
	if deadline, ok := ctx.Deadline(); ok {
		left = max(time.Until(deadline), 0)
	}
	limit, shortened := attemptTime(b.limit, left)
	if limit < 0 {
		return ctx, false, func() {}
	}
	limited, cancel = context.WithTimeout(ctx, limit)
	return limited, shortened, cancel
}

// share returns a context for a caller whose own has neither deadline nor end.
func (b *budget) share() context.Context {
	now := time.Now()
	if t := b.last.Load(); t != nil && now.Before(t.until) {
		return t.ctx
	}
	t := &term{until: now.Add(b.limit / 100)}
	t.ctx, t.cancel = context.WithDeadline(context.Background(), now.Add(b.limit))
	b.last.Store(t)
	return t.ctx
}

// attemptTime returns how long an attempt may take, and whether the caller's deadline
// made it shorter than the timeout. left is the time to that deadline, negative
// for none.
func attemptTime(timeout, left time.Duration) (d time.Duration, shortened bool) {
	if left < 0 {
		return timeout, false
	}
	d = max(left-reserve, left/2)
	if timeout >= 0 && timeout <= d {
		return timeout, false
	}
	return d, true
}
