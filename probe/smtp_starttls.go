package probe

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"postern/mail"
	"postern/verdict"
)

// startTLS turns on TLS before the envelope.
func startTLS(ctx context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	return v.encrypt(ctx, nil)
}

// startTLSWithCertificate shows a client certificate that nobody has signed.
func startTLSWithCertificate(ctx context.Context, v *Visit, _ Play) (verdict.Stage, mail.Reply, error) {
	cert, err := ownCertificate(v.smtp.Helo)
	if err != nil {
		return "", mail.Reply{}, err
	}
	return v.encrypt(ctx, &tls.Config{Certificates: []tls.Certificate{cert}})
}

func (v *Visit) encrypt(ctx context.Context, config *tls.Config) (verdict.Stage, mail.Reply, error) {
	if v.Session.TLS != "" {
		return "", mail.Reply{}, fmt.Errorf("%w: the session is encrypted already", errNotOffered)
	}
	if !v.Offers("STARTTLS") {
		return "", mail.Reply{}, fmt.Errorf("%w: EHLO does not show STARTTLS", errNotOffered)
	}
	r, err := v.commandRaw(ctx, "STARTTLS\r\n")
	if err != nil || !r.Positive() {
		return verdict.AtMove, r, err
	}
	if err := v.startTLS(ctx, config); err != nil {
		return "", mail.Reply{}, fmt.Errorf("the TLS handshake failed: %w", err)
	}
	return "", mail.Reply{}, v.hello(ctx, "EHLO", v.smtp.Helo)
}

func ownCertificate(name string) (tls.Certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
}
