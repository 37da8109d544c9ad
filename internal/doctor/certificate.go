package doctor

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"
)

// soon is how long before its end a certificate should have been renewed: who
// renews automatically does so at a third of 90 days, or at half of shorter ones.
const soon = 14 * 24 * time.Hour

// checkCertificate: it is valid now, covers the hostname, and its key fits.
func checkCertificate(_ context.Context, s Server, m Machine) []Finding {
	if s.Certificate == nil {
		return []Finding{{
			Level: Note, What: "no certificate is configured: what is made at start proves nothing to clients",
			Do: "name one in tls { certificate = ..., key = ... }",
		}}
	}
	if len(s.Certificate.Certificate) == 0 {
		return []Finding{{Level: Problem, What: "the certificate's file holds none", Do: "name a PEM file that begins with the server's certificate"}}
	}
	leaf, err := x509.ParseCertificate(s.Certificate.Certificate[0])
	if err != nil {
		return []Finding{{Level: Problem, What: fmt.Sprintf("the certificate cannot be read: %v", err), Do: "name a PEM file that begins with the server's certificate"}}
	}
	var list []Finding
	day := func(t time.Time) string { return t.UTC().Format("2 Jan 2006 15:04 MST") }
	switch left := leaf.NotAfter.Sub(m.Now); {
	case left <= 0:
		list = append(list, Finding{Level: Problem, What: "the certificate expired on " + day(leaf.NotAfter), Do: "renew it, then postern reload"})
	case m.Now.Before(leaf.NotBefore):
		list = append(list, Finding{Level: Problem, What: "the certificate is valid only from " + day(leaf.NotBefore), Do: "see that the clock is right"})
	case left < soon && left < leaf.NotAfter.Sub(leaf.NotBefore)/3:
		list = append(list, Finding{Level: Warning, What: fmt.Sprintf("the certificate expires on %s, in %d days", day(leaf.NotAfter), int(left.Hours()/24)), Do: "renew it, then postern reload"})
	}
	if name := s.Hostname.ASCII(); leaf.VerifyHostname(name) != nil {
		list = append(list, Finding{
			Level: Problem, What: fmt.Sprintf("the certificate is for %v and does not cover %s", leaf.DNSNames, name),
			Do: "have one made for that name, or set hostname to one that it covers",
		})
	}
	signer, ok := s.Certificate.PrivateKey.(crypto.Signer)
	key, comparable := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !comparable || !key.Equal(signer.Public()) {
		list = append(list, Finding{Level: Problem, What: "the key does not belong to the certificate", Do: "name the key that the certificate was made with"})
	}
	if len(list) == 0 {
		list = append(list, Finding{Level: OK, What: fmt.Sprintf("the certificate covers %s until %s, and its key fits", s.Hostname.ASCII(), day(leaf.NotAfter))})
	}
	return list
}
