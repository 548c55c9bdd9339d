package chaos_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
)

// roleEnv makes the test binary a child, in the role that it names.
const roleEnv = "CHAOS_ROLE"

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	switch os.Getenv(roleEnv) {
	case roleProducer:
		exit(produce())
	case roleWorker:
		exit(work())
	}
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics have a logger of their own
	flag.Parse()
	fmt.Printf("seed %d\n", seed())
	os.Exit(m.Run())
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
