package main

import (
	"os"
	"path/filepath"
	"slices"
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

// enqueueRounds is what the benchmarks of queue print: medians, and the ends of the rounds.
const enqueueRounds = `date: 2026-11-27T10:00:00Z
cores: 2
filesystem: ext4 on /dev/vda
redis-server: 7.0.15
asynq: v0.26.0
cpu: Some CPU
pkg: github.com/jobspool/jobspool/queue
BenchmarkLiveRatio/callers=64-2    1  73457 plain/s  131208 live/s  1.76 x-rate  1.5 x-rate-min  2 x-rate-max  0.34 x-p99  0.8 x-self-min  1.1 x-self-max  9 rounds
BenchmarkBatchRatio-2              1  139409 batch/s  188390 pipeline/s  17873 loop/s  0.74 x-pipeline  7.8 x-loop  9 rounds
BenchmarkOutageWaits/callers=1-2   1  502.6 first-ms
BenchmarkWaitsBesideReplay/callers=4/pause=2ms-2  1  0.5 alone-p99-ms  2.3 beside-p99-ms
PASS
`

func TestTable(t *testing.T) {
	got := words(t, enqueueRounds+twoRounds, false)
	want := []string{
		"Medians of alternating rounds (1 or 2 or 9), 2026-11-27. Machine: 2 cores (Some CPU), Linux 6.18, ext4. unknown, redis-server 7.0.15, asynq v0.26.0.",
		"Plain asynq beside itself had ratios of 0.80 to 1.10 in a round, so much is noise.",
		"",
		"| | jobspool | beside | its figure | ratio | in the rounds | p99, ratio |",
		"|---|---|---|---|---|---|---|",
		"| **Redis is there** | | | | | | |",
		"| `Enqueue`, 64 callers | 131,208/s | plain asynq | 73,457/s | **1.76** | 1.50 to 2.00 | 0.34 |",
		"| `EnqueueBatch` of 1,000 | 139,409/s | pipeline by hand | 188,390/s | **0.74** | | |",
		"| `EnqueueBatch` of 1,000 | 139,409/s | asynq in a loop | 17,873/s | **7.80** | | |",
		"| **Redis is away** | | | | | | |",
		"| the first call, budget 500 ms | 503 ms | | | | | |",
		"| **Redis is back** | | | | | | |",
		"| p99 of `Enqueue` beside a replay, 4 callers that pause 2 ms | 2.3 ms | no replay | 0.5 ms | **4.60** | | |",
		"| **The spool alone, each append durable when it returns** | | | | | | |",
		"| `spool.Append`, 1 caller | 600/s | file + fdatasync | 1,000/s | **0.60** | 0.50 to 0.70 | |",
		"| `spool.Append`, 64 callers | 20,000/s | dque | 1,000/s | **20.0** | | |",
		"| `spool.Append`, 64 callers | 20,000/s | SQLite | 1,000/s | **20.0** | | |",
		"| `spool.Append`, 64 callers | 20,000/s | tidwall/wal | 2,000/s | **10.0** | | |",
		"| read and settle 1,000,000 records | 1,234,567/s | | | | | |",
	}
	if diff := cmp(got, want); diff != "" {
		t.Error(diff)
	}
}

func TestAll(t *testing.T) {
	got := words(t, twoRounds, true)
	got = got[slices.Index(got, "kernel Linux 6.18"):]
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
	if diff := cmp(got, want); diff != "" {
		t.Error(diff)
	}
}

// words are the lines printed, with one space between words.
func words(t *testing.T, in string, all bool) (got []string) {
	t.Helper()
	var out strings.Builder
	if err := run(nil, strings.NewReader(in), &out, all, ""); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	return got
}

func cmp(got, want []string) string {
	if slices.Equal(got, want) {
		return ""
	}
	return "got\n" + strings.Join(got, "\n") + "\n\nwant\n" + strings.Join(want, "\n")
}

func TestInto(t *testing.T) {
	dir := t.TempDir()
	results, readme := filepath.Join(dir, "results"), filepath.Join(dir, "README.md")
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(results, twoRounds)
	write(readme, "before\n"+markBegin+"old\n"+markEnd+"after\n")
	for range 2 { // it can be done again
		if err := run([]string{results}, nil, &strings.Builder{}, false, readme); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	res, err := readResults(strings.NewReader(twoRounds))
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n" + markBegin + "\n" + markdown(res) + "\n" + markEnd + "after\n"; string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	write(readme, "no marks\n")
	if err := run([]string{results}, nil, &strings.Builder{}, false, readme); err == nil {
		t.Error("no error without marks")
	}
}

func TestNoResults(t *testing.T) {
	if err := run(nil, strings.NewReader("PASS\n"), &strings.Builder{}, false, ""); err == nil {
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
