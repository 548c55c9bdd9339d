package main

import (
	"fmt"
	"time"
)

const (
	muchSkew    = time.Second      // warn
	tooMuchSkew = 30 * time.Second // fail: a lease of asynq's lasts as long
)

// judgeClock compares a server's clock with ours, less what the network may have done.
func judgeClock(f facts) finding {
	if f.skewErr != nil {
		return notMade("skew", f.skewErr)
	}
	skew, word := f.skew, "ahead of"
	if skew < 0 {
		skew, word = -skew, "behind"
	}
	seen := fmt.Sprintf("Redis is %s %s this machine, give or take %s", shortTime(skew), word, shortTime(f.off))
	const todo = "see to NTP (chrony, timesyncd) on both machines"
	switch sure := skew - f.off; {
	case sure > tooMuchSkew:
		return failed("skew", seen+": jobs for later, deadlines and unique locks are off by as much", todo)
	case sure > muchSkew:
		return warned("skew", seen, todo)
	}
	return passed("skew", seen)
}

// shortTime is a duration in three digits or so.
func shortTime(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

func checkClocks(all []facts) []finding {
	addrs, found := make([]string, len(all)), make([]finding, len(all))
	for i, f := range all {
		addrs[i], found[i] = f.addr, judgeClock(f)
	}
	return []finding{merge(addrs, found)}
}
