package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/internal/compose"
)

const (
	// queuesKey is the set in which asynq keeps the names of all queues.
	queuesKey = "asynq:queues"

	// registerTimeout bounds the registration of a queue. On Cluster the set of queues
	// lies on another server than most of them, which may be down (H67).
	registerTimeout = 100 * time.Millisecond

	// registerAgain is the time from one failed registration to the next try.
	registerAgain = 5 * time.Second
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
}

// sender sends composed commands, each once: what got no reply is the caller's
// concern. It registers queues as asynq would. Safe for concurrent use.
type sender struct {
	client  redis.UniversalClient
	cluster *redis.ClusterClient // client, if it is one
	closing context.Context      //nolint:containedctx // of the client
	stop    context.CancelFunc   // ends closing
	release *redis.Script

	known sync.Map // queue -> time before which it needs no registration

	shared *coalescer // of the one server there is
	queues sync.Map   // Cluster: queue -> *coalescer, so that a dead server holds up its own queues only
}

func newSender() *sender {
	s := &sender{release: redis.NewScript(releaseLock)}
	s.closing, s.stop = context.WithCancel(context.Background())
	s.shared = newCoalescer(s.inline, s.batch)
	return s
}

// use gives the sender its client, before the first command.
func (s *sender) use(client redis.UniversalClient) {
	s.client = client
	s.cluster, _ = client.(*redis.ClusterClient)
}

// forget makes the next command of each queue register it again. It is called on
// every new connection: Redis may have come back without its data (H15).
func (s *sender) forget() { s.known.Clear() }

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
func (s *sender) lifetime() lifetime { return lifetime{connected: s.forget, closing: s.closing} }

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

// server returns the client of the server that holds a queue. Going to it directly
// keeps a Cluster client from sending a command again whose reply was lost, which no
// option of its turns off (H65).
func (s *sender) server(ctx context.Context, queue string) (redis.UniversalClient, error) {
	return s.serverOf(ctx, "{"+queue+"}")
}

// serverOf returns the client of the server that holds a key. A Cluster client's own
// commands first ask any node for a list of commands, 5 s long whatever ctx says.
func (s *sender) serverOf(ctx context.Context, key string) (redis.UniversalClient, error) {
	if s.cluster == nil {
		return s.client, nil
	}
	node, err := s.cluster.MasterForKey(ctx, key)
	if err != nil {
		return nil, unsentError{err}
	}
	return node, nil
}

// inline sends one command in the caller's goroutine.
func (s *sender) inline(ctx context.Context, cmd command) result {
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
	r := server.EvalSha(ctx, cmd.Script.SHA, cmd.Keys, cmd.Args...)
	if redis.HasErrorPrefix(r.Err(), "NOSCRIPT") {
		r = server.Eval(ctx, cmd.Script.Source, cmd.Keys, cmd.Args...)
	}
	return read(r)
}

// moved reports whether the error says that the slot has gone to another server, which
// surely took nothing, and if so looks where the slots are now.
func (s *sender) moved(ctx context.Context, err error) bool {
	if s.cluster == nil || !redis.HasErrorPrefix(err, "MOVED") {
		return false
	}
	return s.cluster.ForEachMaster(ctx, func(context.Context, *redis.Client) error { return nil }) == nil
}

// refresh has a Cluster client look in the background where the slots are, which by
// itself it does only once a minute when a server refuses connections (H66).
func (s *sender) refresh(ctx context.Context) {
	if s.cluster != nil {
		s.cluster.ReloadState(ctx)
	}
}

// register enters queues in asynq's set of queues that are not known to be there. The
// set serves asynq's tools only, so a failure is no failure of a job.
func (s *sender) register(ctx context.Context, queues ...string) {
	now := time.Now()
	if len(queues) == 1 && s.knows(queues[0], now) {
		return
	}
	unknown := slices.DeleteFunc(slices.Clone(queues), func(q string) bool { return s.knows(q, now) })
	if len(unknown) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	members := make([]any, len(unknown))
	for i, q := range unknown {
		members[i] = q
	}
	until := now.Add(registerAgain)
	if server, err := s.serverOf(ctx, queuesKey); err == nil && server.SAdd(ctx, queuesKey, members...).Err() == nil {
		until = now.AddDate(100, 0, 0)
	}
	for _, q := range unknown {
		s.known.Store(q, until)
	}
}

func (s *sender) knows(queue string, now time.Time) bool {
	until, ok := s.known.Load(queue)
	return ok && now.Before(until.(time.Time))
}

// batch sends commands in one pipeline per server. The results are in the order of the
// commands.
func (s *sender) batch(ctx context.Context, cmds []command) []result {
	results := s.pipelines(ctx, cmds)
	s.followMoved(ctx, cmds, results)
	var queues []string
	for i := range results {
		results[i] = s.settleLock(ctx, cmds[i], results[i])
		if results[i].err == nil && !slices.Contains(queues, cmds[i].Queue) {
			queues = append(queues, cmds[i].Queue)
		}
	}
	s.register(ctx, queues...)
	return results
}

// followMoved sends those commands again whose slot has gone to another server.
func (s *sender) followMoved(ctx context.Context, cmds []command, results []result) {
	if s.cluster == nil {
		return
	}
	var which []int
	for i, r := range results {
		if redis.HasErrorPrefix(r.err, "MOVED") {
			which = append(which, i)
		}
	}
	if len(which) > 0 && s.moved(ctx, results[which[0]].err) {
		for i, r := range s.pipelines(ctx, pick(cmds, which)) {
			results[which[i]] = r
		}
	}
}

func pick(cmds []command, which []int) []command {
	picked := make([]command, len(which))
	for i, k := range which {
		picked[i] = cmds[k]
	}
	return picked
}

// pipelines sends each server its commands, to all servers at once.
func (s *sender) pipelines(ctx context.Context, cmds []command) []result {
	if s.cluster == nil {
		return pipeline(ctx, s.client, cmds)
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
			for i, r := range pipeline(ctx, server, pick(cmds, which)) {
				results[which[i]] = r
			}
		})
	}
	wg.Wait()
	return results
}

// pipeline sends commands to one server, and in a second pipeline those whose script it
// did not know.
func pipeline(ctx context.Context, server redis.UniversalClient, cmds []command) []result {
	replies := make([]*redis.Cmd, len(cmds))
	_, err := server.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, c := range cmds {
			replies[i] = p.EvalSha(ctx, c.Script.SHA, c.Keys, c.Args...)
		}
		return nil
	})
	blame(replies, err)
	var again []int
	for i, r := range replies {
		if redis.HasErrorPrefix(r.Err(), "NOSCRIPT") {
			again = append(again, i)
		}
	}
	if len(again) > 0 {
		_, err := server.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, i := range again {
				replies[i] = p.Eval(ctx, cmds[i].Script.Source, cmds[i].Keys, cmds[i].Args...)
			}
			return nil
		})
		blame(replies, err)
	}
	results := make([]result, len(cmds))
	for i, r := range replies {
		results[i] = read(r)
		if words := lastWordsError(""); len(cmds) > 1 && errors.As(results[i].err, &words) {
			results[i].err = fmt.Errorf("the connection was closed upon one of %d commands: %v", len(cmds), words) //nolint:errorlint // no answer to this one
		}
	}
	return results
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
// every command, also on those that were answered: a value is proof (H70).
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

// releaseLock deletes a unique lock if it is held by the id.
const releaseLock = `if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end return 0`

// settleLock gives back the unique lock that asynq's script has taken before it found
// that the id exists: nothing else would, until it expires (H8). It returns r.
func (s *sender) settleLock(ctx context.Context, cmd command, r result) result {
	if lock := cmd.Lock(); r.err == nil && r.verdict == conflict && lock != "" {
		if server, err := s.server(ctx, cmd.Queue); err == nil {
			// If this fails the lock stays until it expires, as with asynq.
			_ = s.release.Run(ctx, server, []string{lock}, cmd.ID).Err()
		}
	}
	return r
}

// lockHolder returns the id of the task that holds a unique lock, empty for none.
func (s *sender) lockHolder(ctx context.Context, lock string) (string, error) {
	server, err := s.serverOf(ctx, lock)
	if err != nil {
		return "", scrub(err)
	}
	id, err := server.Get(ctx, lock).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return id, scrub(err)
}

// message returns asynq's message of a task: redis.Nil if there is no such task, and no
// bytes if something else has its name.
func (s *sender) message(ctx context.Context, queue, id string) ([]byte, error) {
	server, err := s.server(ctx, queue)
	if err != nil {
		return nil, scrub(err)
	}
	key := compose.TaskKey(queue, id)
	b, err := server.HGet(ctx, key, "msg").Bytes()
	if !errors.Is(err, redis.Nil) {
		return b, scrub(err)
	}
	if n, err := server.Exists(ctx, key).Result(); n > 0 || err != nil {
		return nil, scrub(err)
	}
	return nil, redis.Nil
}

// Probe proves that Redis takes writes, as [Producer.Ping] does, without a
// Producer. It returns the name of the target, also with an error of Redis's.
func Probe(ctx context.Context, opt asynq.RedisConnOpt) (target string, err error) {
	s := newSender()
	client, target, err := connect(opt, s.lifetime())
	if err != nil {
		s.stop()
		return "", redisError(err)
	}
	s.use(client)
	err = s.probe(ctx, probeQueue)
	if err != nil {
		err = fmt.Errorf("queue: probe: %w", err)
	}
	return target, errors.Join(err, s.close())
}

// probeQueue is the queue in whose slot a probe writes that is meant for none.
const probeQueue = "default"

// probeTTL is how long the key of a probe stays in Redis.
const probeTTL = time.Minute

// probe proves that Redis takes writes, by a key in the slot of the queue. PING
// proves nothing: a read-only or full Redis answers it (H46).
func (s *sender) probe(ctx context.Context, queue string) error {
	server, err := s.server(ctx, queue)
	if err != nil {
		return scrub(err)
	}
	return scrub(server.Set(ctx, "asynq:{"+queue+"}:spool:probe", 1, probeTTL).Err())
}
