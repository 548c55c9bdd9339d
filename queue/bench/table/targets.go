package main

// target is one number that spool shall reach, or stay below.
type target struct {
	label  string
	of     metric
	over   []metric // the number is the ratio to the best of these; none: of itself
	want   float64
	atMost bool // else at least
	unit   string
}

// targets in the order they are printed.
func targets() []target {
	const small, large = "/records=100000", "/records=5000000"
	spool := func(callers int) metric { return appends("spool", callers) }
	over := func(callers int, stores ...string) []metric {
		var ms []metric
		for _, s := range stores {
			ms = append(ms, appends(s, callers))
		}
		return ms
	}
	rate := func(family, size string) metric { return metric{family + size, "records/s"} }
	return []target{
		{label: "append, 1 caller: spool / fdatasync", of: spool(1), over: over(1, "fdatasync"), want: 0.5},
		{label: "append, 64 callers: spool / pebble", of: spool(64), over: over(64, "pebble"), want: 0.6},
		{label: "append, 64 callers: spool / best of dque, sqlite, tidwall-wal", of: spool(64), over: over(64, "dque", "sqlite", "tidwall-wal"), want: 15},
		{label: "append, 256 callers: spool / pebble", of: spool(256), over: over(256, "pebble"), want: 0.8},
		{label: "append, 1024 callers: spool / pebble", of: spool(1024), over: over(1024, "pebble"), want: 0.8},
		{label: "append after a drain, 1 caller: spool / fdatasync", of: metric{"AppendAfterDrain/store=spool/callers=1", "appends/s"}, over: over(1, "fdatasync"), want: 0.5},
		{label: "read and settle, warm cache", of: metric{"ReadSettle/cache=warm", "records/s"}, want: 1e6, unit: "/s"},
		{label: "read and settle, cold cache", of: metric{"ReadSettle/cache=cold", "records/s"}, want: 5e5, unit: "/s"},
		{label: "append rate, 5,000,000 records / 100,000", of: rate("AppendRate", large), over: []metric{rate("AppendRate", small)}, want: 0.8},
		{label: "settle rate, 5,000,000 records / 100,000", of: rate("SettleRate", large), over: []metric{rate("SettleRate", small)}, want: 0.8},
		{label: "disk beyond the payload, per record of 5,000,000", of: metric{"AppendRate" + large, "overhead-bytes/record"}, want: 150, atMost: true, unit: " bytes"},
		{label: "memory for 5,000,000 records", of: metric{"AppendRate" + large, "anon-growth-MiB"}, want: 64, atMost: true, unit: " MiB"},
		{label: "open and adopt 5,000,000 records, 64 MiB segments", of: metric{"Open/segment=64MiB/cache=warm", "sec/op"}, want: 1, atMost: true, unit: " s"},
		{label: "the same, cold cache", of: metric{"Open/segment=64MiB/cache=cold", "sec/op"}, want: 1, atMost: true, unit: " s"},
		{label: "open and adopt 5,000,000 records, 16 MiB segments", of: metric{"Open/segment=16MiB/cache=warm", "sec/op"}, want: 1, atMost: true, unit: " s"},
		{label: "the same, cold cache", of: metric{"Open/segment=16MiB/cache=cold", "sec/op"}, want: 1, atMost: true, unit: " s"},
	}
}

// measured returns the number and what it was in each round. It is not ok where a
// benchmark has not run.
func (t target) measured(res results) (value float64, rounds samples, ok bool) {
	of := res.rounds[t.of]
	if len(of) == 0 {
		return 0, nil, false
	}
	if len(t.over) == 0 {
		return of.median(), of, true
	}
	var best samples
	for _, m := range t.over {
		s := res.rounds[m]
		if len(s) == 0 {
			return 0, nil, false
		}
		if best == nil || s.median() > best.median() {
			best = s
		}
	}
	return of.median() / best.median(), of.over(best), true
}

func (t target) met(value float64) bool {
	if t.atMost {
		return value <= t.want
	}
	return value >= t.want
}
