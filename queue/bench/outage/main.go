// Command outage makes a picture of one outage: plain asynq and a Producer offer the same
// jobs at the same time to one redis-server, which is frozen, then killed, and then started
// again. Each call of Enqueue is a point: when it began, and how long it took.
//
//	outage [-rate 200] [-o outage.svg]
//
// It prints what was offered and lost, too. A job is lost if Redis does not hold it at the end.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	rate := flag.Int("rate", 200, "`jobs` offered per second to each of the two")
	file := flag.String("o", "outage.svg", "the `file` to write")
	flag.Parse()
	redis.SetLogger(silent{}) // go-redis's own words about each failed dial
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	plan := plan{rate: *rate, healthy: 5 * time.Second, frozen: 12 * time.Second, killed: 8 * time.Second, after: 10 * time.Second}
	if err := run(ctx, plan, *file, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "outage:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan, file string, out io.Writer) error {
	runs, err := p.run(ctx)
	if err != nil {
		return err
	}
	for _, r := range runs {
		fmt.Fprintln(out, r.summary())
	}
	image, err := draw(p, runs)
	if err != nil {
		return err
	}
	return os.WriteFile(file, image, 0o644)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
