package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// facts are what one server says of itself.
type facts struct {
	addr    string
	cluster bool // it is one of several masters
	watched bool // sentinels watch it

	info map[string]string // the reply to INFO
	err  error             // why there is none

	config    map[string]string // what CONFIG GET tells of those parameters that INFO does not
	configErr error

	skew    time.Duration // its clock ahead of ours
	off     time.Duration // by how much skew may be wrong
	skewErr error
	now     time.Time // by our clock
}

// gather asks a server. One that does not answer is asked once.
func gather(ctx context.Context, r route, addr string) facts {
	f := facts{addr: addr, cluster: r.slots, watched: r.master != "", now: time.Now()}
	err := r.ask(ctx, addr, func(ctx context.Context, c *redis.Client) error {
		text, err := c.Info(ctx).Result()
		f.info, f.err = readInfo(text), err
		if err != nil && !isReply(err) {
			f.configErr, f.skewErr = err, err
			return nil
		}
		f.config, f.configErr = readConfig(ctx, c)
		f.skew, f.off, f.skewErr = readClock(ctx, c)
		return nil
	})
	if f.err == nil {
		f.err = err
	}
	return f
}

// isReply reports whether Redis answered, if only with an error.
func isReply(err error) bool {
	reply := redis.Error(nil)
	return errors.As(err, &reply)
}

// readInfo reads lines of name:value.
func readInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

func readConfig(ctx context.Context, c *redis.Client) (map[string]string, error) {
	config := map[string]string{}
	for _, name := range []string{"appendfsync", "save", "min-replicas-to-write"} { // several at a time: from Redis 7.0 on
		got, err := c.ConfigGet(ctx, name).Result()
		if err != nil {
			return nil, err
		}
		for k, v := range got {
			config[k] = v
		}
	}
	return config, nil
}

// readClock compares the clocks. Of some tries it takes the one with the quickest reply:
// the skew is known to half a round trip.
func readClock(ctx context.Context, c *redis.Client) (skew, off time.Duration, err error) {
	const tries = 3
	for i := range tries {
		sent := time.Now()
		there, err := c.Time(ctx).Result()
		if err != nil {
			return 0, 0, err
		}
		half := time.Since(sent) / 2
		if i == 0 || half < off {
			skew, off = there.Sub(sent.Add(half)), half
		}
	}
	return skew, off, nil
}

// number returns a number of INFO's; 0 if there is none of that name.
func (f facts) number(name string) int64 {
	n, _ := strconv.ParseInt(f.info[name], 10, 64)
	return n
}
