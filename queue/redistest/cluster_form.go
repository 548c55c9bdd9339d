package redistest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// form makes a cluster of the nodes.
func (c *Cluster) form(ctx context.Context) error {
	for _, step := range []func(context.Context, int) error{c.prepare, c.meet} {
		for i := range c.nodes {
			if err := step(ctx, i); err != nil {
				return err
			}
		}
	}
	if err := poll(ctx, "all nodes know all", c.allMet); err != nil {
		return err
	}
	for i := range c.nodes[c.masters:] {
		id, err := c.do(ctx, i%c.masters, "CLUSTER", "MYID").Text()
		if err == nil {
			err = c.do(ctx, c.masters+i, "CLUSTER", "REPLICATE", id).Err()
		}
		if err != nil {
			return fmt.Errorf("redistest: CLUSTER REPLICATE: %w", err)
		}
	}
	return poll(ctx, "all nodes are ready", c.allReady)
}

// prepare gives node i its slots and, if it is not to tell its own, its port.
func (c *Cluster) prepare(ctx context.Context, i int) error {
	if i < c.masters {
		from, to := c.slotsOf(i)
		// Each master needs an epoch of its own, as long as it knows no other node.
		if err := errors.Join(
			c.do(ctx, i, "CLUSTER", "ADDSLOTSRANGE", from, to).Err(),
			c.do(ctx, i, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(),
		); err != nil {
			return fmt.Errorf("redistest: slots of node %d: %w", i, err)
		}
	}
	if c.proxies == nil {
		return nil
	}
	_, port, _ := strings.Cut(c.proxies[i].Addr(), ":")
	if err := c.do(ctx, i, "CONFIG", "SET", "cluster-announce-port", port,
		"cluster-announce-bus-port", c.nodes[i].port+busOffset).Err(); err != nil {
		return fmt.Errorf("redistest: announced port of node %d: %w", i, err)
	}
	return nil
}

// meet introduces node i to those after it.
func (c *Cluster) meet(ctx context.Context, i int) error {
	for _, n := range c.nodes[i+1:] {
		if err := c.do(ctx, i, "CLUSTER", "MEET", "127.0.0.1", n.port, n.port+busOffset).Err(); err != nil {
			return fmt.Errorf("redistest: CLUSTER MEET: %w", err)
		}
	}
	return nil
}

// do asks node i.
func (c *Cluster) do(ctx context.Context, i int, args ...any) *redis.Cmd {
	return ask(ctx, c.nodes[i].Addr(), args...)
}

// allMet returns nil if each node has shaken hands with all others.
func (c *Cluster) allMet(ctx context.Context) error {
	for _, n := range c.nodes {
		list, err := ask(ctx, n.Addr(), "CLUSTER", "NODES").Text()
		if err != nil {
			return err
		}
		met := 0
		for line := range strings.Lines(list) {
			f := strings.Fields(line) // id, address, flags, master, ping, pong, epoch, link, slots
			if len(f) >= 8 && f[7] == "connected" && !strings.Contains(f[2], "handshake") {
				met++
			}
		}
		if met < len(c.nodes) {
			return fmt.Errorf("node %s knows\n%s", n.Addr(), list)
		}
	}
	return nil
}

// allReady returns nil if each node serves, knows where all slots and replicas
// are, and each replica is in step.
func (c *Cluster) allReady(ctx context.Context) error {
	for i, n := range c.nodes {
		state, err := ask(ctx, n.Addr(), "CLUSTER", "INFO").Text()
		if err != nil {
			return err
		}
		if !strings.Contains(state, "cluster_state:ok") {
			return fmt.Errorf("node %s says\n%s", n.Addr(), state)
		}
		view, err := ranges(ctx, n.Addr())
		if err != nil {
			return err
		}
		known := 0
		for _, r := range view {
			known += len(r.nodes)
		}
		if len(view) != c.masters || known != len(c.nodes) {
			return fmt.Errorf("node %s knows %v", n.Addr(), view)
		}
		if i < c.masters {
			continue
		}
		if err := isReplicating(ctx, n.Addr()); err != nil {
			return err
		}
	}
	return nil
}
