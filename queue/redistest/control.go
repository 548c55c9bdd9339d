package redistest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// gatherWithin bounds the forming of a cluster or a set of sentinels.
const gatherWithin = 30 * time.Second

// ask sends one command over a connection of its own. A server that is frozen
// or dead costs answerWithin.
func ask(ctx context.Context, addr string, args ...any) *redis.Cmd {
	c := redis.NewClient(&redis.Options{
		Addr: addr, Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1,
		DialTimeout: answerWithin, ReadTimeout: answerWithin, WriteTimeout: answerWithin,
	})
	defer func() { _ = c.Close() }()
	return c.Do(ctx, args...)
}

// poll calls cond until it returns nil. When ctx ends before, poll returns cond's
// last error from before that, and what was waited for.
func poll(ctx context.Context, what string, cond func(context.Context) error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		err := cond(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redistest: waited until %s: %w", what, last)
		case <-tick.C:
		}
	}
}

// checkShared refuses what several servers cannot have in common, and TLS, which
// ask does not speak.
func (o Options) checkShared() error {
	if o.Dir != "" || o.UnixSocket != "" || o.TLS != nil {
		return errors.New("redistest: several servers cannot share Dir or UnixSocket, and have no TLS")
	}
	return nil
}

// startAll starts a server for each of opts, all at once; if one fails, none is left.
func startAll(opts []Options) ([]*Server, error) {
	servers, errs := make([]*Server, len(opts)), make([]error, len(opts))
	var wg sync.WaitGroup
	for i := range opts {
		wg.Go(func() { servers[i], errs[i] = Start(opts[i]) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, closeAll(servers))
	}
	return servers, nil
}

// closeAll closes the servers that are there.
func closeAll(servers []*Server) error {
	errs := make([]error, len(servers))
	for i, s := range servers {
		if s != nil {
			errs[i] = s.Close()
		}
	}
	return errors.Join(errs...)
}

// isReplicating returns nil if the server at addr is a replica whose link to its
// master is up.
func isReplicating(ctx context.Context, addr string) error {
	role, err := ask(ctx, addr, "ROLE").Slice()
	if err != nil {
		return err
	}
	if len(role) < 4 || role[0] != "slave" || role[3] != "connected" {
		return fmt.Errorf("role of %s is %v", addr, role)
	}
	return nil
}
