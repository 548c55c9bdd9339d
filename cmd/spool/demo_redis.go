package main

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/alicebob/miniredis/v2"

	"github.com/jobspool/jobspool/queue/redistest"
)

// demoRedis is a Redis that can be taken away, and comes back at the same address
// with its data. A *redistest.Server is one.
type demoRedis interface {
	Addr() string
	Kill() error
	Restart() error
	Close() error
}

// startDemoRedis starts a Redis, a real one with its data in dir if asked for.
func startDemoRedis(dir string, realRedis bool) (demoRedis, error) {
	if !realRedis {
		return startEmbeddedRedis()
	}
	s, err := redistest.Start(redistest.Options{Dir: dir, AppendOnly: true})
	if err != nil {
		return nil, fmt.Errorf("--redis-server: %w", err)
	}
	return s, nil
}

// embeddedRedis is a miniredis. It keeps its data while it is closed.
type embeddedRedis struct{ server *miniredis.Miniredis }

// startEmbeddedRedis takes its port from below those of outgoing connections, as
// redistest does: such a one could take the port during the outage.
func startEmbeddedRedis() (demoRedis, error) {
	var errs []error
	for range 50 {
		m := miniredis.NewMiniRedis()
		err := m.StartAddr(fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
		if err == nil {
			return embeddedRedis{m}, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("the embedded Redis does not start: %w", errors.Join(errs...))
}

func (r embeddedRedis) Addr() string { return r.server.Addr() }

// Kill closes the port and all connections.
func (r embeddedRedis) Kill() error {
	r.server.Close()
	return nil
}

func (r embeddedRedis) Restart() error {
	if err := r.server.Restart(); err != nil {
		return fmt.Errorf("the embedded Redis does not come back: %w", err)
	}
	return nil
}

func (r embeddedRedis) Close() error { return r.Kill() }
