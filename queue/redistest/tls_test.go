package redistest_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/jobspool/jobspool/queue/redistest"
)

func tlsPing(t *testing.T, addr string, conf *tls.Config) error {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, TLSConfig: conf, MaxRetries: -1, DialerRetries: 1})
	defer c.Close()
	return c.Ping(t.Context()).Err()
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := redistest.NewTLS(t), redistest.NewTLS(t)
	s := redistest.Run(t, redistest.Options{TLS: ca})
	must(t, tlsPing(t, s.Addr(), ca.ClientConfig()))

	// The files say the same as the configuration.
	pair, err := tls.LoadX509KeyPair(ca.CertFile, ca.KeyFile)
	must(t, err)
	conf := ca.ClientConfig()
	conf.Certificates = []tls.Certificate{pair}
	must(t, tlsPing(t, s.Addr(), conf))

	if got, err := try(s.Addr(), "PING", time.Second); err == nil && got == "+PONG" {
		t.Error("the server answers without TLS")
	}
	var unknown x509.UnknownAuthorityError
	if err := tlsPing(t, s.Addr(), other.ClientConfig()); !errors.As(err, &unknown) {
		t.Errorf("with another authority: %v, want %T", err, unknown)
	}
	conf.Certificates = nil
	if err := tlsPing(t, s.Addr(), conf); err == nil {
		t.Error("the server takes a client without a certificate")
	}
	must(t, s.Kill())
	must(t, s.Restart())
	must(t, tlsPing(t, s.Addr(), ca.ClientConfig()))
}

func TestTLSThroughProxy(t *testing.T) {
	ca := redistest.NewTLS(t)
	s := redistest.Run(t, redistest.Options{TLS: ca})
	p := redistest.NewProxy(t, s.Addr())
	must(t, tlsPing(t, p.Addr(), ca.ClientConfig()))
	p.Freeze()
	done := make(chan error, 1)
	go func() { done <- tlsPing(t, p.Addr(), ca.ClientConfig()) }()
	select {
	case err := <-done:
		t.Errorf("answered while frozen: %v", err)
	case <-time.After(100 * time.Millisecond):
		p.Thaw()
		must(t, <-done)
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "redis.sock")
	s := redistest.Run(t, redistest.Options{UnixSocket: path})
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: path, MaxRetries: -1, DialerRetries: 1})
	defer c.Close()
	must(t, c.Set(t.Context(), "job", "here", 0).Err())
	expect(t, s.Addr(), "GET job", "here") // the port is there too
	must(t, s.Kill())
	if err := c.Ping(t.Context()).Err(); err == nil {
		t.Error("the socket of a killed server answers")
	}
	must(t, s.Restart())
	must(t, c.Ping(t.Context()).Err())
}
