package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"
)

// offersExternal reports whether the client showed a certificate that one of
// our authorities issued for a client.
func offersExternal(l *Login, state *tls.ConnectionState) bool {
	_, err := l.certificate(state)
	return err == nil
}

// certificate returns the client's certificate. It is verified here whatever
// the listener's TLS configuration did: to ask for a certificate is not to
// check it.
func (l *Login) certificate(state *tls.ConnectionState) (*x509.Certificate, error) {
	if l.clientCAs == nil || state == nil || len(state.PeerCertificates) == 0 {
		return nil, errors.New("no client certificate")
	}
	o := x509.VerifyOptions{Roots: l.clientCAs, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range state.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := state.PeerCertificates[0].Verify(o); err != nil {
		return nil, err
	}
	return state.PeerCertificates[0], nil
}

// external is EXTERNAL (RFC 4422 appendix A): the identity is the one that the
// certificate names and that says that a certificate is enough. The names are
// its mail addresses or, when it has none, its common name.
func (l *Login) external(_ context.Context, a *attempt) Result {
	cert, err := l.certificate(a.client.TLS)
	if err != nil {
		return refused(a, err.Error())
	}
	authzid, err := a.first()
	if err != nil {
		return gone(err)
	}
	names := cert.EmailAddresses
	if len(names) == 0 {
		names = []string{cert.Subject.CommonName}
	}
	var found *account
	for _, name := range names {
		if len(authzid) > 0 && !sameName(string(authzid), name) {
			continue
		}
		acc, _ := l.find(a.client, name)
		if !acc.usable(time.Now()) || !acc.certificate || acc == found {
			continue
		}
		if found != nil {
			return refused(a, "the certificate names several users, and the client none of them")
		}
		found = acc
	}
	if found == nil {
		return refused(a, "no user of the certificate of "+quote(cert.Subject.CommonName)+" may log in as "+l.name(string(authzid)))
	}
	return l.accepted(a.client, found.Identity, "EXTERNAL")
}
