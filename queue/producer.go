package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jobspool/jobspool/queue/internal/compose"
	"github.com/jobspool/jobspool/spool"
	"github.com/jobspool/jobspool/spool/latency"
)

// Producer enqueues asynq tasks into Redis, and into a spool on local disk while
// Redis cannot be reached. It replays the spool when Redis is back. It takes the
// place of an *asynq.Client; workers stay on plain asynq.
//
// All methods are safe for concurrent use.
type Producer struct {
	cfg      Config
	composer *compose.Composer
	sender   *sender
	spool    *spool.Spool
	breakers *breakers
	changes  changes
	flights  flights
	budget   budget
	counters counters
	attempts latency.Histogram // of single calls at Redis
	gate     gate
	live     live
	replayer *replayer
	journal  *journal   // nil: off
	losses   *lossGuard // nil: off
	socket   controlSocket

	running sync.RWMutex // held shared by every running call, see enter
	closed  bool         // guarded by running
	closing sync.Once
}

// New returns a Producer and starts its replayer, which ends with Close. Redis
// may be down. New fails for a bad Config, for a SpoolDir that cannot be created,
// locked or written, and with [ErrIncompatible]; never for anything that an
// earlier process left in SpoolDir, which it adopts.
func New(cfg Config) (*Producer, error) {
	cfg, err := cfg.normalized()
	if err != nil {
		return nil, err
	}
	p := &Producer{sender: newSender()}
	client, target, err := connect(cfg.Redis, p.sender.lifetime())
	if err != nil {
		p.sender.stop()
		return nil, redisError(err)
	}
	p.sender.use(client)
	p.sender.confirm = cfg.Confirm
	if cfg.Target = cmp.Or(cfg.Target, target); cfg.Target == "" {
		return nil, errors.Join(errors.New("queue: Config.Target is required with a Sentinel client: it does not tell its master's name"), p.sender.close())
	}
	p.budget.limit = cfg.EnqueueTimeout
	p.breakers = newBreakers(p.sender.cluster != nil)
	p.cfg = cfg
	if p.composer, err = compose.New(); err != nil {
		return nil, errors.Join(err, p.sender.close())
	}
	p.spool, err = spool.Open(spool.Options{
		Dir: cfg.SpoolDir, Target: cfg.Target, SameTarget: cfg.adopts(), AdoptOnly: cfg.DrainOnly, Logger: cfg.Logger,
		MaxBytes: cfg.Spool.MaxBytes, MinFreeBytes: cfg.Spool.MinFreeBytes, Timeout: cfg.Spool.Timeout,
		MaxRecordBytes: cfg.maxRecordBytes(),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("queue: %w", err), p.composer.Close(), p.sender.close())
	}
	if cfg.Guard > 0 && !cfg.DrainOnly {
		if p.journal, err = openJournal(cfg); err != nil {
			return nil, errors.Join(fmt.Errorf("queue: journal: %w", err), p.spool.Close(), p.composer.Close(), p.sender.close())
		}
		p.losses = newLossGuard(p, p.journal)
	}
	p.gate.p = p
	p.replayer = newReplayer(p)
	go p.replayer.run()
	if p.losses != nil {
		go p.losses.run()
	}
	p.serve()
	return p, nil
}

// serve begins to serve the admin API on a socket, for the spool command. Without it that
// command cannot see what this Producer holds; all else works.
func (p *Producer) serve() {
	path := p.spool.Socket()
	if path == "" {
		return
	}
	if err := p.socket.listen(path, p.Handler(MayChange, MaySeePayloads)); err != nil {
		p.cfg.Logger.Warn("queue: no control socket, the spool command cannot reach this process", "err", err)
	}
}

// Drain replays now what was spooled before the call, without stopping the
// Producer, and returns nil when none of it is left. First it adopts what dead
// processes left in SpoolDir; what living ones hold is theirs. It does not begin with
// small batches, as a replay does that nobody waits for. With Config.Guard it then looks
// whether Redis has lost something, and sends that as well.
//
// It waits for what may pass until ctx ends: an outage, a Redis without room, a disk that
// fails, a job that Redis does not answer. Its error says what is left and why, and wraps
// that of ctx, or [ErrClosed] after Close. Dead letters and what cannot be read count as
// left. With a ctx that has ended already it adopts and waits for nothing. A disk
// that does not answer may hold it up for twice Config.Spool.Timeout, whatever ctx says,
// and is an error.
func (p *Producer) Drain(ctx context.Context) error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()
	if p.losses == nil {
		return p.replayer.drain(ctx)
	}
	for {
		before := p.losses.resent.Load()
		err := p.replayer.drain(ctx)
		if err == nil && ctx.Err() == nil {
			err = p.losses.mend(ctx)
		}
		if err != nil || p.losses.resent.Load() == before {
			return err
		}
	}
}

// Shutdown drains while ctx has time left, then closes. The error is Drain's and
// Close's: what Drain could not send stays in the spool for the next start. Until it
// closes, calls of Enqueue are served, but what they spool is not waited for. On a
// Producer that is closed it returns [ErrClosed].
func (p *Producer) Shutdown(ctx context.Context) error {
	err := p.Drain(ctx)
	return errors.Join(err, p.Close()) //nolint:contextcheck // what it still asks Redis is bounded by closeGrace
}

// Ping proves that Redis takes writes: it sets asynq:{default}:spool:probe, which
// expires after a minute. It takes at most Config.EnqueueTimeout.
func (p *Producer) Ping() error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.leave()
	limit := p.cfg.EnqueueTimeout
	if limit < 0 {
		limit = socketTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := p.sender.probe(ctx, probeQueue); err != nil {
		return fmt.Errorf("queue: ping: %w", err)
	}
	return nil
}

// closeGrace is how long Close lets the replayer finish the batch in flight. After
// that its connection is closed; what got no reply stays in the spool.
const closeGrace = 500 * time.Millisecond

// Close ends the replayer, waits for running calls and gives up the lock on the
// spool. What is spooled stays on disk for the next start. Later calls of any
// method return ErrClosed; Close is idempotent, and a second call waits for the first.
func (p *Producer) Close() (err error) {
	p.closing.Do(func() { err = p.close() })
	return err
}

func (p *Producer) close() error {
	p.replayer.stop() // ends a running Drain, too
	err := p.socket.close()
	if p.losses != nil {
		p.losses.finish()
	}
	p.refuse()
	if p.losses != nil {
		p.losses.last()
	}
	select {
	case <-p.replayer.ended:
		err = errors.Join(err, p.sender.close())
	case <-time.After(closeGrace):
		err = errors.Join(err, p.sender.close())
		<-p.replayer.ended
	}
	p.sender.wait()
	if p.journal != nil {
		err = errors.Join(err, p.journal.close())
	}
	return errors.Join(err, p.spool.Close(), p.composer.Close())
}

// enter begins a call, which ends with leave, or returns ErrClosed. It never waits: a callback
// of Config calls Enqueue from the replayer's goroutine, for which Close waits.
func (p *Producer) enter() error {
	if !p.running.TryRLock() { // only refuse keeps others out
		return ErrClosed
	}
	if p.closed {
		p.running.RUnlock()
		return ErrClosed
	}
	return nil
}

func (p *Producer) leave() { p.running.RUnlock() }

// refuse has later calls return ErrClosed, and waits for those that run.
func (p *Producer) refuse() {
	p.running.Lock()
	defer p.running.Unlock()
	p.closed = true
}

// counters count since New.
type counters struct {
	accepted, sent, spooled, inDoubt atomic.Int64
	maybeStored                      atomic.Int64
	outages, queueOutages            atomic.Int64
}

// notStored counts jobs that the spool refused with an error, if they may be in it all the
// same.
func (c *counters) notStored(jobs int, err error) {
	if errors.Is(err, spool.ErrMaybeStored) {
		c.maybeStored.Add(int64(jobs))
	}
}
