package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TLS is a certificate authority of the test's own, with a certificate for a
// server at 127.0.0.1 or localhost and one for a client. The files are PEM and
// are removed when the test ends. Another TLS does not trust them.
type TLS struct {
	// CAFile, CertFile and KeyFile are what a client is given: the authority's
	// certificate, and the client's certificate and key.
	CAFile, CertFile, KeyFile string

	// ServerCertFile and ServerKeyFile are the server's certificate and key.
	ServerCertFile, ServerKeyFile string

	client *tls.Config
}

// certDays is how long certificates are valid.
const certDays = 2

// NewTLS makes keys and certificates in a temporary directory.
func NewTLS(tb testing.TB) *TLS {
	tb.Helper()
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "redistest CA"},
		IsCA:    true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "redistest server"},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	client := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "redistest client"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	t := &TLS{}
	m := minter{tb: tb, dir: tb.TempDir()}
	t.CAFile, _ = m.mint("ca", ca, nil)
	authority := m.last
	t.ServerCertFile, t.ServerKeyFile = m.mint("server", server, &authority)
	t.CertFile, t.KeyFile = m.mint("client", client, &authority)
	roots := x509.NewCertPool()
	roots.AddCert(authority.Leaf)
	t.client = &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots,
		Certificates: []tls.Certificate{m.last}, ServerName: "127.0.0.1",
	}
	return t
}

// ServerArgs returns what redis-server needs to speak TLS, except for a port; it
// refuses clients without a certificate. [Options.TLS] is simpler.
func (t *TLS) ServerArgs() []string {
	return []string{
		"--tls-ca-cert-file", t.CAFile,
		"--tls-cert-file", t.ServerCertFile,
		"--tls-key-file", t.ServerKeyFile,
		"--tls-auth-clients", "yes",
	}
}

// ClientConfig returns a configuration that trusts the server and shows the
// client's certificate. The caller owns it.
func (t *TLS) ClientConfig() *tls.Config { return t.client.Clone() }

// minter writes certificates to dir.
type minter struct {
	tb   testing.TB
	dir  string
	last tls.Certificate // the newest, with its key
}

// mint signs the certificate by the authority, by itself if that is nil, and
// returns the files of the certificate and the key.
func (m *minter) mint(name string, cert *x509.Certificate, authority *tls.Certificate) (certFile, keyFile string) {
	m.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	m.check(err)
	cert.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	m.check(err)
	now := time.Now()
	cert.NotBefore, cert.NotAfter = now.Add(-time.Hour), now.AddDate(0, 0, certDays)
	parent, signer := cert, any(key)
	if authority != nil {
		parent, signer = authority.Leaf, authority.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), signer)
	m.check(err)
	leaf, err := x509.ParseCertificate(der)
	m.check(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	m.check(err)
	m.last = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	return m.write(name+".crt", "CERTIFICATE", der), m.write(name+".key", "PRIVATE KEY", keyDER)
}

func (m *minter) write(name, kind string, der []byte) string {
	m.tb.Helper()
	path := filepath.Join(m.dir, name)
	m.check(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

func (m *minter) check(err error) {
	m.tb.Helper()
	if err != nil {
		m.tb.Fatal(err)
	}
}
