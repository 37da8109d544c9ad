package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"sync/atomic"
	"time"

	"postern/internal/plaintext"
	"postern/internal/problem"
	"postern/internal/state"
)

// certificates are the host's certificate, which may be renewed while the
// relay runs, and the authorities behind those of clients.
type certificates struct {
	from    Certificate
	clients *x509.CertPool
	current atomic.Pointer[loaded]
}

type loaded struct {
	certificate *tls.Certificate
	seen        [2]time.Time // when its files were written
}

// loadCertificates reads the files of a configuration. What cannot be read is
// an error: a relay without its certificate would speak in clear.
func loadCertificates(from Certificate, clientCAs []string) (*certificates, error) {
	c := &certificates{from: from}
	l, err := from.load()
	if err != nil {
		return nil, err
	}
	c.current.Store(l)
	if len(clientCAs) == 0 {
		return c, nil
	}
	c.clients = x509.NewCertPool()
	for _, name := range clientCAs {
		text, err := plaintext.ReadFile(name)
		if err != nil {
			return nil, problem.At(from.At, fmt.Sprintf("client_ca %s: %v", name, err), "name a PEM file that this user can read")
		}
		if !c.clients.AppendCertsFromPEM(text) {
			return nil, problem.At(from.At, fmt.Sprintf("client_ca %s holds no certificate", name), "name a PEM file")
		}
	}
	return c, nil
}

func (from Certificate) load() (*loaded, error) {
	pair, err := tls.LoadX509KeyPair(from.File, from.Key)
	if err != nil {
		do := "name the PEM files of a certificate and of its key, readable for this user"
		return nil, problem.At(from.At, fmt.Sprintf("certificate %s, key %s: %v", from.File, from.Key, err), do)
	}
	l := &loaded{certificate: &pair}
	for i, name := range []string{from.File, from.Key} {
		if info, err := os.Stat(name); err == nil {
			l.seen[i] = info.ModTime()
		}
	}
	return l, nil
}

// refresh reads the files again when one of them was written since. A pair
// that does not fit, as while it is being replaced, leaves the old one in use.
func (c *certificates) refresh() (renewed bool, err error) {
	old := c.current.Load()
	for i, name := range []string{c.from.File, c.from.Key} {
		info, err := os.Stat(name)
		if err == nil && !info.ModTime().Equal(old.seen[i]) {
			fresh, err := c.from.load()
			if err != nil {
				return false, err
			}
			c.current.Store(fresh)
			return true, nil
		}
	}
	return false, nil
}

// leaf returns the certificate itself.
func (c *certificates) leaf() *x509.Certificate { return c.current.Load().certificate.Leaf }

// config makes the TLS of one listener. Each has its own, with its own ticket
// keys: a session of one port must not be resumed on another.
func (c *certificates) config(login bool) *tls.Config {
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12, // RFC 8996
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load().certificate, nil },
	}
	if login && c.clients != nil {
		config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, c.clients
	}
	return config
}

// selfSigned returns the certificate that is made when none is named: it
// encrypts, and proves nothing.
func selfSigned(f *state.Folder, host string) (Certificate, error) {
	from := Certificate{File: f.Join("self-signed.pem"), Key: f.Join("self-signed.key")}
	if l, err := from.load(); err == nil && l.certificate.Leaf.VerifyHostname(host) == nil && time.Now().Before(l.certificate.Leaf.NotAfter) {
		return from, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return from, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return from, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return from, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return from, err
	}
	return from, errors.Join(
		state.WriteFile(from.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})),
		state.WriteFile(from.File, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
	)
}
