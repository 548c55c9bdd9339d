package chaos_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
)

const roleProducer = "producer"

// Orders to a producer.
const (
	orderFinish = "finish" // drain, close, report, and end
	orderDrain  = "drain"  // and go on
	orderCount  = "count"  // goroutines, and answer
)

// producerSetup is what a producer is to do.
type producerSetup struct {
	Name     string // unique in its world: its jobs' names begin with it
	Redis    redisSetup
	SpoolDir string
	Target   string
	Queues   []string
	Callers  int
	Pace     time.Duration // of a caller, from one call to the next
	Seed     uint64

	Window   time.Duration // DedupeWindow, and the retention of tasks that get none
	Guard    time.Duration
	Replicas int // that have to confirm
	MaxBytes int64
	FinishIn time.Duration // what a drain at the end may take
	Log      bool          // to stderr
	Midway   bool          // it can kill itself so
}

// redisSetup says where Redis is.
type redisSetup struct {
	Addr      string
	Sentinels []string
	Master    string
	Cluster   []string
}

func (s redisSetup) opt() asynq.RedisConnOpt {
	switch {
	case s.Master != "":
		return asynq.RedisFailoverClientOpt{MasterName: s.Master, SentinelAddrs: s.Sentinels}
	case len(s.Cluster) > 0:
		return asynq.RedisClusterClientOpt{Addrs: s.Cluster}
	}
	return asynq.RedisClientOpt{Addr: s.Addr}
}

// finished is what a producer says of itself at the end.
type finished struct {
	Stats queue.Stats
	Drain string // error
}

// producer is the child's side.
type producer struct {
	setup producerSetup
	p     *queue.Producer
	next  atomic.Int64
}

func produce() error {
	var s producerSetup
	if err := json.Unmarshal([]byte(os.Getenv(setupEnv)), &s); err != nil {
		return err
	}
	logger := slog.New(slog.DiscardHandler)
	if s.Log {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	cfg := queue.Config{
		Redis: s.Redis.opt(), SpoolDir: s.SpoolDir, Target: s.Target, Logger: logger,
		DedupeWindow: s.Window, Guard: s.Guard, Confirm: queue.ConfirmConfig{Replicas: s.Replicas},
		Spool: queue.SpoolConfig{MaxBytes: s.MaxBytes, MinFreeBytes: -1},
	}
	m := &midway{}
	if s.Midway {
		cfg.Redis, cfg.Observer = m.opt(s.Redis.Addr), m
	}
	p, err := queue.New(cfg)
	if err != nil {
		return err
	}
	c := &producer{setup: s, p: p}
	say(report{Kind: reportReady})
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for i := range s.Callers {
		callers.Go(func() { c.call(rand.New(rand.NewPCG(s.Seed, uint64(i))), stop) })
	}
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		order := orders.Text()
		switch {
		case strings.HasPrefix(order, orderStep):
			stepBy(order)
		case strings.HasPrefix(order, orderMidway):
			if err := m.arm(order); err != nil {
				return err
			}
		case order == orderCount:
			say(report{Kind: reportAnswer, Data: json.RawMessage(strconv.Itoa(runtime.NumGoroutine()))})
		case order == orderBreak:
			if err := breakDisk(); err != nil {
				return err
			}
		case order == orderDrain:
			if err := c.drain(); err != nil {
				say(report{Kind: reportTrouble, Text: "drain: " + err.Error()})
			}
		case order == orderFinish:
			close(stop)
			callers.Wait()
			return c.finish()
		}
	}
	return errors.New("the oracle is gone")
}

func (c *producer) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), c.setup.FinishIn)
	defer cancel()
	return c.p.Drain(ctx)
}

func (c *producer) finish() error {
	var f finished
	if err := c.drain(); err != nil {
		f.Drain = err.Error()
	}
	if err := c.p.Close(); err != nil {
		f.Drain += " close: " + err.Error()
	}
	f.Stats = c.p.Stats()
	data, err := json.Marshal(f)
	say(report{Kind: reportFinished, Data: data})
	return err
}

// One call in batchEvery is of EnqueueBatch.
const (
	batchEvery  = 20
	batchJobs   = 5
	jobsPerCall = (batchEvery - 1.0 + batchJobs) / batchEvery
)

// behind is how far a caller may fall behind its pace and catch up.
const behind = time.Second

// call enqueues jobs, one after the other: the next one is due by the pace, not by when the
// call before has ended.
func (c *producer) call(rng *rand.Rand, stop <-chan struct{}) {
	for due := time.Now(); ; {
		due = due.Add(c.setup.Pace/2 + time.Duration(rng.Int64N(int64(c.setup.Pace))))
		if earliest := time.Now().Add(-behind); due.Before(earliest) {
			due = earliest
		}
		select {
		case <-stop:
			return
		case <-time.After(time.Until(due)):
		}
		if rng.IntN(batchEvery) == 0 {
			c.batch(rng)
		} else {
			c.one(rng)
		}
	}
}

// one enqueues a job.
func (c *producer) one(rng *rand.Rand) {
	task, r := c.job(rng)
	say(r)
	var where queue.Where
	began := time.Now()
	info, err := c.p.Enqueue(task, queue.ReportTo(&where))
	r.Took, r.Where, r.At = time.Since(began), where.String(), time.Now().UnixNano()
	say(answer(r, info, err))
}

// batch enqueues a few jobs together.
func (c *producer) batch(rng *rand.Rand) {
	tasks, reports := make([]*asynq.Task, batchJobs), make([]report, batchJobs)
	for i := range tasks {
		tasks[i], reports[i] = c.job(rng)
	}
	say(reports...)
	began := time.Now()
	infos, err := c.p.EnqueueBatch(context.Background(), tasks)
	took, at := time.Since(began), time.Now().UnixNano()
	for i, r := range reports {
		r.Took, r.At = took, at
		var info *asynq.TaskInfo
		if i < len(infos) {
			info = infos[i]
		}
		because := err
		if each := (*queue.BatchError)(nil); errors.As(err, &each) {
			because = each.Errs[i]
		}
		reports[i] = answer(r, info, because)
	}
	say(reports...)
}

// answer is what is said of a job after the call.
func answer(r report, info *asynq.TaskInfo, err error) report {
	switch {
	case err == nil:
		r.Kind, r.ID = reportOK, info.ID
	case errors.Is(err, queue.ErrMaybeEnqueued), errors.Is(err, queue.ErrMaybeStored):
		r.Kind, r.Text = reportMaybe, err.Error()
	default:
		r.Kind, r.Text = reportNo, err.Error()
	}
	return r
}

// job makes a job of some kind, and what is said before it is enqueued. Its payload begins
// with its name.
func (c *producer) job(rng *rand.Rand) (*asynq.Task, report) {
	name := fmt.Sprintf("%s-%d", c.setup.Name, c.next.Add(1))
	filler := make([]byte, rng.IntN(600))
	for i := range filler {
		filler[i] = byte(rng.Uint32())
	}
	payload := append([]byte(name+" "), filler...)
	opts := []asynq.Option{asynq.Queue(c.setup.Queues[rng.IntN(len(c.setup.Queues))]), asynq.MaxRetry(100)}
	r := report{Kind: reportTry, Name: name, Sum: sumOf(payload)}
	switch rng.IntN(8) {
	case 0:
		opts = append(opts, asynq.TaskID("own-"+name), asynq.Retention(c.setup.Window))
	case 1:
		opts = append(opts, asynq.Unique(time.Hour))
	case 2:
		opts = append(opts, asynq.ProcessIn(time.Duration(rng.IntN(2000))*time.Millisecond))
	case 3:
		opts = append(opts, asynq.Deadline(time.Now().Add(24*time.Hour)), asynq.Timeout(time.Minute))
	case 4:
		r.Group = true
		opts = append(opts, asynq.Group(group))
	}
	task := asynq.NewTaskWithHeaders("chaos", payload, map[string]string{"name": name}, opts...)
	return task, r
}

func sumOf(payload []byte) string {
	sum := sha256.Sum256(payload)
	return hex.EncodeToString(sum[:6])
}

// nameOf returns the name of the job that has a payload.
func nameOf(payload []byte) string {
	name, _, _ := strings.Cut(string(payload), " ")
	return name
}
