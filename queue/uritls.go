package queue

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// tls returns the configuration of a TLS scheme. Without a server name, each dial
// uses the host it dials.
func (p *uriParts) tls(use bool, serverName string) (*tls.Config, error) {
	if !use {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName}
	if name := p.take("server_name"); name != "" {
		cfg.ServerName = name
	}
	switch p.take("insecure_skip_verify") {
	case "", "false":
	case "true":
		cfg.InsecureSkipVerify = true
	default:
		return nil, errors.New("parameter insecure_skip_verify is neither true nor false")
	}
	var err error
	if cfg.RootCAs, err = readPool(p.take("ca")); err != nil {
		return nil, err
	}
	cfg.Certificates, err = readPair(p.take("cert"), p.take("key"))
	return cfg, err
}

func readPool(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("parameter ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("parameter ca: no PEM certificate in %s", file)
	}
	return pool, nil
}

// readPair does not wrap what crypto/tls says: it may tell of what is in the files.
func readPair(certFile, keyFile string) ([]tls.Certificate, error) {
	if certFile == "" && keyFile == "" {
		return nil, nil
	}
	if certFile == "" || keyFile == "" {
		return nil, errors.New("parameters cert and key go together")
	}
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("parameter cert: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("parameter key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("parameters cert and key: %s and %s are not a PEM certificate and its key", certFile, keyFile)
	}
	return []tls.Certificate{pair}, nil
}
