package redistest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

// slots is how many hash slots a Redis cluster has.
const slots = 16384

// ClusterOptions says which cluster [RunCluster] makes. The zero value is one
// master without replicas.
type ClusterOptions struct {
	// Masters is the number of masters, which share the slots evenly. Zero: 1.
	// Without three of them nobody can agree that one has failed.
	Masters int

	// Replicas is the number of replicas in all, dealt out to the masters in
	// turn. Zero: none.
	Replicas int

	// FullCoverage makes all nodes refuse when one slot has no master
	// (cluster-require-full-coverage yes). False: the other slots still serve.
	FullCoverage bool

	// Proxied puts a [Proxy] in front of each node, and the nodes tell clients
	// (and their replicas) the proxies' ports in place of their own.
	Proxied bool

	// Node is how each node is to run. Its Dir, TLS and UnixSocket must be empty.
	Node Options
}

// Cluster is a Redis cluster on 127.0.0.1, which replaces a master that does not
// answer for a second if it has a replica. Its methods may be called from
// several goroutines.
type Cluster struct {
	masters int
	nodes   []*Server
	proxies []*Proxy // nil if the nodes have none
}

// RunCluster starts the nodes and makes them a cluster. It returns when each node
// says that the state is ok and knows all nodes, and each replica is in step. The
// cluster is closed when the test ends.
func RunCluster(tb testing.TB, opts ClusterOptions) *Cluster {
	tb.Helper()
	if err := opts.Node.checkShared(); err != nil {
		tb.Fatal(err)
	}
	c := &Cluster{masters: max(opts.Masters, 1)}
	each := make([]Options, c.masters+max(opts.Replicas, 0))
	for i := range each {
		each[i] = opts.Node
		each[i].Args = append(clusterArgs(opts), opts.Node.Args...)
	}
	var err error
	if c.nodes, err = startAll(each); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	if opts.Proxied {
		for _, n := range c.nodes {
			c.proxies = append(c.proxies, NewProxy(tb, n.Addr()))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), gatherWithin)
	defer cancel()
	if err := c.form(ctx); err != nil {
		tb.Fatal(err)
	}
	return c
}

func clusterArgs(opts ClusterOptions) []string {
	coverage := "no"
	if opts.FullCoverage {
		coverage = "yes"
	}
	return []string{
		"--cluster-enabled", "yes",
		"--cluster-announce-ip", "127.0.0.1", // a node that never met another would not know
		"--cluster-node-timeout", "1000",
		"--cluster-require-full-coverage", coverage,
		"--repl-diskless-sync-delay", "0",
		// CLUSTER SLOTS hides a replica until something has come from its master.
		"--repl-ping-replica-period", "1",
	}
}

// Addrs returns the addresses that a client is given: of the proxies if there
// are any, else of the nodes; masters first.
func (c *Cluster) Addrs() []string {
	list := make([]string, len(c.nodes))
	for i := range c.nodes {
		list[i] = c.announced(i)
	}
	return list
}

// Nodes returns the nodes, those that were masters at the start first. The caller
// owns the slice.
func (c *Cluster) Nodes() []*Server { return slices.Clone(c.nodes) }

// Proxies returns the proxies, each in front of the node with the same index;
// nil if there are none. The caller owns the slice.
func (c *Cluster) Proxies() []*Proxy { return slices.Clone(c.proxies) }

// MasterOf returns the master of the key's slot, as most of the nodes that answer
// see it now; nil if they know none.
func (c *Cluster) MasterOf(key string) *Server {
	ctx := context.Background()
	slot, err := c.slotOf(ctx, key)
	if err != nil {
		return nil
	}
	votes := map[string]int{}
	for _, n := range c.running() {
		view, err := ranges(ctx, n.Addr())
		if err != nil {
			continue
		}
		for _, r := range view {
			if r.from <= slot && slot <= r.to {
				votes[r.nodes[0]]++
			}
		}
	}
	var master *Server
	most := 0
	for i, n := range c.nodes {
		if v := votes[c.announced(i)]; v > most {
			master, most = n, v
		}
	}
	return master
}

// QueueOn returns the name of a queue whose keys, which contain {name}, were on
// master i at the start. It panics if there is no such master, and returns ""
// when no node answers.
func (c *Cluster) QueueOn(i int) string {
	if i < 0 || i >= c.masters {
		panic(fmt.Sprintf("redistest: QueueOn(%d) of %d masters", i, c.masters))
	}
	from, to := c.slotsOf(i)
	for n := 0; ; n++ {
		name := fmt.Sprint("q", n)
		slot, err := c.slotOf(context.Background(), "{"+name+"}")
		if err != nil {
			return ""
		}
		if from <= slot && slot <= to {
			return name
		}
	}
}

// Close ends all nodes. Closing again does nothing and returns nil.
func (c *Cluster) Close() error { return closeAll(c.nodes) }

// announced is where clients are told to find node i.
func (c *Cluster) announced(i int) string {
	if c.proxies != nil {
		return c.proxies[i].Addr()
	}
	return c.nodes[i].Addr()
}

func (c *Cluster) running() []*Server {
	return slices.DeleteFunc(c.Nodes(), func(n *Server) bool { return n.Pid() == 0 })
}

// slotsOf returns the first and last slot of master i.
func (c *Cluster) slotsOf(i int) (from, to int) {
	return i * slots / c.masters, (i+1)*slots/c.masters - 1
}

// slotOf asks the nodes one after another.
func (c *Cluster) slotOf(ctx context.Context, key string) (int, error) {
	errs := []error{ErrNotRunning}
	for _, n := range c.running() {
		slot, err := ask(ctx, n.Addr(), "CLUSTER", "KEYSLOT", key).Int()
		if err == nil {
			return slot, nil
		}
		errs = append(errs, err)
	}
	return 0, errors.Join(errs...)
}

// slotRange is one line of CLUSTER SLOTS; the first node is the master.
type slotRange struct {
	from, to int
	nodes    []string
}

// ranges returns the view that the node at addr has of the cluster.
func ranges(ctx context.Context, addr string) ([]slotRange, error) {
	cmd := ask(ctx, addr, "CLUSTER", "SLOTS")
	reply, err := cmd.Slice()
	if err != nil {
		return nil, err
	}
	list := make([]slotRange, len(reply))
	for i, it := range reply {
		line, ok := it.([]any)
		if !ok || len(line) < 3 {
			return nil, fmt.Errorf("redistest: CLUSTER SLOTS: %v", it)
		}
		list[i] = slotRange{from: number(line[0]), to: number(line[1])}
		for _, n := range line[2:] {
			if node, ok := n.([]any); ok && len(node) > 1 {
				list[i].nodes = append(list[i].nodes, loopback(number(node[1])))
			}
		}
	}
	return list, nil
}

func number(v any) int {
	n, _ := redis.NewCmdResult(v, nil).Int()
	return n
}
