package queue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestSharedBudget has many callers, one each millisecond: each gets at least 99 % of the
// budget, and no more than all of it.
func TestSharedBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: time.Second}
		contexts := map[context.Context]bool{}
		for range 1000 {
			ctx, shortened, cancel := b.of(context.Background())
			deadline, ok := ctx.Deadline()
			if left := time.Until(deadline); !ok || shortened || left > time.Second || left < 990*time.Millisecond {
				t.Fatalf("%v left, shortened %v", left, shortened)
			}
			contexts[ctx] = true
			cancel() // must not end what others share
			if ctx.Err() != nil {
				t.Fatal(ctx.Err())
			}
			time.Sleep(time.Millisecond)
		}
		if len(contexts) > 110 {
			t.Errorf("%d contexts for 1000 callers", len(contexts))
		}
	})
}

func TestBudgetOfACallerWithADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &budget{limit: time.Second}
		caller, stop := context.WithTimeout(context.Background(), 400*time.Millisecond)
		defer stop()
		ctx, shortened, cancel := b.of(caller)
		defer cancel()
		deadline, _ := ctx.Deadline()
		if left := time.Until(deadline); !shortened || left != 300*time.Millisecond {
			t.Errorf("%v left, shortened %v", left, shortened)
		}
		stop()
		if ctx.Err() == nil {
			t.Error("the caller's end is not that of the attempt")
		}
		endless := &budget{limit: -1}
		if ctx, _, _ := endless.of(context.Background()); ctx.Done() != nil {
			t.Error("a negative limit bounds")
		}
	})
}
