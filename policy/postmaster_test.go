package policy

import (
	"net/netip"
	"testing"

	"postern/internal/problem"
	"postern/mail"
)

// Whoever answers a notice of ours, or writes to the postmaster of this host,
// reaches the people who run it (RFC 5321 section 4.5.1); nothing else of the
// host's name is ours by that.
func TestPostmasterOfTheHost(t *testing.T) {
	domain := Domain{Name: must(mail.ParseDomain("example.org")), Mailboxes: []string{"anna"}, Aliases: []Alias{
		{Name: "postmaster", To: []mail.Address{must(mail.ParseAddress("anna@example.org"))}},
	}}
	for _, c := range []struct {
		name    string
		domains []Domain
		to      string
		goes    string // "": it is refused
	}{
		{"the postmaster of the host", []Domain{{Name: domain.Name}}, "<postmaster@mx.example.net>", "postmaster@example.org"},
		{"in any case", []Domain{{Name: domain.Name}}, "<PostMaster@MX.example.NET>", "postmaster@example.org"},
		{"who is an alias", []Domain{domain}, "<postmaster@mx.example.net>", "anna@example.org"},
		{"of a domain of ours", []Domain{domain}, "<postmaster@example.org>", "anna@example.org"},
		{"bare", []Domain{domain}, "<postmaster>", "anna@example.org"},
		{"somebody else of the host", []Domain{domain}, "<anna@mx.example.net>", ""},
		{"below the host", []Domain{domain}, "<postmaster@sub.mx.example.net>", ""},
		{"above the host", []Domain{domain}, "<postmaster@example.net>", ""},
		{"by a route", []Domain{domain}, "<@far.example:postmaster@mx.example.net>", ""},
		{"with a route in its name", []Domain{domain}, "<postmaster%far.example@mx.example.net>", ""},
		{"of a host that has no domains", nil, "<postmaster@mx.example.net>", "postmaster@mx.example.net"},
	} {
		p, err := Compile(Source{
			Hostname: must(mail.ParseDomain("mx.example.net")), Listeners: []Listener{{Name: "mx", Role: MX}}, Domains: c.domains,
		})
		if fatal, _ := problem.Split(err); fatal != nil {
			t.Fatal(fatal)
		}
		g, refusal := p.Decide(Client{Listener: "mx", Addr: netip.MustParseAddr("198.51.100.7")}, must(mail.ParseReversePath("<>")), must(mail.ParseForwardPath(c.to)))
		got := ""
		if refusal == nil && len(g.Goes()) > 0 {
			got = g.Goes()[0].To.String()
		}
		if got != c.goes {
			t.Errorf("%s: %s goes to %q (%v), want %q", c.name, c.to, got, refusal, c.goes)
		}
		if proof := p.Prove(); !proof.Closed() {
			t.Errorf("%s: %v", c.name, proof.Counterexamples)
		}
	}
}
