package queue

import (
	"strings"
	"testing"

	"github.com/hibiken/asynq"
)

func TestSameTarget(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"redis://a:1/0", "redis://a:1/0", true},
		{"redis://a:1/0", "redis://a:1/1", false},
		{"redis://a:1/0", "redis://a:2/0", false},
		{"redis://a:1/0", "redis-cluster://a:1", false},
		{"redis://a:1,b:2/0", "redis://a:1,c:3/0", false},
		{"redis-socket:///r.sock?db=0", "redis-socket:///r.sock?db=0", true},
		{"redis-socket:///r.sock?db=0", "redis-socket:///r.sock?db=1", false},
		{"redis-sentinel://master/0", "redis-sentinel://master/0", true},
		{"redis-sentinel://master/0", "redis-sentinel://master/1", false},
		{"redis-sentinel://master/0", "redis-sentinel://other/0", false},
		{"redis-cluster://a:1", "redis-cluster://a:1", true},
		{"redis-cluster://a:1,b:2,c:3", "redis-cluster://b:2,c:3,d:4", true},
		{"redis-cluster://a:1,b:2,c:3", "redis-cluster://c:3", true},
		{"redis-cluster://A:1", "redis-cluster://a:1,b:2", true},
		{"redis-cluster://[::1]:1", "redis-cluster://[::1]:1,[::2]:1", true},
		{"redis-cluster://a:1,b:2", "redis-cluster://c:3,d:4", false},
		{"redis-cluster://a:1", "redis-cluster://a:11", false},
		{"redis-cluster://,a:1", "redis-cluster://,b:1", false},
		{"redis-cluster://a:1,b:2", "", false},
		{"", "", true},
		{"the queue", "the queue", true},
		{"the queue", "The queue", false},
		{"a:1,b:2", "a:1,c:3", false},
	} {
		if SameTarget(c.a, c.b) != c.want || SameTarget(c.b, c.a) != c.want {
			t.Errorf("%q and %q: not %v both ways", c.a, c.b, c.want)
		}
	}
}

func TestAdopts(t *testing.T) {
	cfg := Config{Target: "redis-cluster://a:1,b:2", AcceptTargets: []string{"redis://old:1/0", "redis-cluster://x:1,y:1"}}
	adopts := cfg.adopts()
	for target, want := range map[string]bool{
		"redis-cluster://a:1,b:2": true, "redis-cluster://b:2,c:3": true, "redis://old:1/0": true, "redis-cluster://y:1,z:1": true,
		"redis://old:1/1": false, "redis://a:1/0": false, "redis-cluster://c:3": false, "": false,
	} {
		if adopts(target) != want {
			t.Errorf("%q: not %v", target, want)
		}
	}
}

func TestTargetsHoldNoPassword(t *testing.T) {
	for _, target := range []string{
		"redis://h:1/0", "redis-socket:///run/r@1.sock?db=0", "redis-socket://@abstract?db=0", "redis-sentinel://m/0",
		"redis-cluster://a:1,[::1]:2", "jobs@eu", "a name",
	} {
		if _, err := (Config{Redis: asynq.RedisClientOpt{}, SpoolDir: "d", Target: target, AcceptTargets: []string{target}}).normalized(); err != nil {
			t.Errorf("%q: %v", target, err)
		}
	}
	for _, target := range []string{
		"redis://user:secret@h:1/0", "redis://:secret@h", "redis://secret@h", "redis://:sec/ret@h", "rediss://u:secret@h:1",
		"redis:/u:secret@h", "redis-socket://u:secret@/run/r.sock", "redis-cluster://u:secret@a:1,b:2",
		"redis-sentinel://h/0?master=m&password=secret", "redis-sentinel://h/0?master=m&PASSWORD=secret",
	} {
		for field, cfg := range map[string]Config{
			"Config.Target ":           {Target: target},
			"Config.AcceptTargets[1] ": {AcceptTargets: []string{"fine", target}},
		} {
			cfg.Redis, cfg.SpoolDir = asynq.RedisClientOpt{}, "d"
			_, err := cfg.normalized()
			if err == nil || !strings.Contains(err.Error(), field) || strings.Contains(err.Error(), "sec") {
				t.Errorf("%q: %v", target, err)
			}
		}
	}
	for _, empty := range []string{"", " "} {
		_, err := Config{Redis: asynq.RedisClientOpt{}, SpoolDir: "d", AcceptTargets: []string{empty}}.normalized()
		if err == nil || !strings.Contains(err.Error(), "Config.AcceptTargets[0] is empty") {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

func TestAcceptTargetsAreCopied(t *testing.T) {
	theirs := []string{"a"}
	cfg, err := Config{Redis: asynq.RedisClientOpt{}, SpoolDir: "d", AcceptTargets: theirs}.normalized()
	theirs[0] = "b"
	if err != nil || !cfg.adopts()("a") || cfg.adopts()("b") {
		t.Errorf("%v, %v", cfg.AcceptTargets, err)
	}
}
