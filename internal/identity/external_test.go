package identity

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestExternal(t *testing.T) {
	s := newStore(t) // anna, whose password is needed
	if err := errors.Join(
		s.Add(NewUser{Name: "bert@example.org", Certificate: true}),
		s.Add(NewUser{Name: "printer", Certificate: true}),
		s.Add(NewUser{Name: "off", Certificate: true}), s.Disable("off"),
	); err != nil {
		t.Fatal(err)
	}
	ours, theirs := newAuthority(t), newAuthority(t)
	l := NewLogin(Options{Store: s, ClientCAs: ours.pool()})
	named := func(cn string, addresses ...string) x509.Certificate {
		return x509.Certificate{Subject: pkix.Name{CommonName: cn}, EmailAddresses: addresses, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	}
	expired, forServers := named("printer"), named("printer")
	expired.NotAfter = time.Now().Add(-time.Minute)
	forServers.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	const notOffered = 534
	for _, c := range []struct {
		name    string
		from    authority
		cert    x509.Certificate
		authzid string
		want    string
		code    int
	}{
		{"the common name", ours, named("printer"), "", "printer", 235},
		{"in capitals", ours, named("Printer"), "", "printer", 235},
		{"the mail address", ours, named("Bert", "Bert@Example.org"), "", "bert@example.org", 235},
		{"and the client says so", ours, named("printer"), "PRINTER", "printer", 235},
		{"the client says another", ours, named("printer"), "bert@example.org", "", 535},
		{"the common name beside a mail address", ours, named("printer", "x@example.org"), "", "", 535},
		{"two addresses of one user", ours, named("", "bert@example.org", "BERT@example.org"), "", "bert@example.org", 235},
		{"two users", ours, named("", "bert@example.org", "printer"), "", "", 535},
		{"two users, and the client says which", ours, named("", "bert@example.org", "printer"), "printer", "printer", 235},
		{"a user for whom it is not enough", ours, named("anna"), "", "", 535},
		{"a user that is disabled", ours, named("off"), "", "", 535},
		{"nobody", ours, named("nobody"), "", "", 535},
		{"directory search", ours, named("*)("), "", "", 535},
		{"another authority", theirs, named("printer"), "", "", notOffered},
		{"expired", ours, expired, "", "", notOffered},
		{"for servers", ours, forServers, "", "", notOffered},
	} {
		state, _ := handshake(t, tls.VersionTLS13, c.from.issue(t, c.cert))
		if offered := slices.Contains(l.Mechanisms(state), "EXTERNAL"); offered != (c.code != notOffered) {
			t.Errorf("%s: offered is %v", c.name, offered)
		}
		client := Client{Addr: addr("192.0.2.1"), TLS: state}
		for _, initial := range [][]byte{[]byte(c.authzid), nil} {
			r := l.Authenticate(t.Context(), client, "EXTERNAL", initial, says(c.authzid))
			if r.Identity != c.want || r.Reply.Code != c.code {
				t.Errorf("%s: %q %v (%s), want %q %d", c.name, r.Identity, r.Reply, r.Reason, c.want, c.code)
			}
		}
	}
	bare, _ := handshake(t, tls.VersionTLS13, nil)
	if slices.Contains(l.Mechanisms(bare), "EXTERNAL") {
		t.Error("offered to a client without a certificate")
	}
	if r := l.Authenticate(t.Context(), Client{}, "EXTERNAL", []byte("printer"), says()); r.Reply.Code != 538 {
		t.Errorf("without TLS: %v", r.Reply)
	}
}
