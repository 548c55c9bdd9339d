package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// waits is how many things that do not answer doctor can wait for, one after another.
const waits = 4

// examineRedis makes the checks of Redis. What does not depend on each other is looked at
// at the same time.
func (d *diagnosis) examineRedis(ctx context.Context, opt asynq.RedisConnOpt, timeout time.Duration) error {
	r, err := newRoute(opt, timeout/waits)
	if err != nil {
		return err
	}
	var st *redisStatus
	var named finding
	var w way
	var all []facts
	together(
		func() { st, err = probe(ctx, opt) },
		func() { named = checkNames(ctx, r) },
		func() { w = r.explore(ctx); all = gatherAll(ctx, r, w) },
	)
	if err != nil {
		return err
	}
	d.Redis = st.Target
	var certs, rights, keys []finding
	together(
		func() { certs = checkCerts(ctx, r, w.addrs) },
		func() { rights = rightsOnAll(ctx, r, all) },
		func() { keys = examineAsynq(ctx, r, all) },
	)
	d.add("network", named)
	d.add("network", w.found...)
	d.add("network", certs...)
	d.add("server", judgeWrites(*st))
	d.add("server", checkServers(all)...)
	d.add("rights", rights...)
	d.add("clock", checkClocks(all)...)
	d.add("asynq", keys...)
	return nil
}

// answering returns the servers that answer, if only with errors.
func answering(all []facts) []facts {
	return slices.DeleteFunc(slices.Clone(all), func(f facts) bool { return f.err != nil && !isReply(f.err) })
}

// way is how the servers are found.
type way struct {
	masters []string
	addrs   []string // all that is dialled
	found   []finding
	err     error // why there is no master
}

// explore finds the masters.
func (r route) explore(ctx context.Context) way {
	switch {
	case r.master != "":
		all := askSentinels(ctx, r)
		w := way{found: judgeSentinels(r.master, all), addrs: r.seeds, err: errors.New("the sentinels name no master")}
		if m := masterOf(all); m != "" {
			w.masters, w.addrs = []string{m}, append(slices.Clone(r.seeds), m)
		}
		return w
	case r.slots:
		t := askCluster(ctx, r)
		w := way{found: judgeCluster(t), addrs: slices.Clone(r.seeds), masters: t.masters(), err: t.err}
		if w.err == nil {
			w.err = errors.New("no master with slots answers")
		}
		for _, n := range t.nodes {
			if !slices.Contains(w.addrs, n.addr) {
				w.addrs = append(w.addrs, n.addr)
			}
		}
		return w
	}
	return way{masters: r.seeds, addrs: r.seeds}
}

// gatherAll asks each master; without any there is one set of facts, that there is none.
func gatherAll(ctx context.Context, r route, w way) []facts {
	if len(w.masters) == 0 {
		return []facts{{err: w.err, configErr: w.err, skewErr: w.err}}
	}
	all := make([]facts, len(w.masters))
	eachOf(len(all), func(i int) { all[i] = gather(ctx, r, w.masters[i]) })
	return all
}

// judgeWrites is what the probe has shown.
func judgeWrites(st redisStatus) finding {
	if st.Writable {
		return passed("writes", fmt.Sprintf("%s takes writes (%.1f ms)", st.Target, st.LatencyMS))
	}
	return failed("writes", fmt.Sprintf("%s takes no writes: %s", st.Target, withoutLocalPort(st.Error)),
		"jobs go to the spools until it does; spool ping --wait tells when")
}

// rightsOnAll asks each master: of a Cluster each has users of its own.
func rightsOnAll(ctx context.Context, r route, servers []facts) []finding {
	all := answering(servers)
	if len(all) == 0 {
		return judgeRights("", rightsOf(r), nil, servers[0].err)
	}
	addrs, found := make([]string, len(all)), make([][]finding, len(all))
	eachOf(len(all), func(i int) { addrs[i], found[i] = all[i].addr, checkRights(ctx, r, all[i].addr) })
	var out []finding
	for i := range found[0] {
		of := make([]finding, len(found))
		for j := range found {
			of[j] = found[j][i]
		}
		out = append(out, merge(addrs, of))
	}
	return out
}

func examineAsynq(ctx context.Context, r route, servers []facts) []finding {
	all := answering(servers)
	if len(all) == 0 {
		return notMadeOf(servers[0].err, "queues", "paused", "leases")
	}
	masters := make([]*redis.Client, len(all))
	for i, f := range all {
		masters[i] = r.client(f.addr)
		defer masters[i].Close() //nolint:errcheck // nothing was written
	}
	if !r.slots {
		return checkAsynq(ctx, masters[0], masters, all[0].skew)
	}
	c := r.cluster()
	defer c.Close() //nolint:errcheck // nothing was written
	return checkAsynq(ctx, c, masters, all[0].skew)
}
