package queue

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// queuesKey is the set in which asynq keeps the names of all queues.
	queuesKey = "asynq:queues"

	// registerTimeout bounds the registration of a queue. On Cluster the set of queues
	// lies on another server than most of them, which may be down.
	registerTimeout = 100 * time.Millisecond

	// registerEvery is how long after a registration the next command of the queue
	// brings another: Redis may be emptied without a word.
	registerEvery = 30 * time.Second

	// registerAgain is the time from one failed registration to the next try.
	registerAgain = 5 * time.Second
)

// forget makes the next command of each queue register it again. It is called on
// every new connection, and at the end of each outage: Redis may have come back without
// its data.
func (s *sender) forget() { s.known.Clear() }

// server returns the client of the server that holds a queue. Going to it directly
// keeps a Cluster client from sending a command again whose reply was lost, which no
// option of its turns off.
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

// renew has the commands of now on go over new connections to a queue's server. Those that
// there are may lead nowhere without anybody knowing, and it takes long to find out of each.
func (s *sender) renew(ctx context.Context, queue string) {
	server, err := s.server(ctx, queue)
	if err != nil {
		return
	}
	if epoch, ok := s.epochs.Load(server); ok {
		epoch.(*atomic.Int64).Add(1)
	}
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
// itself it does only once a minute when a server refuses connections.
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
	unknown := slices.DeleteFunc(slices.Clone(queues), func(q string) bool { return !s.claim(q, now) })
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
		until = now.Add(s.knownFor)
	}
	for _, q := range unknown {
		s.known.Store(q, until)
	}
}

func (s *sender) knows(queue string, now time.Time) bool {
	until, ok := s.known.Load(queue)
	return ok && now.Before(until.(time.Time))
}

// claim reports whether the caller is to register a queue. Of many that find one due
// again only the first is, and for the others it is known meanwhile.
func (s *sender) claim(queue string, now time.Time) bool {
	until, ok := s.known.Load(queue)
	switch {
	case !ok:
		return true
	case now.Before(until.(time.Time)):
		return false
	}
	return s.known.CompareAndSwap(queue, until, now.Add(registerAgain))
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
		for i, r := range s.pipelines(ctx, pick(cmds, which), s.confirm) {
			results[which[i]] = r
		}
	}
}
