package queue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// BenchmarkGuardRatio compares a Producer that keeps a journal with one that does not, on one
// healthy Redis, in alternating rounds. In between, all jobs are finished.
func BenchmarkGuardRatio(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			r := redistest.Run(b, redistest.Options{})
			admin := client(b, r.Addr())
			with := newProducer(b, queue.Config{Redis: server(r.Addr()), SpoolDir: b.TempDir(), Guard: time.Minute})
			without := newProducer(b, queue.Config{Redis: server(r.Addr()), SpoolDir: b.TempDir()})
			payload := make([]byte, payloadBytes)
			round := func(p *queue.Producer) pace {
				return drive(b, callers, *roundFor, func() error {
					_, err := p.Enqueue(asynq.NewTask("bench", payload))
					return err
				})
			}
			var ratios, plain, guardeds, p99s []float64
			b.ResetTimer()
			for range *rounds {
				before := round(without)
				guarded := round(with)
				after := round(without)
				base := (before.perSecond + after.perSecond) / 2
				ratios, plain = append(ratios, guarded.perSecond/base), append(plain, base)
				guardeds = append(guardeds, guarded.perSecond)
				p99s = append(p99s, guarded.quantile(0.99).Seconds()/after.quantile(0.99).Seconds())
				finishAll(b, admin)
			}
			if st := with.Stats(); st.JournalSkipped > 0 && *rounds < 4 || st.Losses > 0 {
				b.Errorf("%+v", st)
			}
			reportRounds(b, ratios, "x-without")
			reportRounds(b, p99s, "x-p99")
			b.ReportMetric(median(plain), "without/s")
			b.ReportMetric(median(guardeds), "with/s")
			b.ReportMetric(float64(*rounds), "rounds")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// finishAll takes all jobs out of Redis, as workers would. The marker stays.
func finishAll(tb testing.TB, rdb *redis.Client) {
	tb.Helper()
	must(tb, rdb.Unlink(tb.Context(), "asynq:{default}:pending").Err())
	for cursor, more := uint64(0), true; more; more = cursor != 0 {
		keys, next, err := rdb.Scan(tb.Context(), cursor, "asynq:{default}:t:*", 10_000).Result()
		must(tb, err)
		if cursor = next; len(keys) > 0 {
			must(tb, rdb.Unlink(tb.Context(), keys...).Err())
		}
	}
}
