package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/redistest"
)

// doctored runs doctor and returns what it found. It fails the test if the exit code and
// the findings do not agree, or if a check is not said in full.
func doctored(t *testing.T, args ...string) *diagnosis {
	t.Helper()
	code, stdout, stderr := spoolCommand(t.Context(), append([]string{"doctor", "--json"}, args...)...)
	d := &diagnosis{}
	if err := json.Unmarshal([]byte(stdout), d); err != nil {
		t.Fatalf("%d, %v: %s%s", code, err, stdout, stderr)
	}
	if failed := d.count(resultFail) > 0; failed != (code == exitError) || failed != (d.Result == resultFail) || !failed && code != exitOK {
		t.Errorf("%d with %s", code, stdout)
	}
	for _, f := range d.Checks {
		if f.Area == "" || f.Check == "" || f.Seen == "" || (f.Todo == "") != (f.Result == resultOK) {
			t.Errorf("%+v", f)
		}
	}
	return d
}

// found returns a finding by the names of its area and check.
func (d *diagnosis) found(t *testing.T, area, check string) finding {
	t.Helper()
	i := slices.IndexFunc(d.Checks, func(f finding) bool { return f.Area == area && f.Check == check })
	if i < 0 {
		t.Fatalf("no check %s of %s in %+v", check, area, d.Checks)
	}
	return d.Checks[i]
}

// want fails the test if a check did not come to this.
func (d *diagnosis) want(t *testing.T, area, check string, r result, seen string) {
	t.Helper()
	if f := d.found(t, area, check); f.Result != r || !strings.Contains(f.Seen, seen) {
		t.Errorf("%s %s: %s, want %s with %q: %s", area, check, f.Result, r, seen, f.Seen)
	}
}

// onlyBad fails the test if another check than these is not ok.
func (d *diagnosis) onlyBad(t *testing.T, checks ...string) {
	t.Helper()
	for _, f := range d.Checks {
		if f.Result != resultOK && !slices.Contains(checks, f.Check) {
			t.Errorf("%+v", f)
		}
	}
}

func redisDo(t *testing.T, addr string, commands ...string) {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	for _, command := range commands {
		var args []any
		for _, word := range strings.Fields(command) {
			args = append(args, word)
		}
		if err := c.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
}

func TestDoctorOfAHealthyRedis(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	uri, dir := "redis://"+r.Addr(), t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	redisDo(t, r.Addr(), "SADD asynq:queues default", "LPUSH asynq:{default}:pending id", "LPUSH asynq:{default}:active id2", "ZADD asynq:{default}:lease 9999999999 id2")
	d := doctored(t, "--redis", uri, "--dir", dir)
	d.onlyBad(t, "filesystem", "free space") // of the machine that the test runs on
	d.want(t, "server", "writes", resultOK, uri+"/0 takes writes")
	d.want(t, "asynq", "leases", resultOK, "1 active task")
	d.want(t, "asynq", "queues", resultOK, "1 queue ")
	d.want(t, "spool", "foreign", resultOK, "none")
	if d.Redis != uri+"/0" || d.Dir != dir || len(d.LeftOut) != 0 {
		t.Errorf("%+v", d)
	}
}

func TestDoctorShowsAPerson(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := spoolCommand(t.Context(), "doctor", "--redis", "redis://:top-secret@127.0.0.1:1")
	if code != exitError || !strings.Contains(stderr, "1 check failed") || strings.Contains(stdout+stderr, "top-secret") {
		t.Errorf("%d, %s", code, stderr)
	}
	for _, want := range []string{
		"network\n  ok    names ", "\nserver\n  fail  writes     redis://127.0.0.1:1/0 takes no writes: ", "connection refused\n                   do: ",
		"\n  warn  11 checks  not checked: dial tcp 127.0.0.1:1: connect: connection refused (version, role, ",
		"\nno spool was looked at: give --dir or set SPOOL_DIR\n1 ok, 18 warn, 1 fail\n",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
}

func TestDoctorUsage(t *testing.T) {
	t.Setenv("SPOOL_DIR", "")
	t.Setenv("REDIS_URL", "")
	for _, line := range []string{
		"doctor", "doctor --redis redis://:secret@h:x", "doctor --dir x --timeout 0", "doctor --dir x --timeout -1s", "doctor x",
	} {
		code, stdout, stderr := spoolCommand(t.Context(), strings.Fields(line)...)
		if code != exitUsage || stdout != "" || stderr == "" || strings.Contains(stderr, "secret") {
			t.Errorf("%s: %d, %q, %q", line, code, stdout, stderr)
		}
	}
}

// TestDoctorOfServersThatLoseJobs looks at servers each of which has one thing wrong.
func TestDoctorOfServersThatLoseJobs(t *testing.T) {
	t.Parallel()
	master := redistest.Run(t, redistest.Options{AppendOnly: true})
	_, port, _ := strings.Cut(master.Addr(), ":")
	for _, c := range []struct {
		name  string
		args  []string
		check string
		want  result
		seen  string
		other string // checks that are bad, too
	}{
		{"replica", []string{"--replicaof", "127.0.0.1 " + port}, "role", resultFail, "a replica of 127.0.0.1:" + port, "writes"},
		{"allkeys", []string{"--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"}, "eviction", resultFail, "drops jobs", ""},
		{"volatile", []string{"--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl"}, "eviction", resultWarn, "unique locks", ""},
		{"full", []string{"--maxmemory", "100kb"}, "memory", resultFail, "Redis refuses jobs", "writes"},
		{"everysec", []string{"--appendfsync", "everysec"}, "appendfsync", resultWarn, "everysec", ""},
		{"min-replicas", []string{"--min-replicas-to-write", "1"}, "min-replicas", resultFail, "0 in step, 1 needed", "writes"},
		{"appendonly off", []string{"--appendonly", "no", "--save", "3600 1"}, "appendonly", resultFail, "off", ""},
		{"no snapshot", []string{"--appendonly", "no", "--save", ""}, "last save", resultFail, "loses all jobs", "appendonly"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := redistest.Run(t, redistest.Options{AppendOnly: true, Args: c.args})
			d := doctored(t, "--redis", "redis://"+r.Addr())
			d.want(t, "server", c.check, c.want, c.seen)
			d.onlyBad(t, append(strings.Fields(c.other), c.check)...)
			if slices.Contains(strings.Fields(c.other), "writes") {
				d.want(t, "server", "writes", resultFail, "takes no writes")
			}
		})
	}
}

func TestDoctorOfUsersWithFewRights(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{AppendOnly: true})
	const enqueue = "+evalsha +eval +exists +hset +lpush +zadd +sadd +set +get +del +hget"
	for user, c := range map[string]struct {
		rights string
		db     int
		want   map[string]result
		seen   string // of enqueue
	}{
		"all":     {"~asynq:* +select +info +lpos +zscore +zrange " + enqueue, 1, map[string]result{"enqueue": resultOK, "repair": resultOK, "memory": resultOK, "database": resultOK}, ""},
		"least":   {"~asynq:* " + enqueue, 0, map[string]result{"enqueue": resultOK, "repair": resultWarn, "memory": resultWarn}, ""},
		"other":   {"~other:* " + enqueue, 1, map[string]result{"enqueue": resultFail, "database": resultFail}, "evalsha, eval, exists, hset, lpush, zadd, sadd, set, get, del, hget on"},
		"pushes":  {"~asynq:* -lpush " + strings.ReplaceAll(enqueue, "+lpush", ""), 0, map[string]result{"enqueue": resultFail}, "may not run lpush on asynq's keys"},
		"no-info": {"~* +@all -info", 0, map[string]result{"enqueue": resultOK, "memory": resultWarn}, ""},
		"no-eval": {"~asynq:* +set", 1, map[string]result{"enqueue": resultFail, "repair": resultWarn, "database": resultWarn}, "may not run scripts"},
	} {
		redisDo(t, r.Addr(), "ACL SETUSER "+user+" on >secret "+c.rights)
		d := doctored(t, "--redis", fmt.Sprintf("redis://%s:secret@%s/%d", user, r.Addr(), c.db))
		for check, want := range c.want {
			d.want(t, "rights", check, want, "")
		}
		d.want(t, "rights", "enqueue", c.want["enqueue"], c.seen)
		if user == "no-info" { // which keeps doctor from nothing else
			d.want(t, "server", "version", resultWarn, "not checked: NOPERM")
			d.want(t, "clock", "skew", resultOK, "")
		}
		if user == "least" {
			d.want(t, "server", "version", resultWarn, "not checked: NOPERM")
			d.want(t, "clock", "skew", resultWarn, "not checked: NOPERM")
			d.want(t, "asynq", "queues", resultWarn, "not checked: NOPERM")
		}
	}
}

func TestDoctorOfAFrozenServer(t *testing.T) {
	t.Parallel()
	r := redistest.Run(t, redistest.Options{})
	if err := r.Freeze(); err != nil {
		t.Fatal(err)
	}
	d := doctored(t, "--redis", "redis://"+r.Addr(), "--timeout", "400ms")
	d.want(t, "server", "writes", resultFail, "takes no writes")
	d.want(t, "server", "role", resultWarn, "not checked: ")
	d.want(t, "asynq", "leases", resultWarn, "not checked: ")
}

func TestDiagnosisPrints(t *testing.T) {
	t.Parallel()
	d := &diagnosis{LeftOut: []string{"no spool was looked at"}}
	two := errors.Join(errors.New("one"), errors.New("two"))
	d.add("a", passed("first", "well"), notMade("second", two), notMade("third", two), notMade("fourth", errors.New("one")))
	d.add("b", failed("a longer name", "broken", "mend it"))
	var out strings.Builder
	d.print(&out)
	const want = `a
  ok    first          well
  warn  2 checks       not checked: one; two (second, third)
                       do: run doctor again when that is mended, or look by hand
  warn  fourth         not checked: one
                       do: run doctor again when that is mended, or look by hand
b
  fail  a longer name  broken
                       do: mend it
no spool was looked at
1 ok, 3 warn, 1 fail
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// TestWithin leaves behind what hangs.
func TestWithin(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	if got := within(ctx, func() string { return "seen" }, "late"); got != "seen" {
		t.Error(got)
	}
	cancel()
	hang := make(chan string)
	if got := within(ctx, func() string { return <-hang }, "late"); got != "late" {
		t.Error(got)
	}
	close(hang)
}
