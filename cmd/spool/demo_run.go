package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/dustin/go-humanize"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue"
)

// demoRun is one run: a Redis, a worker, a Producer and what is known of the jobs.
type demoRun struct {
	plan      demoPlan
	redis     demoRedis
	queue     demoQueue
	producer  *queue.Producer
	screen    *demoScreen
	books     *demoBooks
	latencies demoLatencies
	phase     atomic.Int32 // a demoPhase

	// gate is held shared by each Enqueue, and alone to take Redis away. It
	// orders calls rather than guarding memory.
	gate sync.RWMutex

	closers []func() error // called last to first
}

// runDemo shows the run on progress and its results on out. The error says what
// was missing, or that ctx has ended.
func runDemo(ctx context.Context, plan demoPlan, out, progress io.Writer) error {
	r := &demoRun{plan: plan, books: newDemoBooks(), screen: startDemoScreen(progress)}
	complete, err := r.perform(ctx)
	err = errors.Join(err, r.close())
	if complete {
		err = errors.Join(err, r.report(out))
	}
	return err
}

// perform does it all. It reports whether there is something to report: whether
// all jobs were enqueued, and the worker had the time it needs.
func (r *demoRun) perform(ctx context.Context) (complete bool, err error) {
	if err := r.open(); err != nil { //nolint:contextcheck // redistest bounds its own waits
		return false, err
	}
	if err := r.enqueueAll(ctx); err != nil {
		return false, err
	}
	err = r.settle(ctx)
	return err == nil || ctx.Err() == nil, err
}

// open starts everything. Also if it fails, close is to be called.
func (r *demoRun) open() error {
	dir, err := os.MkdirTemp("", "spool-demo-")
	if err != nil {
		return err
	}
	r.atClose(func() error { return os.RemoveAll(dir) })
	if r.redis, err = startDemoRedis(filepath.Join(dir, "redis"), r.plan.realRedis); err != nil {
		return err
	}
	r.atClose(r.redis.Close)
	r.queue.client = redis.NewClient(&redis.Options{Addr: r.redis.Addr()})
	r.atClose(r.queue.client.Close)
	worker, err := startDemoWorker(r.redis.Addr(), r.books)
	if err != nil {
		return err
	}
	r.atClose(func() error { worker.Shutdown(); return nil })
	return r.startProducer(filepath.Join(dir, "spool"))
}

func (r *demoRun) startProducer(dir string) (err error) {
	r.producer, err = queue.New(queue.Config{
		Redis:    asynq.RedisClientOpt{Addr: r.redis.Addr()},
		SpoolDir: dir,
		Logger:   r.screen.logger(),
	})
	if err != nil {
		return err
	}
	r.atClose(r.producer.Close)
	if err := r.producer.Ping(); err != nil { // also connects, before the first job is timed
		return err
	}
	r.introduce(dir)
	return nil
}

// introduce says what is there, and begins the display of the numbers.
func (r *demoRun) introduce(dir string) {
	kind := "embedded in this program"
	if r.plan.realRedis {
		kind = "a redis-server, appendonly"
	}
	r.screen.say(fmt.Sprintf("Redis: %s (%s); spool: %s", r.redis.Addr(), kind, dir))
	r.screen.say(fmt.Sprintf("%s jobs, %.4g per second; Redis goes away for %v\n",
		humanize.Comma(int64(r.plan.jobs)), r.plan.rate(), r.plan.outage))
	r.screen.say(fmt.Sprintf("%6s  %-6s"+demoColumns, "time", "state", "accepted", "sent", "spooled", "replayed", "pending", "processed"))
	r.screen.show(r.row)
}

// demoColumns is the format of the numbers; a table of 76 characters in all.
const demoColumns = "%11s%10s%10s%10s%10s%11s"

// row returns the numbers of now.
func (r *demoRun) row() string {
	st := r.producer.Stats()
	_, processed := r.books.counts()
	comma := humanize.Comma
	return fmt.Sprintf("  %-6s"+demoColumns, st.State, comma(st.Accepted), comma(st.Sent), comma(st.Spooled),
		comma(st.Replayed+st.AlreadyThere), comma(int64(st.Pending)), comma(int64(processed)))
}

func (r *demoRun) atClose(f func() error) { r.closers = append(r.closers, f) }

// close ends everything in the opposite order, the screen last.
func (r *demoRun) close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.screen.close()
	return errors.Join(errs...)
}

// report prints the results, and returns an error if the books do not balance.
func (r *demoRun) report(out io.Writer) error {
	fmt.Fprintln(out)
	if err := r.latencies.print(out); err != nil {
		return err
	}
	sum := r.books.balance()
	fmt.Fprintf(out, "\n%v\n", sum)
	return sum.err()
}
