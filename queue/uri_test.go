package queue_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobspool/jobspool/queue"
)

func TestParseURI(t *testing.T) {
	for uri, want := range map[string]asynq.RedisConnOpt{
		"redis://localhost":                      asynq.RedisClientOpt{Addr: "localhost:6379"},
		"REDIS://localhost/":                     asynq.RedisClientOpt{Addr: "localhost:6379"},
		"redis://u:p@127.0.0.1:7000/3":           asynq.RedisClientOpt{Addr: "127.0.0.1:7000", Username: "u", Password: "p", DB: 3},
		"redis://:p@h?db=3":                      asynq.RedisClientOpt{Addr: "h:6379", Password: "p", DB: 3},
		"redis://h/03/?db=03":                    asynq.RedisClientOpt{Addr: "h:6379", DB: 3},
		"redis://:@h":                            asynq.RedisClientOpt{Addr: "h:6379"},
		"redis://a%3Ab:%2F%3f%23%40%25%26+@h":    asynq.RedisClientOpt{Addr: "h:6379", Username: "a:b", Password: "/?#@%&+"},
		"redis://u:a:b@c,d@h":                    asynq.RedisClientOpt{Addr: "h:6379", Username: "u", Password: "a:b@c,d"},
		"redis://[::1]":                          asynq.RedisClientOpt{Addr: "[::1]:6379"},
		"redis://[fe80::1%25eth0]:7000/1":        asynq.RedisClientOpt{Addr: "[fe80::1%eth0]:7000", DB: 1},
		"redis-socket://:p@/run/redis?db=2":      asynq.RedisClientOpt{Network: "unix", Addr: "/run/redis", Password: "p", DB: 2},
		"redis-socket:/run/redis":                asynq.RedisClientOpt{Network: "unix", Addr: "/run/redis"},
		"unix://u:p@/run/redis@1.sock":           asynq.RedisClientOpt{Network: "unix", Addr: "/run/redis@1.sock", Username: "u", Password: "p"},
		"unix:///run/my%20redis":                 asynq.RedisClientOpt{Network: "unix", Addr: "/run/my redis"},
		"redis-cluster://h":                      asynq.RedisClusterClientOpt{Addrs: []string{"h:6379"}},
		"redis-cluster://u:p@a:1,b,[::1]:2,[::]": asynq.RedisClusterClientOpt{Addrs: []string{"a:1", "b:6379", "[::1]:2", "[::]:6379"}, Username: "u", Password: "p"},
		"redis-sentinel://:p@a:1,b:2?master=m": asynq.RedisFailoverClientOpt{
			MasterName: "m", SentinelAddrs: []string{"a:1", "b:2"}, SentinelPassword: "p",
		},
		"redis-sentinel://su:sp@a,[::1]/4?master=my%20m&username=u&password=%2B%26%40": asynq.RedisFailoverClientOpt{
			MasterName: "my m", SentinelAddrs: []string{"a:26379", "[::1]:26379"},
			SentinelUsername: "su", SentinelPassword: "sp", Username: "u", Password: "+&@", DB: 4,
		},
	} {
		got, err := queue.ParseURI(uri)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", uri, got, err, want)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	for uri, want := range map[string]string{
		"":                              "no scheme",
		"localhost:6379":                "no scheme; write for example redis://",
		"localhost:6379/0":              "no scheme",
		":secret@localhost:6379":        "no scheme",
		"redis:h":                       "no scheme",
		"http://h":                      "unknown scheme; known are redis,",
		"redisss://h":                   "unknown scheme",
		"redis://":                      "host 1: is empty",
		"redis://:7000":                 "host 1: is empty",
		"redis://h\n":                   "control character",
		"redis://h#secret":              "fragment",
		"redis://:se#cret@h":            "fragment",
		"redis://:se/cret@h:1":          "%2F",
		"redis://:se?cret@h:1":          "%3F",
		"redis://:%secret@h":            "the password is not percent-encoded",
		"redis://%secret:x@h":           "the user name is not percent-encoded",
		"redis://secret@h":              "a user name without a password",
		"redis://:secret@h:x":           "host 1: its port",
		"redis://h:0":                   "host 1: its port",
		"redis://h:65536":               "host 1: its port",
		"redis://h:":                    "host 1: its port",
		"redis://a::1":                  "in brackets",
		"redis://h:1:2":                 "in brackets",
		"redis://[h]":                   "in brackets",
		"redis://[::1":                  "host 1: is not",
		"redis://[::1]7000":             "follows the ]",
		"redis://%2Ftmp%2Fsock":         "host 1: is not",
		"redis://a,b":                   "several hosts",
		"redis://h/secret":              "not a number",
		"redis://h/-1":                  "not a number",
		"redis://h/+1":                  "not a number",
		"redis://h/2147483648":          "not a number",
		"redis://h/1/2":                 "more than a database",
		"redis://h/1?db=2":              "different databases",
		"redis://h?db=x":                "not a number",
		"redis://h?db=":                 "parameter db is empty",
		"redis://h?db":                  "parameter db is empty",
		"redis://h?db=1&db=1":           "parameter db is given twice",
		"redis://h?db=%zz":              "parameter db is not percent-encoded",
		"redis://h?timeout=secret":      "unknown parameter timeout; known are db,",
		"redis://h?%73ecret=1":          "unknown parameter;",
		"redis://h?master=m":            "parameter master does not belong",
		"redis://h?password=secret":     "parameter password does not belong",
		"redis://h?ca=/secret":          "parameter ca does not belong",
		"redis-socket://h/run/redis":    "no host",
		"redis-socket://":               "path is missing",
		"redis-socket:///":              "path is missing",
		"redis-socket:///%secret":       "path is not percent-encoded",
		"redis-socket:///a?master=m":    "parameter master does not belong",
		"redis-socket:///a?db=-1":       "not a number",
		"redis-sentinel://:secret@a:1":  "?master=name",
		"redis-sentinel://a?master=":    "parameter master is empty",
		"redis-sentinel://a,,b":         "host 2: is empty",
		"redis-sentinel://a,?master=m":  "host 2: is empty",
		"redis-sentinel://a/m?master=m": "not a number",
		"redis-sentinel://a?master=m&username=secret":       "of the master without a password",
		"redis-sentinel://a?master=m&password=a+secret":     "parameter password has a +",
		"redis-sentinel://a?master=m&password=x&secret=y":   "unknown parameter;",
		"redis-sentinel://a?master=m&password=x@secret":     "%40",
		"redis-sentinel://a?master=m&insecure_skip_verify=": "insecure_skip_verify is empty",
		"redis-cluster://a,b/1":                             "no databases",
		"redis-cluster://a,b?db=1":                          "parameter db does not belong",
		"rediss://h?insecure_skip_verify=yes":               "neither true nor false",
		"rediss://h?cert=/secret":                           "cert and key go together",
		"rediss://h?key=/secret":                            "cert and key go together",
		"rediss-socket:///a":                                "unknown scheme",
	} {
		got, err := queue.ParseURI(uri)
		switch {
		case err == nil:
			t.Errorf("%q was read as %+v", uri, got)
		case !strings.Contains(err.Error(), want):
			t.Errorf("%q: %v; want %q", uri, err, want)
		case strings.Contains(err.Error(), "cret"):
			t.Errorf("%q: the error shows the password: %v", uri, err)
		case got != nil:
			t.Errorf("%q: %+v with an error", uri, got)
		}
	}
}

func TestParseURIReadsTLSFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert@1.pem"), filepath.Join(dir, "key@1.pem")
	writeCertificate(t, cert, key)
	files := "ca=" + url.QueryEscape(cert) + "&cert=" + url.QueryEscape(cert) + "&key=" + url.QueryEscape(key)
	for uri, serverName := range map[string]string{
		"rediss://h:7000/1?" + files:                          "h",
		"rediss://[::1]?" + files:                             "::1",
		"rediss://h?server_name=n&" + files:                   "n",
		"rediss-cluster://a?" + files:                         "",
		"rediss-cluster://a,b?server_name=n&" + files:         "n",
		"rediss-sentinel://a,b?master=m&" + files:             "",
		"rediss-sentinel://a?master=m&server_name=n&" + files: "n",
	} {
		opt, err := queue.ParseURI(uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		cfg := tlsOf(opt)
		if cfg == nil || cfg.ServerName != serverName || cfg.MinVersion != tls.VersionTLS12 || cfg.InsecureSkipVerify ||
			cfg.RootCAs == nil || len(cfg.Certificates) != 1 {
			t.Errorf("%s: %+v, want server name %q", uri, cfg, serverName)
		}
	}
	for uri, insecure := range map[string]bool{
		"rediss://h":                            false,
		"rediss://h?insecure_skip_verify=false": false,
		"rediss://h?insecure_skip_verify=true":  true,
	} {
		opt, err := queue.ParseURI(uri)
		if err != nil {
			t.Fatal(err)
		}
		if cfg := tlsOf(opt); cfg.InsecureSkipVerify != insecure || cfg.RootCAs != nil || cfg.Certificates != nil {
			t.Errorf("%s: %+v", uri, cfg)
		}
	}
	if opt, _ := queue.ParseURI("redis://h"); tlsOf(opt) != nil {
		t.Error("redis:// uses TLS")
	}
}

func TestParseURINamesTheFileItCannotUse(t *testing.T) {
	dir := t.TempDir()
	cert, key, otherCert, otherKey := filepath.Join(dir, "c1"), filepath.Join(dir, "k1"), filepath.Join(dir, "c2"), filepath.Join(dir, "k2")
	writeCertificate(t, cert, key)
	writeCertificate(t, otherCert, otherKey)
	junk := filepath.Join(dir, "junk")
	must(t, os.WriteFile(junk, []byte("-----BEGIN SECRET-----\nc2VjcmV0\n-----END SECRET-----\n"), 0o600))
	gone := filepath.Join(dir, "gone")
	for query, want := range map[string]string{
		"ca=" + gone:                        gone,
		"ca=" + dir:                         dir,
		"ca=" + junk:                        junk,
		"ca=" + key:                         key,
		"cert=" + gone + "&key=" + key:      gone,
		"cert=" + cert + "&key=" + gone:     gone,
		"cert=" + junk + "&key=" + key:      junk,
		"cert=" + cert + "&key=" + junk:     junk,
		"cert=" + key + "&key=" + cert:      key,
		"cert=" + cert + "&key=" + otherKey: otherKey,
	} {
		_, err := queue.ParseURI("rediss://:hidden@h?" + query)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s named", query, err, want)
		} else if s := err.Error(); strings.Contains(s, "SECRET") || strings.Contains(s, "c2V") || strings.Contains(s, "hidden") {
			t.Errorf("%s: the error shows too much: %v", query, err)
		}
	}
}

func tlsOf(opt asynq.RedisConnOpt) *tls.Config {
	switch o := opt.(type) {
	case asynq.RedisClientOpt:
		return o.TLSConfig
	case asynq.RedisFailoverClientOpt:
		return o.TLSConfig
	case asynq.RedisClusterClientOpt:
		return o.TLSConfig
	}
	return nil
}

// writeCertificate writes a self-signed certificate and its key.
func writeCertificate(tb testing.TB, certFile, keyFile string) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(tb, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(tb, err)
	must(tb, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	must(tb, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// FuzzParseURI puts a password where passwords go into a URI of any shape, and
// looks for it in the error. Where asynq understands the URI too, both must agree.
func FuzzParseURI(f *testing.F) {
	for _, seed := range [][2]string{
		{"redis://u:", "@h:1/3?db=3"},
		{"rediss://:", "@[::1]:1?ca=/x&server_name=n"},
		{"redis-sentinel://a:1,b/2?master=m&username=u&password=", "&db=2"},
		{"rediss-sentinel://a?master=m&cert=/x&password=", "&key=/y"},
		{"redis-socket://:", "@/run/redis?db=1"},
		{"unix://u:", "@/run/redis"},
		{"redis-cluster://u:", "@a,b:2"},
		{"redis://:", ""},
		{"redis://h:1?x=", "#"},
		{"rediss://u:1?ca=", "@h"},
		{"%", "@"},
	} {
		f.Add(seed[0], seed[1])
	}
	const marker = "hunterTwo"
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(strings.ToLower(before+after), strings.ToLower(marker)) {
			t.Skip()
		}
		_ = checkURI(t, before+after)
		parameter := strings.HasSuffix(before, "?password=") || strings.HasSuffix(before, "&password=")
		if !strings.Contains(after, "@") && !parameter {
			t.Skip() // it is no password there
		}
		for _, password := range []string{marker, marker + "/x", "x?" + marker, "x#" + marker, "x&" + marker, "%" + marker, "x@" + marker} {
			if err := checkURI(t, before+password+after); err != nil && strings.Contains(err.Error(), marker) {
				t.Errorf("%q %q: the error shows the password: %v", before, after, err)
			}
		}
	})
}

func checkURI(t *testing.T, uri string) error {
	t.Helper()
	opt, err := queue.ParseURI(uri)
	if (opt == nil) != (err != nil) {
		t.Fatalf("%q: %+v, %v", uri, opt, err)
	}
	theirs, theirErr := asynq.ParseRedisURI(uri)
	if err != nil || theirErr != nil {
		return err
	}
	switch o := opt.(type) {
	case asynq.RedisClientOpt:
		if o2 := theirs.(asynq.RedisClientOpt); !strings.HasPrefix(o.Addr, o2.Addr) || o.Network != o2.Network || o.Password != o2.Password {
			t.Fatalf("%q: %+v, asynq says %+v", uri, o, o2)
		}
	case asynq.RedisFailoverClientOpt:
		o2 := theirs.(asynq.RedisFailoverClientOpt)
		if o.MasterName != o2.MasterName || o.SentinelPassword != o2.SentinelPassword || len(o.SentinelAddrs) != len(o2.SentinelAddrs) {
			t.Fatalf("%q: %+v, asynq says %+v", uri, o, o2)
		}
	}
	return err
}
