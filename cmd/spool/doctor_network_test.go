package main

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jobspool/jobspool/queue/redistest"
)

// TestDoctorOverTLS sees certificates that are valid for two days, by which a trusting
// client, one that trusts nobody, and one that asks for another name come.
func TestDoctorOverTLS(t *testing.T) {
	t.Parallel()
	certs := redistest.NewTLS(t)
	r := redistest.Run(t, redistest.Options{AppendOnly: true, TLS: certs})
	own := "cert=" + url.QueryEscape(certs.CertFile) + "&key=" + url.QueryEscape(certs.KeyFile)
	trusting := "rediss://" + r.Addr() + "?" + own + "&ca=" + url.QueryEscape(certs.CAFile)
	d := doctored(t, "--redis", trusting)
	d.onlyBad(t, "certificate", "own certificate")
	d.want(t, "network", "certificate", resultWarn, "(in 1 day)")
	d.want(t, "network", "own certificate", resultWarn, "(in 1 day)")
	d = doctored(t, "--redis", "rediss://"+r.Addr()+"?"+own)
	d.want(t, "network", "certificate", resultFail, "not trusted: x509: certificate signed by unknown authority")
	d.want(t, "server", "writes", resultFail, "unknown authority")
	d = doctored(t, "--redis", trusting+"&server_name=elsewhere")
	d.want(t, "network", "certificate", resultFail, "not trusted: x509: certificate is valid for localhost")
	d = doctored(t, "--redis", trusting+"&insecure_skip_verify=true&server_name=elsewhere")
	d.want(t, "network", "certificate", resultWarn, "(in 1 day)")
	d = doctored(t, "--redis", strings.Replace(trusting, r.Addr(), redistest.Run(t, redistest.Options{}).Addr(), 1), "--timeout", "2s")
	d.want(t, "network", "certificate", resultWarn, "not checked")
}

func TestDoctorOfAUnixSocket(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/r.sock"
	redistest.Run(t, redistest.Options{AppendOnly: true, UnixSocket: path})
	doctored(t, "--redis", "redis-socket://"+path).onlyBad(t)
}

func TestDoctorOfAnUnknownHost(t *testing.T) {
	t.Parallel()
	d := doctored(t, "--redis", "redis://nowhere.invalid", "--timeout", "2s")
	d.want(t, "network", "names", resultFail, "nowhere.invalid: ")
	d.want(t, "server", "writes", resultFail, "")
}

func TestJudgeNames(t *testing.T) {
	t.Parallel()
	good := lookup{host: "a", addrs: 2, took: time.Millisecond}
	slow := lookup{host: "b", addrs: 1, took: 2 * time.Second}
	bad := lookup{host: "c", err: &net.DNSError{Err: "no such host", Name: "c", Server: "10.0.0.1:53"}}
	for _, c := range []struct {
		found []lookup
		want  result
		seen  string
	}{
		{nil, resultOK, "addresses only"},
		{[]lookup{good}, resultOK, "a: addresses: 2, in 1ms"},
		{[]lookup{good, slow}, resultWarn, "b took 2s"},
		{[]lookup{good, bad}, resultWarn, "c: no such host"},
		{[]lookup{bad}, resultFail, "c: no such host"},
	} {
		if got := judgeNames(c.found); got.Result != c.want || !strings.Contains(got.Seen, c.seen) {
			t.Errorf("%+v", got)
		}
	}
	hosts := namesIn(route{seeds: []string{"a:1", "127.0.0.1:1", "[::1]:1", "a:2", "b:1"}})
	if strings.Join(hosts, " ") != "a b" {
		t.Error(hosts)
	}
}

func TestJudgeCert(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		cert shownCert
		want result
		seen string
	}{
		{shownCert{ends: now.Add(22 * day)}, resultOK, "2026-01-23 00:00:00 (in 22 days)"},
		{shownCert{ends: now.Add(20 * day)}, resultWarn, "in 20 days"},
		{shownCert{ends: now.Add(-2 * day), trust: errors.New("expired")}, resultFail, "ended 2025-12-30 00:00:00 (2 days ago)"},
		{shownCert{ends: now.Add(99 * day), trust: errors.New("who is that")}, resultFail, "not trusted: who is that"},
		{shownCert{err: errors.New("away")}, resultWarn, "not checked: away"},
	} {
		if got := judgeCert(c.cert, now); got.Result != c.want || !strings.Contains(got.Seen, c.seen) {
			t.Errorf("%+v", got)
		}
	}
}
