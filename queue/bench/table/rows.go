package main

import (
	"fmt"
	"slices"
	"strings"
)

// row compares one thing with one peer. A row of which nothing was measured is left out.
type row struct {
	what string
	ours metric

	peer   string // empty: there is none
	theirs metric

	// ratio is the metric that is the ratio of ours to theirs, with its -min and -max.
	// Empty: the ratio is formed of ours and theirs, round by round if they have rounds.
	ratio string
	// tail is the metric that is the ratio of the 99th percentiles of the calls' times.
	tail string
}

// group is rows under one heading.
type group struct {
	heading string
	rows    []row
}

// groups are the table.
func groups() []group {
	return []group{
		{"Redis is there", slices.Concat(live(), batch(), guard())},
		{"Redis is away", outage()},
		{"Redis is back", slices.Concat(replay(), beside())},
		{"The spool alone, each append durable when it returns", slices.Concat(appending(), alone())},
		{"Memory of Redis", []row{{what: "`DedupeWindow`: for each finished job", ours: metric{"DedupeWindowPrice", "redis-B/job"}}}},
	}
}

func live() (rows []row) {
	add := func(bench, callers, extra string) {
		bench += "/callers=" + callers
		rows = append(rows, row{
			what: "`Enqueue`, " + people(callers) + extra, ours: metric{bench, "live/s"},
			peer: "plain asynq", theirs: metric{bench, "plain/s"}, ratio: "x-rate", tail: "x-p99",
		})
	}
	for _, callers := range []string{"1", "8", "64", "256"} {
		add("LiveRatio", callers, "")
	}
	for _, callers := range []string{"8", "256"} {
		add("DistantRatio", callers, ", 5 ms of round trip")
	}
	return rows
}

func batch() []row {
	r := row{what: "`EnqueueBatch` of 1,000", ours: metric{"BatchRatio", "batch/s"}}
	return r.beside("pipeline", "loop")
}

func guard() (rows []row) {
	for _, callers := range []string{"1", "8", "64"} {
		bench := "GuardRatio/callers=" + callers
		rows = append(rows, row{
			what: "`Config.Guard`, " + people(callers), ours: metric{bench, "with/s"},
			peer: "without", theirs: metric{bench, "without/s"}, ratio: "x-without", tail: "x-p99",
		})
	}
	return rows
}

func outage() (rows []row) {
	for _, callers := range []string{"1", "64", "256"} {
		bench := "OutageWaits/callers=" + callers
		rows = append(rows, row{
			what: "`Enqueue`, " + people(callers), ours: metric{bench, "outage/s"},
			peer: "plain asynq, healthy Redis", theirs: metric{bench, "plain/s"}, ratio: "x-rate", tail: "x-p99",
		})
	}
	for _, callers := range []string{"1", "64", "256"} {
		for _, q := range []string{"p50", "p99"} {
			rows = append(rows, row{what: q + " of `Enqueue`, " + people(callers), ours: metric{"OutageWaits/callers=" + callers, q + "-ms"}})
		}
	}
	return append(rows, row{what: "the first call, budget 500 ms", ours: metric{"OutageWaits/callers=1", "first-ms"}})
}

func replay() (rows []row) {
	for _, c := range []struct{ what, bench string }{
		{"replay, 1 queue", "ReplayRatio/queues=1"},
		{"replay, 10 queues", "ReplayRatio/queues=10"},
		{"replay, 1 queue, 5 ms of round trip", "DistantReplayRatio"},
	} {
		r := row{what: c.what, ours: metric{c.bench, "replay/s"}}
		rows = append(rows, r.beside("pipeline", "loop")...)
	}
	return rows
}

// beside returns r for each of the peers that batch and replay have.
func (r row) beside(peers ...string) (rows []row) {
	names := map[string]string{"pipeline": "pipeline by hand", "loop": "asynq in a loop"}
	for _, p := range peers {
		r.peer, r.theirs, r.ratio = names[p], metric{r.ours.bench, p + "/s"}, "x-"+p
		rows = append(rows, r)
	}
	return rows
}

func beside() (rows []row) {
	for _, c := range []struct{ callers, pause string }{{"4", "2ms"}, {"32", "10ms"}} {
		bench := "WaitsBesideReplay/callers=" + c.callers + "/pause=" + c.pause
		rows = append(rows, row{
			what: "p99 of `Enqueue` beside a replay, " + people(c.callers) + " that pause " + strings.TrimSuffix(c.pause, "ms") + " ms",
			ours: metric{bench, "beside-p99-ms"},
			peer: "no replay", theirs: metric{bench, "alone-p99-ms"},
		})
	}
	return rows
}

func appending() (rows []row) {
	for _, callers := range []int{1, 64, 1024} {
		for _, p := range []struct{ store, name string }{
			{"fdatasync", "file + fdatasync"}, {"pebble", "pebble"}, {"dque", "dque"}, {"sqlite", "SQLite"}, {"tidwall-wal", "tidwall/wal"},
		} {
			rows = append(rows, row{
				what: "`spool.Append`, " + people(grouped(fmt.Sprint(callers))), ours: appends("spool", callers),
				peer: p.name, theirs: appends(p.store, callers),
			})
		}
	}
	return rows
}

// alone are numbers of the spool that have no peer.
func alone() []row {
	return []row{
		{what: "read and settle 1,000,000 records", ours: metric{"ReadSettle/cache=warm", "records/s"}},
		{what: "the same, files not in memory", ours: metric{"ReadSettle/cache=cold", "records/s"}},
		{what: "append 5,000,000 records in calls of 100", ours: metric{"AppendRate/records=5000000", "records/s"}},
		{what: "disk for each of them over its own 300 bytes", ours: metric{"AppendRate/records=5000000", "overhead-bytes/record"}},
		{what: "read and settle them", ours: metric{"SettleRate/records=5000000", "records/s"}},
		{what: "open them, files not in memory", ours: metric{"Open/segment=64MiB/cache=cold", "sec/op"}},
	}
}

// people is a number of callers in words.
func people(callers string) string {
	if callers == "1" {
		return "1 caller"
	}
	return callers + " callers"
}
