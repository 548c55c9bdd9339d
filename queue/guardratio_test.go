package queue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// BenchmarkGuardRatio compares a Producer that keeps a journal with one that does not, on one
// healthy Redis, in alternating rounds. A worker takes what there is, in between.
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
			var ratios, plain, p99s []float64
			b.ResetTimer()
			for range *rounds {
				before := round(without)
				guarded := round(with)
				after := round(without)
				base := (before.perSecond + after.perSecond) / 2
				ratios, plain = append(ratios, guarded.perSecond/base), append(plain, base)
				p99s = append(p99s, guarded.quantile(0.99).Seconds()/after.quantile(0.99).Seconds())
				// As workers would: what is gone is finished. The marker stays.
				must(b, admin.Del(b.Context(), "asynq:{default}:pending").Err())
			}
			if st := with.Stats(); st.JournalSkipped > 0 && *rounds < 4 || st.Losses > 0 {
				b.Errorf("%+v", st)
			}
			b.ReportMetric(median(ratios), "x-without")
			b.ReportMetric(median(p99s), "x-p99")
			b.ReportMetric(median(plain), "without/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
