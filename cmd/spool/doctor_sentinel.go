package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// opinion is what one sentinel says.
type opinion struct {
	addr   string
	master string // empty: it does not know the name
	quorum error  // why it could not have the master replaced
	err    error  // it did not answer
}

// askSentinels asks all that the URI names, at the same time.
func askSentinels(ctx context.Context, r route) []opinion {
	all := make([]opinion, len(r.seeds))
	eachOf(len(all), func(i int) { all[i] = askSentinel(ctx, r, r.seeds[i]) })
	return all
}

func askSentinel(ctx context.Context, r route, addr string) opinion {
	c := r.sentinel(addr)
	o := opinion{addr: addr}
	master, err := c.GetMasterAddrByName(ctx, r.master).Result()
	switch {
	case errors.Is(err, redis.Nil):
	case err != nil:
		o.err = err
	case len(master) == 2:
		o.master = net.JoinHostPort(master[0], master[1])
		o.quorum = c.CkQuorum(ctx, r.master).Err()
	}
	o.err = errors.Join(o.err, c.Close())
	return o
}

// masterOf returns the master that most sentinels name.
func masterOf(all []opinion) string {
	votes, most := map[string]int{}, ""
	for _, o := range all {
		if o.master == "" {
			continue
		}
		if votes[o.master]++; votes[o.master] > votes[most] {
			most = o.master
		}
	}
	return most
}

func judgeSentinels(name string, all []opinion) []finding {
	return []finding{judgeSeeds(all), judgeMaster(name, all), judgeQuorum(all)}
}

func judgeSeeds(all []opinion) finding {
	const check, todo = "sentinels", "start them, and name those that there are in --redis and in the services"
	var addrs, dark []string
	for _, o := range all {
		addrs = append(addrs, o.addr)
		if o.err != nil {
			dark = append(dark, o.addr+": "+shown(o.err))
		}
	}
	switch {
	case len(dark) == len(all):
		return failed(check, "none answers: "+someOf(dark, "; "), todo)
	case len(dark) > 0:
		return warned(check, fmt.Sprintf("%d of %d do not answer: %s", len(dark), len(all), someOf(dark, "; ")), todo)
	case len(all) == 1:
		return warned(check, all[0].addr+" answers, and is the only one named: a new process needs it", "name all sentinels in --redis and in the services")
	}
	return passed(check, "all answer: "+someOf(addrs, ", "))
}

func judgeMaster(name string, all []opinion) finding {
	const check = "master"
	var masters, ignorant []string
	var err error
	for _, o := range all {
		switch {
		case o.err != nil:
			err = o.err
		case o.master == "":
			ignorant = append(ignorant, o.addr)
		case !slices.Contains(masters, o.master):
			masters = append(masters, o.master)
		}
	}
	switch {
	case len(masters) == 0 && len(ignorant) > 0:
		return failed(check, "no sentinel knows "+name, "see SENTINEL MASTERS for the name, and master= in --redis")
	case len(masters) == 0:
		return notMade(check, err)
	case len(masters) > 1:
		return warned(check, "the sentinels name several: "+strings.Join(masters, ", "), "run doctor again: a failover may be under way; else see the sentinels' log")
	case len(ignorant) > 0:
		return warned(check, name+" is not known by "+someOf(ignorant, ", "), "SENTINEL MONITOR there")
	}
	return passed(check, name+" is "+masters[0])
}

// judgeQuorum is about whether a master that dies is replaced.
func judgeQuorum(all []opinion) finding {
	const check = "quorum"
	var lacking []string
	asked := 0
	var err error
	for _, o := range all {
		switch {
		case o.err != nil:
			err = o.err
		case o.master != "":
			asked++
			if o.quorum != nil {
				lacking = append(lacking, o.addr+": "+shown(o.quorum))
			}
		}
	}
	switch {
	case asked == 0 && err != nil:
		return notMade(check, err)
	case asked == 0:
		return notMade(check, errors.New("no sentinel knows the master"))
	case len(lacking) == asked:
		return failed(check, "a master that dies is not replaced: "+someOf(lacking, "; "), "start sentinels: most of all that there are must be up")
	case len(lacking) > 0:
		return warned(check, someOf(lacking, "; "), "see whether the sentinels reach one another")
	}
	return passed(check, "enough sentinels can agree")
}
