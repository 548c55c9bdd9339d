package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/spf13/cobra"
)

const (
	// pingTimeout bounds a ping that does not wait.
	pingTimeout = probeTimeout

	// The pause after a try that failed: it doubles from the first to the most.
	firstPause = 100 * time.Millisecond
	mostPause  = 5 * time.Second
)

func newPingCommand() *cobra.Command {
	var flags common
	p := pinger{}
	cmd := &cobra.Command{
		Use:   "ping",
		Short: "Tell whether Redis can be reached and takes writes",
		Long: `ping proves that Redis takes writes: it connects and sets the key
asynq:{default}:spool:probe, which expires after a minute. Redis's own PING
proves nothing: a replica, a full server and one that cannot write to its disk
answer it, too. The latency shown is that of connecting and the write.

With --wait it tries again until that works, at first after 100 ms, then after
longer pauses up to 5 s, each with jitter. Meanwhile it says on stderr what
stands in the way, each new error once.

Exit codes: 0 Redis takes writes, 1 it does not, 2 called wrongly.`,
		Example: `  spool ping --redis redis://localhost:6379
  spool ping --redis redis://localhost:6379 --wait --timeout 2m && ./worker`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p.out, p.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return p.run(cmd.Context(), flags, cmd.Flags().Changed("timeout"))
		},
	}
	flags.addRedisFlags(cmd)
	cmd.Flags().BoolVar(&p.wait, "wait", false, "try again until Redis takes writes")
	cmd.Flags().DurationVar(&p.timeout, "timeout", pingTimeout,
		"give up after this `duration`; with --wait the default is 0: never")
	return cmd
}

// addRedisFlags adds the flags of a command that looks at Redis and needs no spool.
func (c *common) addRedisFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.redis, "redis", "", "the `URI` of Redis (REDIS_URL)")
	cmd.Flags().BoolVar(&c.json, "json", false, "print one JSON document")
}

// pinger is one run of spool ping.
type pinger struct {
	wait     bool
	timeout  time.Duration // of the whole; 0: none
	out, err io.Writer
}

// pinged is what the command prints.
type pinged struct {
	Target    string  `json:"target"`
	Writable  bool    `json:"writable"`
	Error     string  `json:"error,omitempty"`
	LatencyMS float64 `json:"latency_ms"` // of the last try
	Tries     int     `json:"tries"`
}

func (p pinger) run(ctx context.Context, flags common, bounded bool) error {
	p.timeout = timeoutOf(p.timeout, p.wait, bounded)
	opt, err := p.check(flags)
	if err != nil {
		return err
	}
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
	}
	result, err := p.ping(ctx, opt)
	if err != nil {
		return err
	}
	return p.tell(ctx, result, flags.json)
}

// timeoutOf returns the bound of the whole, 0 for none: what was given, or else what is
// usual with or without --wait.
func timeoutOf(flag time.Duration, wait, given bool) time.Duration {
	if wait && !given {
		return 0
	}
	return flag
}

// check returns what is said of Redis, or how the command was called wrongly.
func (p pinger) check(flags common) (asynq.RedisConnOpt, error) {
	if p.timeout < 0 || p.timeout == 0 && !p.wait {
		return nil, usageError{"--timeout must be positive; with --wait 0 means never to give up"}
	}
	opt, err := flags.redisOpt()
	if err == nil && opt == nil {
		return nil, usageError{"no Redis named: give --redis or set REDIS_URL"}
	}
	return opt, err
}

// ping tries until Redis takes a write. If it is not to wait it tries again only where no
// answer came: a try ends after probeTimeout, and --timeout may be longer.
func (p pinger) ping(ctx context.Context, opt asynq.RedisConnOpt) (pinged, error) {
	told := map[string]bool{}
	result := pinged{}
	for {
		st, err := probe(ctx, opt)
		if err != nil {
			return result, err
		}
		result.saw(st, ctx.Err() != nil)
		if st.Writable || !p.wait && !st.silent || ctx.Err() != nil {
			return result, nil //nolint:nilerr // that it is over is in the result
		}
		if !p.wait {
			sleepFor(ctx, firstPause)
			continue
		}
		if text := withoutLocalPort(st.Error); !told[text] {
			told[text] = true
			fmt.Fprintf(p.err, "waiting for %s: %s\n", st.Target, text)
		}
		if !sleepFor(ctx, pauseAfter(result.Tries, rand.Float64())) { //nolint:gosec // jitter is no secret
			return result, nil
		}
	}
}

// saw counts a try. The error of one that was cut short says less than the one before.
func (r *pinged) saw(st *redisStatus, cut bool) {
	if !cut || r.Tries == 0 {
		r.Error = st.Error
	}
	r.Target, r.Writable, r.LatencyMS = st.Target, st.Writable, st.LatencyMS
	r.Tries++
	if r.Writable {
		r.Error = ""
	}
}

// pauseAfter returns how long to wait after a try that failed, the first being 1: between half
// and all of a time that doubles. Jitter from 0 to 1 keeps many that wait apart.
func pauseAfter(try int, jitter float64) time.Duration {
	most := mostPause
	if shift := try - 1; shift < 6 { // 2^6 times the first is more than the most
		most = min(firstPause<<shift, mostPause)
	}
	return most/2 + time.Duration(jitter*float64(most/2))
}

// sleepFor waits, and reports whether ctx has not ended.
func sleepFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// withoutLocalPort takes out of an error of package net this side's address, whose port
// is another one each time.
func withoutLocalPort(text string) string {
	words := strings.Split(text, " ")
	for i, word := range words {
		if _, remote, ok := strings.Cut(word, "->"); ok {
			words[i] = remote
		}
	}
	return strings.Join(words, " ")
}

func (p pinger) tell(ctx context.Context, r pinged, asJSON bool) error {
	if asJSON {
		if err := printJSON(p.out, r); err != nil {
			return err
		}
	} else if r.Writable {
		fmt.Fprintf(p.out, "Redis %s takes writes (%.1f ms)\n", r.Target, r.LatencyMS)
	}
	if r.Writable {
		return nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("interrupted; Redis %s took no writes: %s", r.Target, r.Error)
	}
	return fmt.Errorf("Redis %s takes no writes: %s; see what spool doctor says", r.Target, r.Error) //nolint:staticcheck // a name
}
