package queue_test

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/jobspool/jobspool/queue/redistest"
)

// drainChildren are what a child can do instead of enqueueing.
var drainChildren = map[string]func(){}

// childDoes adds to drainChildren, for a package variable.
func childDoes(name string, what func()) bool {
	drainChildren[name] = what
	return true
}

// scriptRuns returns how many enqueue scripts Redis has run, whatever they answered.
func scriptRuns(tb testing.TB, r *redistest.Server) (runs int) {
	tb.Helper()
	info, err := client(tb, r.Addr()).InfoMap(context.Background(), "commandstats").Result()
	must(tb, err)
	for _, name := range []string{"cmdstat_evalsha", "cmdstat_eval"} {
		for _, field := range strings.Split(info["Commandstats"][name], ",") {
			key, value, _ := strings.Cut(field, "=")
			n, _ := strconv.Atoi(value)
			switch key {
			case "calls":
				runs += n
			case "failed_calls": // a script that was not known
				runs -= n
			}
		}
	}
	return runs
}
