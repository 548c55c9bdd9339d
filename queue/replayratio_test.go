package queue_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
	"github.com/jobspool/jobspool/queue/redistest"
)

// replayJobs is how many jobs each replay has. They are spooled before each round.
var replayJobs = flag.Int("ratio.jobs", 100_000, "spooled jobs in each round of a comparison of the replay")

// BenchmarkReplayRatio compares a Drain of what a dead process left, from New on, with a
// pipeline of EVALSHA, written by hand, of messages that are ready made, and with asynq in a
// loop of one caller.
func BenchmarkReplayRatio(b *testing.B) {
	for _, queues := range []int{1, 10} {
		b.Run(fmt.Sprintf("queues=%d", queues), func(b *testing.B) {
			r := redistest.Run(b, redistest.Options{})
			compareReplay(b, r, r.Addr(), queues)
		})
	}
}

// BenchmarkDistantReplayRatio is BenchmarkReplayRatio with 5 ms of round trip.
func BenchmarkDistantReplayRatio(b *testing.B) {
	r := redistest.Run(b, redistest.Options{})
	proxy := redistest.NewProxy(b, r.Addr())
	proxy.Latency(5 * time.Millisecond)
	compareReplay(b, r, proxy.Addr(), 1)
}

// compareReplay runs the three in turns, the replay between the two others.
func compareReplay(b *testing.B, r *redistest.Server, addr string, queues int) {
	b.Helper()
	const size = largestBatch
	admin, rdb := client(b, r.Addr()), client(b, addr)
	plain := asynq.NewClient(server(addr))
	b.Cleanup(func() { _ = plain.Close() })
	next := handPipeline(b, rdb, plain, queues)
	n := 0
	single := func() error {
		n++
		_, err := plain.Enqueue(asynq.NewTask("bench", make([]byte, payloadBytes)), asynq.Queue(queueName(n%queues)))
		return err
	}
	var ofPipeline, ofLoop, pipelines, replays, loops []float64
	b.ResetTimer()
	for range *rounds {
		pipeline := size * drive(b, 1, *roundFor, func() error { return next(size) }).perSecond
		replay := driveReplay(b, admin, addr, queues)
		loop := drive(b, 1, *roundFor, single).perSecond
		must(b, admin.FlushAll(b.Context()).Err())
		pipelines, replays, loops = append(pipelines, pipeline), append(replays, replay), append(loops, loop)
		ofPipeline, ofLoop = append(ofPipeline, replay/pipeline), append(ofLoop, replay/loop)
	}
	b.ReportMetric(median(pipelines), "pipeline/s")
	b.ReportMetric(median(loops), "loop/s")
	b.ReportMetric(median(replays), "replay/s")
	reportRounds(b, ofPipeline, "x-pipeline")
	reportRounds(b, ofLoop, "x-loop")
	b.ReportMetric(float64(*rounds), "rounds")
	b.ReportMetric(0, "ns/op")
}

func queueName(i int) string { return fmt.Sprintf("queue%d", i) }

// driveReplay spools, empties Redis, drains, and returns jobs per second.
func driveReplay(b *testing.B, admin *redis.Client, addr string, queues int) float64 {
	b.Helper()
	dir := b.TempDir()
	leaveMany(b, dir, *replayJobs, queues)
	must(b, admin.FlushAll(b.Context()).Err())
	start := time.Now()
	p := newProducer(b, queue.Config{
		Redis: server(addr), SpoolDir: dir, Target: "t", DrainOnly: true, Logger: slog.New(slog.DiscardHandler),
	})
	must(b, p.Drain(b.Context()))
	took := time.Since(start)
	if st := p.Stats(); st.Replayed != int64(*replayJobs) {
		b.Fatalf("%+v", st)
	}
	closeProducer(b, p)
	return float64(*replayJobs) / took.Seconds()
}

// handPipeline returns a function that sends so many EVALSHA of asynq's own script in one
// pipeline.
func handPipeline(b *testing.B, rdb *redis.Client, plain *asynq.Client, queues int) func(size int) error {
	b.Helper()
	ctx := context.Background()
	sha, err := rdb.ScriptLoad(ctx, asynqScript(b)).Result()
	must(b, err)
	messages := make([]string, queues)
	idBytes := 0
	for i := range messages {
		info, err := plain.Enqueue(asynq.NewTask("bench", make([]byte, payloadBytes)), asynq.Queue(queueName(i)))
		must(b, err)
		messages[i], err = rdb.HGet(ctx, "asynq:{"+info.Queue+"}:t:"+info.ID, "msg").Result()
		must(b, err)
		idBytes = len(info.ID)
	}
	n := 0
	return func(size int) error {
		_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for range size {
				n++
				id, queue := fmt.Sprintf("%0*d", idBytes, n), queueName(n%queues)
				pipe.EvalSha(ctx, sha, []string{"asynq:{" + queue + "}:t:" + id, "asynq:{" + queue + "}:pending"}, messages[n%queues], id, int64(n))
			}
			return nil
		})
		return err
	}
}
