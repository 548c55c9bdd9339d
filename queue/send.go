package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/internal/compose"
)

// command is what asynq would send to Redis to enqueue one task.
type command = compose.Command

// verdict is Redis's answer to an enqueue script.
type verdict int64

// The answers of asynq's six scripts.
const (
	enqueued  verdict = 1
	conflict  verdict = 0  // the task id exists
	duplicate verdict = -1 // the unique lock is held
)

// result is what became of one command that was sent.
type result struct {
	verdict verdict
	err     error // nil: Redis answered with the verdict

	// unconfirmed: Redis refuses the job because of its id or its lock, and too few replicas
	// know. Where an earlier attempt may be the reason, they may not have the job.
	unconfirmed error
}

// taken reports whether Redis refuses a job because of its id or its lock.
func (r result) taken() bool { return r.err == nil && r.unconfirmed == nil && r.verdict.refuses() }

func (v verdict) refuses() bool { return v == conflict || v == duplicate }

// sender sends composed commands, each once: what got no reply is the caller's
// concern. It registers queues as asynq would. Safe for concurrent use.
type sender struct {
	client  redis.UniversalClient
	cluster *redis.ClusterClient // client, if it is one
	closing context.Context      //nolint:containedctx // of the client
	stop    context.CancelFunc   // ends closing
	release *compose.Script
	confirm ConfirmConfig // set before the first command
	first   *firstMarks   // as well; nil: there is no guard

	known    sync.Map      // queue -> time before which it needs no registration
	knownFor time.Duration // for how long a registration is known to be there

	epochs sync.Map // client of one server -> *atomic.Int64, see age

	shared *coalescer // of the one server there is
	queues sync.Map   // Cluster: queue -> *coalescer, so that a dead server holds up its own queues only
}

func newSender() *sender {
	s := &sender{release: &compose.Script{Source: releaseLock, SHA: redis.NewScript(releaseLock).Hash()}, knownFor: registerEvery}
	s.closing, s.stop = context.WithCancel(context.Background())
	s.shared = newCoalescer(s.inline, s.batch)
	return s
}

// use gives the sender its client, before the first command.
func (s *sender) use(client redis.UniversalClient) {
	s.client = client
	s.cluster, _ = client.(*redis.ClusterClient)
}

// live sends one command for a caller that waits, together with those of other callers
// when they are many.
func (s *sender) live(ctx context.Context, cmd command) result {
	if s.cluster == nil {
		return s.shared.send(ctx, cmd)
	}
	c, ok := s.queues.Load(cmd.Queue)
	if !ok {
		c, _ = s.queues.LoadOrStore(cmd.Queue, newCoalescer(s.inline, s.batch))
	}
	return c.(*coalescer).send(ctx, cmd)
}

// lifetime is what the sender wants to know of its client's connections, and has to say.
func (s *sender) lifetime() lifetime {
	return lifetime{
		connected: s.forget, closing: s.closing,
		made: func(client redis.UniversalClient, epoch *atomic.Int64) { s.epochs.Store(client, epoch) },
	}
}

// close closes the client, with all that is going on.
func (s *sender) close() error {
	s.stop()
	return s.client.Close()
}

// wait returns when nothing is being sent for callers that have left.
func (s *sender) wait() {
	s.shared.wait()
	s.queues.Range(func(_, c any) bool {
		c.(*coalescer).wait()
		return true
	})
}

// inline sends one command in the caller's goroutine.
func (s *sender) inline(ctx context.Context, cmd command) result {
	s.first.ensure(ctx, s, cmd.Queue)
	r := s.once(ctx, cmd)
	if s.moved(ctx, r.err) {
		r = s.once(ctx, cmd)
	}
	if r.err == nil {
		s.register(ctx, cmd.Queue)
	}
	return s.settleLock(ctx, cmd, r)
}

func (s *sender) once(ctx context.Context, cmd command) result {
	server, err := s.server(ctx, cmd.Queue)
	if err != nil {
		return result{err: scrub(err)}
	}
	if s.confirm.Replicas > 0 {
		return pipeline(ctx, server, []command{cmd}, s.confirm)[0]
	}
	r := server.EvalSha(ctx, cmd.Script.SHA, cmd.Keys, cmd.Args...)
	if redis.HasErrorPrefix(r.Err(), "NOSCRIPT") {
		r = server.Eval(ctx, cmd.Script.Source, cmd.Keys, cmd.Args...)
	}
	return read(r)
}

// batch sends commands in one pipeline per server. The results are in the order of the
// commands.
func (s *sender) batch(ctx context.Context, cmds []command) []result {
	s.first.ensure(ctx, s, queuesOf(cmds, func(int) bool { return s.first != nil })...)
	results := s.pipelines(ctx, cmds, s.confirm)
	s.followMoved(ctx, cmds, results)
	s.settleLocks(ctx, cmds, results)
	s.register(ctx, queuesOf(cmds, func(i int) bool { return results[i].err == nil })...)
	return results
}

// queuesOf returns the queues of those commands that count, each once.
func queuesOf(cmds []command, counts func(i int) bool) (queues []string) {
	for i, c := range cmds {
		if counts(i) && !slices.Contains(queues, c.Queue) {
			queues = append(queues, c.Queue)
		}
	}
	return queues
}

func pick(cmds []command, which []int) []command {
	picked := make([]command, len(which))
	for i, k := range which {
		picked[i] = cmds[k]
	}
	return picked
}

// pipelines sends each server its commands, to all servers at once.
func (s *sender) pipelines(ctx context.Context, cmds []command, confirm ConfirmConfig) []result {
	if s.cluster == nil {
		return pipeline(ctx, s.client, cmds, confirm)
	}
	results := make([]result, len(cmds))
	byServer := map[redis.UniversalClient][]int{}
	for i, c := range cmds {
		server, err := s.server(ctx, c.Queue)
		if err != nil {
			results[i].err = scrub(err)
			continue
		}
		byServer[server] = append(byServer[server], i)
	}
	var wg sync.WaitGroup
	for server, which := range byServer {
		wg.Go(func() {
			for i, r := range pipeline(ctx, server, pick(cmds, which), confirm) {
				results[which[i]] = r
			}
		})
	}
	wg.Wait()
	return results
}

// pipeline sends commands to one server, and those again whose script it did not know.
func pipeline(ctx context.Context, server redis.UniversalClient, cmds []command, confirm ConfirmConfig) []result {
	replies, asked := exchange(ctx, server, cmds, len(cmds) > 1, confirm)
	var again []int
	for i, r := range replies {
		if redis.HasErrorPrefix(r.Err(), "NOSCRIPT") {
			again = append(again, i)
		}
	}
	if len(again) > 0 {
		var more []*redis.Cmd
		more, asked = exchange(ctx, server, pick(cmds, again), true, confirm)
		for i, k := range again {
			replies[k] = more[i]
		}
	}
	results := make([]result, len(cmds))
	for i, r := range replies {
		results[i] = read(r)
		if words := lastWordsError(""); len(cmds) > 1 && errors.As(results[i].err, &words) {
			results[i].err = fmt.Errorf("the connection was closed upon one of %d commands: %v", len(cmds), words) //nolint:errorlint // no answer to this one
		}
	}
	confirm.demand(results, asked)
	return results
}

// exchange sends commands in one pipeline. With sources, the first of each script brings it
// along, so that none is to be sent again, behind others whose script the server knew.
func exchange(ctx context.Context, server redis.UniversalClient, cmds []command, sources bool, confirm ConfirmConfig) ([]*redis.Cmd, *confirmation) {
	replies := make([]*redis.Cmd, len(cmds))
	var asked *confirmation
	var sent []*compose.Script
	_, err := server.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, c := range cmds {
			if sources && !slices.Contains(sent, c.Script) {
				sent = append(sent, c.Script)
				replies[i] = p.Eval(ctx, c.Script.Source, c.Keys, c.Args...)
				continue
			}
			replies[i] = p.EvalSha(ctx, c.Script.SHA, c.Keys, c.Args...)
		}
		asked = confirm.ask(ctx, p, cmds[0].Queue)
		return nil
	})
	blame(replies, err)
	return replies, asked
}

// blame gives the error of a pipeline to those commands that have neither reply nor error
// of their own: go-redis keeps a reply to the handshake of a new connection to itself.
func blame(replies []*redis.Cmd, err error) {
	for _, r := range replies {
		if r.Err() == nil && r.Val() == nil {
			r.SetErr(err)
		}
	}
}

// read takes the verdict off a reply. A pipeline that breaks stamps its error on
// every command, also on those that were answered: a value is proof.
func read(r *redis.Cmd) result {
	if n, ok := r.Val().(int64); ok {
		return result{verdict: verdict(n)}
	}
	err := r.Err()
	if err == context.DeadlineExceeded || err == context.Canceled { //nolint:errorlint // as such it comes from the wait for a connection
		err = unsentError{err}
	}
	if err != nil {
		return result{err: scrub(err)}
	}
	return result{err: fmt.Errorf("%w: a script returned a %T", ErrIncompatible, r.Val())}
}
