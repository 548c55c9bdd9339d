package queue_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
)

func TestParseURI(t *testing.T) {
	for uri, want := range map[string]asynq.RedisConnOpt{
		"redis://localhost":                 asynq.RedisClientOpt{Addr: "localhost"},
		"redis://u:p@127.0.0.1:7000/3":      asynq.RedisClientOpt{Addr: "127.0.0.1:7000", Username: "u", Password: "p", DB: 3},
		"redis-socket://:p@/run/redis?db=2": asynq.RedisClientOpt{Network: "unix", Addr: "/run/redis", Password: "p", DB: 2},
		"redis-sentinel://:p@a:1,b:2?master=m": asynq.RedisFailoverClientOpt{
			MasterName: "m", SentinelAddrs: []string{"a:1", "b:2"}, SentinelPassword: "p",
		},
	} {
		got, err := queue.ParseURI(uri)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", uri, got, err, want)
		}
	}
	for _, uri := range []string{
		"", "localhost:6379", "redis://", "http://h", "redis://h/x", "redis://:se/cret@h:1", "redis://:secret@h:x",
		"redis-sentinel://:secret@a:1", "redis://%zz:secret@h",
	} {
		if got, err := queue.ParseURI(uri); err == nil {
			t.Errorf("%q was read as %+v", uri, got)
		} else if strings.Contains(err.Error(), "cret") {
			t.Errorf("%q: the error shows the password: %v", uri, err)
		}
	}
}
