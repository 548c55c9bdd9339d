package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue/redistest"
)

func TestDoctorOfASentinel(t *testing.T) {
	t.Parallel()
	s := redistest.RunSentinel(t, redistest.Options{AppendOnly: true})
	uri := "redis-sentinel://" + strings.Join(s.Addrs(), ",") + "/1?master=" + s.MasterName()
	d := doctored(t, "--redis", uri)
	d.onlyBad(t, "min-replicas")
	d.want(t, "network", "sentinels", resultOK, "all answer")
	d.want(t, "network", "master", resultOK, s.Master().Addr())
	d.want(t, "server", "min-replicas", resultWarn, "cut off")
	d = doctored(t, "--redis", strings.Replace(uri, s.MasterName(), "other", 1))
	d.want(t, "network", "master", resultFail, "no sentinel knows other")
	d.want(t, "server", "version", resultWarn, "the sentinels name no master")

	for _, p := range s.Processes()[1:] {
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	eventuallyDoctored(t, uri, func(d *diagnosis) bool { return d.found(t, "network", "quorum").Result == resultFail })
	d = doctored(t, "--redis", uri)
	d.want(t, "network", "sentinels", resultWarn, "2 of 3 do not answer")
	d.want(t, "server", "role", resultOK, "master")
	s.KillSentinels()
	d = doctored(t, "--redis", uri)
	d.want(t, "network", "sentinels", resultFail, "none answers")
	d.want(t, "network", "quorum", resultWarn, "not checked")
	d.want(t, "clock", "skew", resultWarn, "not checked")
}

// eventuallyDoctored waits until doctor sees what the servers take some time to notice.
func eventuallyDoctored(t *testing.T, uri string, cond func(*diagnosis) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		d := doctored(t, "--redis", uri)
		if cond(d) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", d.Checks)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestDoctorOfACluster(t *testing.T) {
	t.Parallel()
	c := redistest.RunCluster(t, redistest.ClusterOptions{Masters: 3, Node: redistest.Options{AppendOnly: true}})
	uri := "redis-cluster://" + strings.Join(c.Addrs(), ",")
	lost, on := "asynq:{"+c.QueueOn(2)+"}", c.Nodes()[2].Addr()
	redisDo(t, on, "LPUSH "+lost+":pending id", "LPUSH "+lost+":active stale")
	redisDo(t, c.Nodes()[1].Addr(), "CONFIG SET maxmemory 64mb maxmemory-policy allkeys-lru")
	d := doctored(t, "--redis", uri)
	d.onlyBad(t, "eviction", "queues", "leases", "replicas")
	d.want(t, "network", "nodes", resultOK, "all of 3")
	d.want(t, "network", "slots", resultOK, "all of 16384")
	d.want(t, "server", "role", resultOK, "each of 3: master")
	d.want(t, "server", "eviction", resultFail, c.Nodes()[1].Addr()+": allkeys-lru")
	d.want(t, "server", "replicas", resultWarn, "each of 3: 0 connected: nobody can take over")
	d.want(t, "rights", "slots", resultOK, "each of 3: user default may")
	d.want(t, "asynq", "queues", resultWarn, c.QueueOn(2))
	d.want(t, "asynq", "leases", resultFail, "(stale)")

	if err := c.Nodes()[2].Kill(); err != nil {
		t.Fatal(err)
	}
	d = doctored(t, "--redis", uri)
	d.want(t, "network", "nodes", resultFail, on)
	d.want(t, "network", "seeds", resultWarn, "1 of 3 do not answer: "+on)
	d.want(t, "server", "role", resultOK, "each of 2: master")
	eventuallyDoctored(t, uri, func(d *diagnosis) bool { return d.found(t, "network", "slots").Result == resultFail })
	for _, n := range c.Nodes()[:2] {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	d = doctored(t, "--redis", uri)
	d.want(t, "network", "seeds", resultFail, "none answers")
	d.want(t, "network", "slots", resultWarn, "not checked")
	d.want(t, "asynq", "leases", resultWarn, "not checked")
}

func TestReadNodes(t *testing.T) {
	t.Parallel()
	const text = "a 10.0.0.1:7000@17000,one.example myself,master - 0 0 1 connected 0-5460 7000 [9->-b]\n" +
		"b :7001@17001 master,fail - 0 0 2 disconnected 5461-5462\n" +
		"c fe80::1:7002@17002 slave a 0 0 3 connected\n" +
		"d :0@0 master,noaddr - 0 0 4 disconnected\n" +
		"e 10.0.0.5:7004 slave,fail? a 0 0 3 connected\nnonsense\n"
	want := []clusterNode{
		{addr: "10.0.0.1:7000", master: true, slots: 5462},
		{addr: "seed:7001", master: true, failing: true, slots: 2},
		{addr: "[fe80::1]:7002"},
		{addr: "10.0.0.5:7004", failing: true},
	}
	got := readNodes(text, "seed:1", false)
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
	if got := readNodes(text, "seed:1", true)[0].addr; got != "one.example:7000" {
		t.Error(got)
	}
}

func TestJudgeCluster(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for _, c := range []struct {
		got  finding
		want result
		seen string
	}{
		{judgeNodes(topology{nodes: []clusterNode{{addr: "a", master: true, slots: 9, err: away}, {addr: "b", failing: true}}}), resultFail, "a: away; b: the others say"},
		{judgeNodes(topology{nodes: []clusterNode{{addr: "b", err: away}}}), resultWarn, "b: away"},
		{judgeSlots(topology{nodes: []clusterNode{{slots: allSlots - 1}, {slots: 1, failing: true}}}), resultFail, "16383 of 16384"},
		{judgeState(topology{state: "fail", stateOf: "a"}), resultFail, "fail, says a"},
		{judgeState(topology{stateOf: "a"}), resultFail, "unknown, says a"},
	} {
		if c.got.Result != c.want || !strings.Contains(c.got.Seen, c.seen) {
			t.Errorf("%+v", c.got)
		}
	}
}

func TestJudgeSentinels(t *testing.T) {
	t.Parallel()
	away, none := errors.New("away"), errors.New("NOQUORUM")
	yes := opinion{addr: "a", master: "m:1"}
	for _, c := range []struct {
		got  finding
		want result
		seen string
	}{
		{judgeSeeds([]opinion{yes}), resultWarn, "the only one named"},
		{judgeSeeds([]opinion{yes, {addr: "b", err: away}}), resultWarn, "1 of 2 do not answer: b: away"},
		{judgeMaster("m", []opinion{yes, {addr: "b", master: "m:2"}}), resultWarn, "name several: m:1, m:2"},
		{judgeMaster("m", []opinion{yes, {addr: "b"}}), resultWarn, "not known by b"},
		{judgeMaster("m", []opinion{{err: away}}), resultWarn, "not checked"},
		{judgeQuorum([]opinion{yes, {addr: "b", master: "m:1", quorum: none}}), resultWarn, "b: NOQUORUM"},
		{judgeQuorum([]opinion{{addr: "b", master: "m:1", quorum: none}}), resultFail, "b: NOQUORUM"},
	} {
		if c.got.Result != c.want || !strings.Contains(c.got.Seen, c.seen) {
			t.Errorf("%+v", c.got)
		}
	}
	if got := masterOf([]opinion{{master: "x"}, {}, {master: "y"}, {master: "y"}}); got != "y" {
		t.Error(got)
	}
}
