package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

const (
	slowLookup = time.Second
	soonDays   = 21 // a certificate that ends earlier is to be renewed now
	day        = 24 * time.Hour
)

// lookup is what became of the look-up of a host name.
type lookup struct {
	host  string
	addrs int
	took  time.Duration
	err   error
}

// checkNames looks up the hosts among the seeds that are names.
func checkNames(ctx context.Context, r route) finding {
	hosts := namesIn(r)
	found := make([]lookup, len(hosts))
	eachOf(len(hosts), func(i int) {
		begin := time.Now()
		addrs, err := net.DefaultResolver.LookupHost(ctx, hosts[i])
		found[i] = lookup{hosts[i], len(addrs), time.Since(begin), err}
	})
	return judgeNames(found)
}

func namesIn(r route) []string {
	var hosts []string
	for _, seed := range r.seeds {
		host, _, err := net.SplitHostPort(seed)
		if err == nil && net.ParseIP(host) == nil && !r.unix() && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

func judgeNames(found []lookup) finding {
	const check = "names"
	var bad, slow, good []string
	for _, l := range found {
		switch {
		case l.err != nil:
			bad = append(bad, l.host+": "+lookupError(l.err))
		case l.took > slowLookup:
			slow = append(slow, l.host+" took "+shortTime(l.took))
		default:
			good = append(good, fmt.Sprintf("%s: addresses: %d, in %s", l.host, l.addrs, shortTime(l.took)))
		}
	}
	switch {
	case len(bad) == len(found) && len(bad) > 0:
		return failed(check, someOf(bad, "; "), "see to DNS, or the host in --redis")
	case len(bad) > 0:
		return warned(check, someOf(bad, "; "), "see to DNS, or the host in --redis")
	case len(slow) > 0:
		return warned(check, someOf(slow, "; ")+": each new connection waits for that", "see to DNS; a cache on this machine helps")
	case len(found) == 0:
		return passed(check, "none to look up: --redis has addresses only")
	}
	return passed(check, someOf(good, "; "))
}

func lookupError(err error) string {
	if e := new(net.DNSError); errors.As(err, &e) {
		return e.Err
	}
	return err.Error()
}

// shownCert is what a server shows in a TLS handshake.
type shownCert struct {
	ends  time.Time // of the first certificate of its chain to end
	trust error     // why a Producer would not go on
	err   error     // why there was no handshake
}

// checkCerts shakes hands with each address, without any command.
func checkCerts(ctx context.Context, r route, addrs []string) []finding {
	if r.tls == nil || len(addrs) == 0 {
		return nil
	}
	found := make([]finding, len(addrs))
	eachOf(len(addrs), func(i int) { found[i] = judgeCert(handshake(ctx, r, addrs[i]), time.Now()) })
	out := []finding{merge(addrs, found)}
	if own := r.tls.Certificates; len(own) > 0 && own[0].Leaf != nil {
		f := judgeCert(shownCert{ends: own[0].Leaf.NotAfter}, time.Now())
		f.Check = "own certificate"
		out = append(out, f)
	}
	return out
}

func handshake(ctx context.Context, r route, addr string) (cert shownCert) {
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	cfg := r.tls.Clone()
	if host, _, err := net.SplitHostPort(addr); err == nil && cfg.ServerName == "" {
		cfg.ServerName = host
	}
	strict := !cfg.InsecureSkipVerify
	cfg.InsecureSkipVerify = true // to see also what is not trusted; nothing is sent
	cfg.VerifyConnection = func(st tls.ConnectionState) error {
		for _, c := range st.PeerCertificates {
			if cert.ends.IsZero() || c.NotAfter.Before(cert.ends) {
				cert.ends = c.NotAfter
			}
		}
		if strict {
			cert.trust = verify(st, cfg)
		}
		return nil
	}
	d := tls.Dialer{Config: cfg}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return shownCert{err: err}
	}
	_ = conn.Close()
	return cert
}

// verify does what crypto/tls does by itself when it is not told to skip it.
func verify(st tls.ConnectionState, cfg *tls.Config) error {
	opts := x509.VerifyOptions{Roots: cfg.RootCAs, DNSName: cfg.ServerName, Intermediates: x509.NewCertPool()}
	for _, c := range st.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := st.PeerCertificates[0].Verify(opts)
	return err
}

func judgeCert(c shownCert, now time.Time) finding {
	const check, todo = "certificate", "renew it; Redis takes it with CONFIG SET tls-cert-file"
	if c.err != nil {
		return notMade(check, c.err)
	}
	left := c.ends.Sub(now)
	ends := fmt.Sprintf("%s (%s)", c.ends.UTC().Format(time.DateTime), humanDays(left))
	switch {
	case left <= 0:
		return failed(check, "ended "+ends, todo)
	case c.trust != nil:
		return failed(check, "not trusted: "+c.trust.Error(), "name the authority's certificate by ca=, or the server's name by server_name=")
	case left < soonDays*day:
		return warned(check, "ends "+ends, todo)
	}
	return passed(check, "trusted, ends "+ends)
}

func humanDays(d time.Duration) string {
	if d < 0 {
		return plural(int(-d/day), "day") + " ago"
	}
	return "in " + plural(int(d/day), "day")
}
