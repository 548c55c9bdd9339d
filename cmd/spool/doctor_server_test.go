package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestJudgeServer gives one judge a server that is well but for some fields of INFO or
// CONFIG, which stand before or behind a comma.
func TestJudgeServer(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		judge  func(facts) finding
		fields string
		want   result
		seen   string
	}{
		{judgeVersion, "", resultOK, "7.0.15"},
		{judgeVersion, "redis_version:6.0.5", resultWarn, "LPOS"},
		{judgeVersion, "redis_version:6.0.6", resultWarn, "archive"},
		{judgeVersion, "redis_version:6.2.0", resultOK, "6.2.0"},
		{judgeVersion, "redis_version:10.0", resultOK, ""},
		{judgeVersion, "redis_version:3.2.12", resultFail, "asynq needs 4.0"},
		{judgeVersion, "redis_version:", resultWarn, "does not say"},
		{judgeRole, "", resultOK, "master"},
		{judgeRole, "role:slave master_host:db1 master_port:7 master_link_status:down", resultFail, "a replica of db1:7, link down"},
		{judgeLoading, "", resultOK, ""},
		{judgeLoading, "loading:1 loading_loaded_perc:12.5 loading_eta_seconds:9", resultFail, "12.5%, 9 s to go"},
		{judgeLoading, "async_loading:1", resultFail, ""},
		{judgeAppendOnly, "", resultOK, "on"},
		{judgeAppendOnly, "aof_last_write_status:err", resultFail, "AOF failed"},
		{judgeAppendOnly, "aof_enabled:0", resultFail, "nobody has another copy"},
		{judgeAppendOnly, "aof_enabled:0 connected_slaves:1", resultWarn, "unless a replica"},
		{judgeAppendFsync, "", resultOK, "always"},
		{judgeAppendFsync, ",appendfsync:everysec", resultWarn, "two seconds"},
		{judgeAppendFsync, ",appendfsync:no", resultFail, "half a minute"},
		{judgeAppendFsync, "aof_enabled:0,appendfsync:no", resultOK, "means nothing"},
		{judgeLastSave, "rdb_last_save_time:1699999940 rdb_changes_since_last_save:5", resultOK, "1m0s ago, 5 changes"},
		{judgeLastSave, "rdb_last_bgsave_status:err", resultWarn, "snapshot failed"},
		{judgeLastSave, "rdb_last_bgsave_status:err aof_enabled:0", resultFail, "snapshot failed, and there is no AOF"},
		{judgeLastSave, ",save:", resultOK, "the AOF has all"},
		{judgeLastSave, "aof_enabled:0,save:", resultFail, "loses all jobs"},
		{judgeEviction, "", resultOK, "noeviction"},
		{judgeEviction, "maxmemory_policy:allkeys-lfu maxmemory:1048576 evicted_keys:3", resultFail, "maxmemory 1.0 MiB: a full Redis drops jobs (3 keys"},
		{judgeEviction, "maxmemory_policy:allkeys-lfu", resultWarn, "harmless until"},
		{judgeEviction, "maxmemory_policy:volatile-lru maxmemory:1048576", resultWarn, "unique locks"},
		{judgeEviction, "maxmemory_policy:", resultWarn, "does not say"},
		{judgeMemory, "used_memory:500 total_system_memory:1000", resultOK, "50 % of the machine's memory"},
		{judgeMemory, "used_memory:800 total_system_memory:1000", resultWarn, "the system may kill Redis"},
		{judgeMemory, "used_memory:799 maxmemory:1000 total_system_memory:100000", resultOK, "80 % of maxmemory"},
		{judgeMemory, "used_memory:800 maxmemory:1000", resultWarn, "replays wait while it is above 80 %"},
		{judgeMemory, "used_memory:900 mem_not_counted_for_evict:200 maxmemory:1000", resultOK, "70 %"},
		{judgeMemory, "used_memory:1000 maxmemory:1000", resultFail, "refuses jobs"},
		{judgeMemory, "used_memory:1000", resultWarn, "does not say"},
		{judgeDedupeWindow, "used_memory:0 maxmemory:976250", resultOK, "room for 1,000 200-byte jobs finished within it, at 781 bytes"},
		{judgeDedupeWindow, "used_memory:900 maxmemory:1000", resultOK, "room for 0 "},
		{judgeReplicas, "", resultOK, "0 connected"},
		{judgeReplicas, "TEST_watched:1", resultWarn, "nobody can take over"},
		{judgeReplicas, "TEST_watched:1 connected_slaves:1", resultOK, "1 connected"},
		{judgeMinReplicas, "", resultOK, "0 needed"},
		{judgeMinReplicas, "connected_slaves:2", resultWarn, "cut off"},
		{judgeMinReplicas, "connected_slaves:2 min_slaves_good_slaves:1,min-replicas-to-write:1", resultOK, "1 needed"},
		{judgeMinReplicas, "connected_slaves:2 min_slaves_good_slaves:1,min-replicas-to-write:2", resultFail, "1 in step, 2 needed"},
	} {
		info, config, _ := strings.Cut(c.fields, ",")
		f := facts{
			now: at,
			info: readInfo(crlf("redis_version:7.0.15 role:master loading:0 aof_enabled:1 aof_last_write_status:ok rdb_last_bgsave_status:ok "+
				"maxmemory:0 maxmemory_policy:noeviction connected_slaves:0 "+info) + "\r\n"),
			config: readInfo(crlf("appendfsync:always min-replicas-to-write:0 save:60 " + config)),
		}
		f.watched = f.info["TEST_watched"] != ""
		if got := c.judge(f); got.Result != c.want || !strings.Contains(got.Seen, c.seen) || (got.Todo == "") != (got.Result == resultOK) {
			t.Errorf("%q: %+v, want %s with %q", c.fields, got, c.want, c.seen)
		}
	}
}

func crlf(words string) string { return strings.Join(strings.Fields(words), "\r\n") }

func TestJudgeClock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		skew, off time.Duration
		want      result
		seen      string
	}{
		{0, time.Millisecond, resultOK, ""},
		{-900 * time.Millisecond, 0, resultOK, "900ms behind"},
		{2 * time.Second, time.Millisecond, resultWarn, "2s ahead of this machine, give or take 1ms"},
		{2 * time.Second, 1500 * time.Millisecond, resultOK, ""}, // the network may be all of it
		{-31 * time.Second, time.Millisecond, resultFail, "31s behind"},
		{30 * time.Second, time.Millisecond, resultWarn, ""},
		{2 * time.Hour, time.Second, resultFail, "2h0m0s ahead"},
	} {
		if got := judgeClock(facts{skew: c.skew, off: c.off}); got.Result != c.want || !strings.Contains(got.Seen, c.seen) {
			t.Errorf("%v: %+v", c, got)
		}
	}
	if got := judgeClock(facts{skewErr: errors.New("away")}); got.Result != resultWarn || got.Seen != "not checked: away" {
		t.Errorf("%+v", got)
	}
}

// TestMerge makes one finding of those of several servers.
func TestMerge(t *testing.T) {
	t.Parallel()
	addrs := []string{"a", "b", "c"}
	good, bad, worst := passed("x", "fine"), warned("x", "hm", "look"), failed("x", "no", "run")
	for _, c := range []struct {
		found []finding
		want  finding
	}{
		{[]finding{worst}, worst},
		{[]finding{good, good, good}, passed("x", "each of 3: fine")},
		{[]finding{good, bad, good}, warned("x", "b: hm", "look")},
		{[]finding{bad, good, worst}, failed("x", "c: no", "run")},
		{[]finding{worst, bad, worst}, failed("x", "a: no; c: no", "run")},
	} {
		if got := merge(addrs, c.found); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
	if got := someOf([]string{"1", "2", "3", "4", "5", "6"}, ", "); got != "1, 2, 3, 4, and 2 more" {
		t.Error(got)
	}
}
