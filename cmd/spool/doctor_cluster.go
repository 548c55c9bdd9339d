package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

const allSlots = 16384

// clusterNode is a line of CLUSTER NODES.
type clusterNode struct {
	addr    string
	master  bool
	failing bool
	slots   int
	err     error // it does not answer
}

// topology is what a Cluster says of itself.
type topology struct {
	nodes   []clusterNode
	state   string   // cluster_state of the node that was asked
	dark    []string // seeds that did not answer
	seeds   int
	err     error // no seed answered
	stateOf string
}

// askCluster asks the seeds for their nodes until one answers, and then each node whether
// it is there.
func askCluster(ctx context.Context, r route) topology {
	views := make([]topology, len(r.seeds))
	eachOf(len(r.seeds), func(i int) { views[i] = viewOf(ctx, r, r.seeds[i]) })
	t := topology{}
	var errs []error
	var dark []string
	for _, v := range views {
		if v.err != nil {
			dark = append(dark, v.stateOf+": "+shown(v.err))
			errs = append(errs, v.err)
		} else if t.nodes == nil {
			t = v
		}
	}
	if t.nodes == nil {
		t.err = cmp.Or(errors.Join(errs[:min(len(errs), 1)]...), errors.New("no node is named"))
	}
	t.dark, t.seeds = dark, len(r.seeds)
	eachOf(len(t.nodes), func(i int) {
		t.nodes[i].err = r.ask(ctx, t.nodes[i].addr, func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() })
	})
	return t
}

func viewOf(ctx context.Context, r route, seed string) topology {
	v := topology{stateOf: seed}
	v.err = r.ask(ctx, seed, func(ctx context.Context, c *redis.Client) error {
		text, err := c.ClusterNodes(ctx).Result()
		if err != nil {
			return err
		}
		info, err := c.ClusterInfo(ctx).Result()
		v.state = readInfo(info)["cluster_state"]
		v.nodes = readNodes(text, seed, r.tls != nil)
		return err
	})
	return v
}

// readNodes reads the reply to CLUSTER NODES: id, ip:port@bus[,hostname], flags, master,
// ping, pong, epoch, link and slots. With byName hosts are preferred, which certificates
// tell of.
func readNodes(text, seed string, byName bool) []clusterNode {
	var nodes []clusterNode
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		flags := strings.Split(f[2], ",")
		if slices.Contains(flags, "noaddr") || slices.Contains(flags, "handshake") {
			continue
		}
		n := clusterNode{
			addr: nodeAddr(f[1], seed, byName), master: slices.Contains(flags, "master"),
			failing: slices.Contains(flags, "fail") || slices.Contains(flags, "fail?"),
		}
		for _, r := range f[8:] {
			n.slots += slotsIn(r)
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func nodeAddr(field, seed string, byName bool) string {
	addr, rest, _ := strings.Cut(field, "@")
	_, hostname, _ := strings.Cut(rest, ",")
	hostname, _, _ = strings.Cut(hostname, ",")
	i := strings.LastIndexByte(addr, ':') // an IPv6 address has no brackets here
	if i < 0 {
		return addr
	}
	host, port := addr[:i], addr[i+1:]
	if byName && hostname != "" {
		host = hostname
	}
	if host == "" { // a node that nobody has met
		host, _, _ = net.SplitHostPort(seed)
	}
	return net.JoinHostPort(host, port)
}

// slotsIn counts the slots of 0-5460 or 7; [7->-id] is one that is on its way.
func slotsIn(r string) int {
	if strings.HasPrefix(r, "[") {
		return 0
	}
	from, to, isRange := strings.Cut(r, "-")
	if !isRange {
		to = from
	}
	a, errA := strconv.Atoi(from)
	b, errB := strconv.Atoi(to)
	if errA != nil || errB != nil {
		return 0
	}
	return b - a + 1
}

// masters returns the addresses of the masters that have slots, as far as they answer.
func (t topology) masters() []string {
	var addrs []string
	for _, n := range t.nodes {
		if n.master && n.slots > 0 && n.err == nil {
			addrs = append(addrs, n.addr)
		}
	}
	return addrs
}

func judgeCluster(t topology) []finding {
	if t.err != nil {
		return []finding{
			failed("seeds", "none answers: "+someOf(t.dark, "; "), "start the nodes, and see to the network between"),
			notMade("nodes", t.err), notMade("slots", t.err), notMade("cluster_state", t.err),
		}
	}
	return []finding{judgeClusterSeeds(t), judgeNodes(t), judgeSlots(t), judgeState(t)}
}

func judgeClusterSeeds(t topology) finding {
	if len(t.dark) == 0 {
		return passed("seeds", fmt.Sprintf("all of %d answer", t.seeds))
	}
	return warned("seeds", fmt.Sprintf("%d of %d do not answer: %s", len(t.dark), t.seeds, someOf(t.dark, "; ")),
		"name nodes that there are in --redis and in the services")
}

func judgeNodes(t topology) finding {
	var masters, others []string
	for _, n := range t.nodes {
		why := "the others say that it fails"
		if n.err != nil {
			why = shown(n.err)
		}
		switch {
		case n.err == nil && !n.failing:
		case n.master && n.slots > 0:
			masters = append(masters, n.addr+": "+why)
		default:
			others = append(others, n.addr+": "+why)
		}
	}
	const todo = "start the node, or see to the network between; CLUSTER FORGET one that is gone for good"
	switch {
	case len(masters) > 0:
		return failed("nodes", "masters whose queues cannot be written: "+someOf(append(masters, others...), "; "), todo)
	case len(others) > 0:
		return warned("nodes", "not reached, without slots of their own: "+someOf(others, "; "), todo)
	}
	return passed("nodes", fmt.Sprintf("all of %d answer", len(t.nodes)))
}

func judgeSlots(t topology) finding {
	n := 0
	for _, node := range t.nodes {
		if !node.failing {
			n += node.slots
		}
	}
	if n < allSlots {
		return failed("slots", fmt.Sprintf("%d of %d have a master: queues in the others cannot be written", n, allSlots), "redis-cli --cluster fix")
	}
	return passed("slots", fmt.Sprintf("all of %d have a master", allSlots))
}

func judgeState(t topology) finding {
	if t.state == "ok" {
		return passed("cluster_state", t.state)
	}
	return failed("cluster_state", fmt.Sprintf("%s, says %s", cmp.Or(t.state, "unknown"), t.stateOf), "see CLUSTER INFO and the nodes' logs")
}
