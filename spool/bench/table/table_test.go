package main

import (
	"strings"
	"testing"
)

const twoRounds = `kernel: Linux 6.18
BenchmarkAppend/store=fdatasync/callers=1-2     10  100 ns/op  1000 appends/s
BenchmarkAppend/store=tidwall-wal/callers=64-2  10  100 ns/op  2000 appends/s
BenchmarkAppend/store=dque/callers=64-2         10  100 ns/op  1000 appends/s
BenchmarkAppend/store=sqlite/callers=64-2       10  100 ns/op  1000 appends/s
BenchmarkAppend/store=spool/callers=1-2         10  100 ns/op  500 appends/s
BenchmarkAppend/store=spool/callers=64-2        10  100 ns/op  20000 appends/s
BenchmarkOpen/segment=64MiB/cache=warm-2        1  1500000000 ns/op  27 segments
PASS
kernel: Linux 6.19
BenchmarkAppend/store=fdatasync/callers=1-2     10  100 ns/op  1000 appends/s
BenchmarkAppend/store=spool/callers=1-2         10  100 ns/op  700 appends/s
BenchmarkReadSettle/cache=warm-2                1  1 ns/op  1234567 records/s
PASS
`

func TestTable(t *testing.T) {
	var out strings.Builder
	if err := run(strings.NewReader(twoRounds), &out); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"kernel Linux 6.18",
		"",
		"appends/s, median",
		"",
		"callers fdatasync tidwall-wal dque sqlite spool",
		"1 1,000 - - - 600",
		"64 - 2,000 1,000 1,000 20,000",
		"",
		"targets median rounds target",
		"append, 1 caller: spool / fdatasync 0.6 0.5 .. 0.7 at least 0.5 met",
		"append, 64 callers: spool / best of dque, sqlite, tidwall-wal 10 10 .. 10 at least 15 missed",
		"read and settle, warm cache 1,234,567/s 1,234,567 .. 1,234,567 at least 1,000,000/s met",
		"open and adopt 5,000,000 records, 64 MiB segments 1.5 s 1.5 .. 1.5 at most 1 s missed",
		"",
		"other benchmarks median rounds unit",
		"Open/segment=64MiB/cache=warm 1.5 1.5 .. 1.5 sec/op",
		"Open/segment=64MiB/cache=warm 27 27 .. 27 segments",
		"ReadSettle/cache=warm 1,234,567 1,234,567 .. 1,234,567 records/s",
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\n\nwant\n%s", g, w)
	}
}

func TestNoResults(t *testing.T) {
	if err := run(strings.NewReader("PASS\n"), &strings.Builder{}); err == nil {
		t.Error("no error")
	}
}

func TestMedian(t *testing.T) {
	for want, s := range map[float64]samples{1: {1}, 2: {3, 1, 2}, 2.5: {4, 1, 3, 2}} {
		if got := s.median(); got != want {
			t.Errorf("median of %v: %v, want %v", s, got, want)
		}
	}
}
