package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/jobspool/jobspool/queue"
)

// dedupeBytes is what a 200-byte job costs Redis that was finished within
// Config.DedupeWindow, measured with Redis 7.0.15.
const dedupeBytes = 781

// serverCheck looks at one server.
type serverCheck struct {
	name string
	look func(facts) finding // what it returns needs no Check
}

// serverChecks are those of which INFO and CONFIG tell.
func serverChecks() []serverCheck {
	return []serverCheck{
		{"version", judgeVersion},
		{"role", judgeRole},
		{"loading", judgeLoading},
		{"appendonly", judgeAppendOnly},
		{"appendfsync", judgeAppendFsync},
		{"last save", judgeLastSave},
		{"eviction", judgeEviction},
		{"memory", judgeMemory},
		{"dedupe window", judgeDedupeWindow},
		{"replicas", judgeReplicas},
		{"min-replicas", judgeMinReplicas},
	}
}

// checkServers makes each check on all servers.
func checkServers(all []facts) []finding {
	var out []finding
	addrs := make([]string, len(all))
	for _, c := range serverChecks() {
		found := make([]finding, len(all))
		for i, f := range all {
			addrs[i] = f.addr
			if f.err != nil {
				found[i] = notMade(c.name, f.err)
				continue
			}
			found[i] = c.look(f)
			found[i].Check = c.name
		}
		out = append(out, merge(addrs, found))
	}
	return out
}

func judgeVersion(f facts) finding {
	v := f.info["redis_version"]
	switch {
	case v == "":
		return warned("", "the server does not say its version", "see that it is Redis 6.2 or newer, or speaks as that does")
	case olderThan(v, 4, 0, 0):
		return failed("", v+": asynq needs 4.0", "upgrade Redis")
	case olderThan(v, 6, 0, 6):
		return warned("", v+": no LPOS, so a job whose script failed in the middle becomes a dead letter; no user rights before 6.0; "+noArchive, "upgrade Redis")
	case olderThan(v, 6, 2, 0):
		return warned("", v+": "+noArchive, "upgrade Redis")
	}
	return passed("", v)
}

// noArchive is what asynq v0.26.0 cannot do without ZRANGE BYSCORE, which came with Redis 6.2.
const noArchive = "before 6.2 asynq's workers cannot archive a job that has failed for good"

// olderThan compares a version such as 7.0.15 with another.
func olderThan(v string, than ...int) bool {
	parts := strings.Split(v, ".")
	for i, t := range than {
		n := 0
		if i < len(parts) {
			n, _ = strconv.Atoi(parts[i])
		}
		if n != t {
			return n < t
		}
	}
	return false
}

func judgeRole(f facts) finding {
	if f.info["role"] == "master" {
		return passed("", "master")
	}
	seen := fmt.Sprintf("a replica of %s:%s, link %s", f.info["master_host"], f.info["master_port"], f.info["master_link_status"])
	return failed("", seen, "name the master in --redis and in the services, or Sentinel, which finds it")
}

func judgeLoading(f facts) finding {
	if f.number("loading") == 0 && f.number("async_loading") == 0 {
		return passed("", "done")
	}
	return failed("", fmt.Sprintf("still loading its data, %s%%, %s s to go; jobs go to the spools meanwhile",
		f.info["loading_loaded_perc"], f.info["loading_eta_seconds"]), "wait; spool ping --wait tells when it takes writes")
}

// judgeAppendOnly is about what a crash of Redis loses.
func judgeAppendOnly(f facts) finding {
	const todo = "CONFIG SET appendonly yes, and in redis.conf; Config.Guard has the services send again what Redis loses"
	switch {
	case f.info["aof_enabled"] == "1" && f.info["aof_last_write_status"] == "err":
		return failed("", "the last write to the AOF failed: Redis refuses writes or will", "see Redis's log, and its disk")
	case f.info["aof_enabled"] == "1":
		return passed("", "on, last write "+f.info["aof_last_write_status"])
	case f.number("connected_slaves") == 0:
		return failed("", "off: a crash of Redis loses the jobs since the last save, of which nobody has another copy", todo)
	}
	return warned("", "off: a crash of Redis loses jobs, unless a replica that has them takes over", todo)
}

func judgeAppendFsync(f facts) finding {
	switch policy := f.config["appendfsync"]; {
	case f.info["aof_enabled"] != "1":
		return passed("", "means nothing without appendonly")
	case f.configErr != nil:
		return notMade("", f.configErr)
	case policy == "always":
		return passed("", policy)
	case policy == "everysec":
		return warned("", "everysec: a crash of the machine loses jobs of up to two seconds that Redis has acknowledged",
			"accept that, or CONFIG SET appendfsync always")
	default:
		return failed("", policy+": a crash of the machine loses the acknowledged jobs of half a minute or so", "CONFIG SET appendfsync everysec, or always")
	}
}

func judgeLastSave(f facts) finding {
	const todo = "see Redis's log, its disk, and whether it may fork (vm.overcommit_memory)"
	age := f.now.Add(f.skew).Sub(time.Unix(f.number("rdb_last_save_time"), 0)).Round(time.Second)
	seen := fmt.Sprintf("last of them %s ago, %d changes since", max(age, 0), f.number("rdb_changes_since_last_save"))
	aof := f.info["aof_enabled"] == "1"
	switch {
	case f.info["rdb_last_bgsave_status"] == "err" && !aof:
		return failed("", "the last snapshot failed, and there is no AOF; "+seen, todo)
	case f.info["rdb_last_bgsave_status"] == "err":
		return warned("", "the last snapshot failed; "+seen, todo)
	case f.configErr != nil:
		return notMade("", f.configErr)
	case f.config["save"] == "" && aof:
		return passed("", "no snapshots; the AOF has all")
	case f.config["save"] == "":
		return failed("", "no snapshots and no AOF: a restart of Redis loses all jobs", "CONFIG SET appendonly yes, and in redis.conf")
	}
	return passed("", "snapshots: "+seen)
}

// judgeEviction: most keys of asynq's have no time to live, but its unique locks have.
func judgeEviction(f facts) finding {
	policy, most := f.info["maxmemory_policy"], f.number("maxmemory")
	const todo = "CONFIG SET maxmemory-policy noeviction, and in redis.conf; a cache wants a Redis of its own"
	switch {
	case policy == "noeviction":
		return passed("", policy)
	case policy == "":
		return warned("", "the server does not say its policy", "see that it is noeviction")
	case most == 0:
		return warned("", policy+": harmless until somebody sets maxmemory", todo)
	case strings.HasPrefix(policy, "volatile-"):
		return warned("", fmt.Sprintf("%s with maxmemory %s: a full Redis drops unique locks, and jobs come twice", policy, sizeText(most)), todo)
	}
	return failed("", fmt.Sprintf("%s with maxmemory %s: a full Redis drops jobs (%d keys dropped so far)",
		policy, sizeText(most), f.number("evicted_keys")), todo)
}

// room returns what Redis counts as used, and up to where: its maxmemory, or the memory
// of the machine.
func (f facts) room() (used, most int64, whose string) {
	used, most = f.number("used_memory")-f.number("mem_not_counted_for_evict"), f.number("maxmemory")
	if most > 0 {
		return used, most, "maxmemory"
	}
	return f.number("used_memory"), f.number("total_system_memory"), "the machine's memory (there is no maxmemory)"
}

func judgeMemory(f facts) finding {
	used, most, whose := f.room()
	if most == 0 {
		return warned("", sizeText(used)+" used; how much there is the server does not say", "see that there is room for an outage's jobs")
	}
	share := float64(used) / float64(most)
	seen := fmt.Sprintf("%s of %s used, %.0f %% of %s", sizeText(used), sizeText(most), share*100, whose)
	const todo = "make room: raise maxmemory, shorten retention, archive less, start more workers"
	switch {
	case share >= queue.DefaultMaxMemory && f.number("maxmemory") == 0:
		return warned("", seen+": the system may kill Redis", "make room, and set maxmemory with noeviction: then jobs go to the spools instead")
	case share >= 1:
		return failed("", seen+": Redis refuses jobs", todo)
	case share >= queue.DefaultMaxMemory:
		return warned("", fmt.Sprintf("%s: replays wait while it is above %.0f %%", seen, queue.DefaultMaxMemory*100), todo)
	}
	return passed("", seen)
}

// judgeDedupeWindow tells for how many finished jobs there is room until replays wait.
func judgeDedupeWindow(f facts) finding {
	used, most, _ := f.room()
	if most == 0 {
		return passed("", fmt.Sprintf("costs %d bytes for each 200-byte job finished within it", dedupeBytes))
	}
	jobs := max(int64(float64(most)*queue.DefaultMaxMemory)-used, 0) / dedupeBytes
	return passed("", fmt.Sprintf("room for %s 200-byte jobs finished within it, at %d bytes each", humanize.Comma(jobs), dedupeBytes))
}

func judgeReplicas(f facts) finding {
	n := f.number("connected_slaves")
	seen := fmt.Sprintf("%d connected", n)
	if n == 0 && (f.cluster || f.watched) {
		return warned("", seen+": nobody can take over", "start a replica, or see why it has lost its master")
	}
	return passed("", seen)
}

// judgeMinReplicas is about a master that is cut off from its replicas: what it takes then is
// lost when one of them has taken over.
func judgeMinReplicas(f facts) finding {
	if f.configErr != nil {
		return notMade("", f.configErr)
	}
	least, err := strconv.ParseInt(f.config["min-replicas-to-write"], 10, 64)
	if err != nil {
		return warned("", "the server does not know min-replicas-to-write", "upgrade Redis to 5.0 or newer")
	}
	n, good := f.number("connected_slaves"), f.number("min_slaves_good_slaves")
	switch {
	case least > 0 && good < least:
		return failed("", fmt.Sprintf("%d in step, %d needed: Redis refuses jobs", good, least), "bring replicas back, or CONFIG SET min-replicas-to-write lower")
	case least == 0 && n > 0:
		return warned("", "0: a master that is cut off goes on taking jobs, which are lost when a replica has taken over",
			"CONFIG SET min-replicas-to-write 1, and in redis.conf; jobs go to the spools then")
	}
	return passed("", fmt.Sprintf("%d needed for a write, %d connected", least, n))
}

func sizeText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
