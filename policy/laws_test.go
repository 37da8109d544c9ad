package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"postern/internal/problem"
	"postern/mail"
	"postern/plan"
)

func paths(from, to string) (mail.ReversePath, mail.ForwardPath) {
	return must(mail.ParseReversePath(from)), must(mail.ParseForwardPath(to))
}

// randomAddr prefers the neighbourhood of what the sample names.
func randomAddr(r *rand.Rand) netip.Addr {
	switch r.IntN(4) {
	case 0:
		return netip.AddrFrom4([4]byte{10, 1, 2, byte(r.IntN(256))})
	case 1:
		return netip.AddrFrom4([4]byte(fmt.Appendf(nil, "%04d", r.IntN(10000))))
	case 2:
		var b [16]byte
		copy(b[:], "\x20\x01\x0d\xb8")
		b[15] = byte(r.IntN(256))
		return netip.AddrFrom16(b)
	}
	return netip.AddrFrom16(netip.AddrFrom4([4]byte{10, 1, 2, byte(r.IntN(256))}).As16()) // mapped
}

// Every address is decided on as the witness of its class.
func TestClassesSpeakForTheirAddresses(t *testing.T) {
	p := compiled(t, sample())
	classes := p.Classes()
	for _, v4 := range []bool{true, false} {
		networks, of := 0, 0
		for _, c := range p.cuts() {
			if c.prefix.Addr().Is4() == v4 {
				networks++
			}
		}
		for _, c := range classes {
			if c.First.Is4() == v4 {
				of++
			}
		}
		if of > 2*networks+1 {
			t.Errorf("IPv4 %v: %d classes of %d networks", v4, of, networks)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	from, to := paths("<scanner@example.org>", "<b@far.example>")
	for range 100_000 {
		a := randomAddr(r)
		found := 0
		for _, c := range classes {
			if !c.Contains(a) {
				continue
			}
			found++
			for _, l := range []string{"mx", "trusted"} {
				one, _ := p.Decide(Client{Listener: l, Addr: a}, from, to)
				all, _ := p.Decide(Client{Listener: l, Addr: inside(c)}, from, to)
				if one.IsZero() != all.IsZero() {
					t.Fatalf("%s on %s is not decided on as %s", a, l, inside(c))
				}
			}
		}
		if found != 1 {
			t.Fatalf("%s is in %d classes", a, found)
		}
	}
}

func TestWitnesses(t *testing.T) {
	source := sample()
	for _, n := range []string{"192.0.2.16/28", "2001:db8:1::/64"} {
		source.Trusted[0].Networks = append(source.Trusted[0].Networks, Network{netip.MustParsePrefix(n), problem.Pos{File: "postern.hcl", Line: 13}})
	}
	seen := map[string]bool{}
	for _, a := range compiled(t, source).Witnesses() {
		seen[a.String()] = true
	}
	for _, want := range []string{
		"10.1.2.39", "10.1.2.40", "10.1.2.41", // one address: both neighbours
		"192.0.2.15", "192.0.2.16", "192.0.2.31", "192.0.2.32", // a network: its ends too
		"2001:db8:0:ffff:ffff:ffff:ffff:ffff", "2001:db8:1::", "2001:db8:1:0:ffff:ffff:ffff:ffff", "2001:db8:1:1::",
		"127.0.0.1", "::1", "198.51.100.66", "2001:db8:66::66",
	} {
		if !seen[want] {
			t.Errorf("%s is no witness", want)
		}
	}
}

func TestExplainTakesTheWayOfDecide(t *testing.T) {
	p := compiled(t, sample())
	r := rand.New(rand.NewPCG(3, 4))
	v := &prover{p: p, proof: &Proof{}}
	v.world()
	listeners := []string{"mx", "submission", "submissions", "trusted", ghost}
	for range 10_000 {
		c := Client{Listener: listeners[r.IntN(len(listeners))], Addr: randomAddr(r), TLS: r.IntN(2) == 0, Identity: v.identities[r.IntN(len(v.identities))], Suspended: r.IntN(5) == 0}
		from, to := v.senders[r.IntN(len(v.senders))], v.recipients[r.IntN(len(v.recipients))].to
		g, refusal := p.Decide(c, from, to)
		e := p.Explain(c, from, to)
		if g.String() != e.Grant.String() || g.Origin() != e.Grant.Origin() || (refusal == nil) != (e.Refusal == nil) {
			t.Fatalf("%+v %s %s: decided %v, %v; explained %v, %v", c, from, to, g, refusal, e.Grant, e.Refusal)
		}
		if refusal != nil && (refusal.Rule != e.Refusal.Rule || !e.Steps[len(e.Steps)-1].Refused) {
			t.Fatalf("refused by %s, explained by %s", refusal.Rule, e.Refusal.Rule)
		}
	}
}

// No form of the auditor's battery leads a stranger's mail outside.
func TestNoFormOfTheBatteryIsGranted(t *testing.T) {
	p := compiled(t, sample())
	for _, f := range plan.Forms() {
		for _, d := range p.source.Domains {
			token, _ := mail.ParseAddress("ptaaaaaaaaaaaaaaaaaaaaaaaa@far.example")
			e, missing := f.Expand(plan.Facts{
				Addr: netip.MustParseAddr("192.0.2.1"), Host: p.source.Hostname, Domain: d.Name, Local: must(mail.NewAddress("postmaster", d.Name)),
				RelayDomain: d.Name, Backup: must(mail.ParseDomain("backup.far.example")), Partner: must(mail.ParseDomain("partner.example")), CollectorIP: netip.MustParseAddr("198.51.100.9"),
			}, plan.Token("ptaaaaaaaaaaaaaaaaaaaaaaaa"), token)
			if len(missing) > 0 {
				t.Fatalf("form %s needs %v", f.ID, missing)
			}
			from, err := mail.ParseReversePath("<" + e.Sender + ">")
			to, err2 := mail.ParseForwardPath("<" + e.Recipient + ">")
			if err != nil || err2 != nil {
				continue // the engine refuses what is no path
			}
			for _, a := range p.Witnesses() {
				for _, l := range []string{"mx", "submission", "submissions", "trusted"} {
					if l == "trusted" && p.TrustedBy(a) != "" {
						continue // no stranger
					}
					g, _ := p.Decide(Client{Listener: l, Addr: a, TLS: true}, from, to)
					if l != "mx" && !g.IsZero() {
						t.Errorf("form %s is granted to %s on %s", f.ID, a, l)
					}
					for _, goes := range g.Goes() {
						if goes.From.IsZero() && !p.Ours(goes.To.Domain()) {
							t.Errorf("form %s leads to %s", f.ID, goes.To)
						}
					}
				}
			}
		}
	}
}

func TestNamesThatAreNotOurs(t *testing.T) {
	p := compiled(t, sample())
	for _, c := range []struct {
		to   string
		ours bool
	}{
		{"<anna@example.org>", true},
		{"<anna@EXAMPLE.ORG>", true},
		{"<ANNA@example.org>", true},
		{"<anna+x@example.org>", true},
		{"<sales@example.org>", true},
		{"<postmaster@example.org>", true},
		{"<Postmaster>", true},
		{"<anna@evilexample.org>", false},
		{"<anna@example.org.evil.example>", false},
		{"<anna@sub.example.org>", false},
		{"<anna@org>", false},
		{"<anna@xn--exmple-cua.org>", false},
		{"<anna@ex\u00e4mple.org>", false},
		{"<anna@[192.0.2.1]>", false},
		{"<+x@example.org>", false},
		{"<nobody@example.org>", false},
		{`<"anna@far.example"@example.org>`, false},
		{`<"anna "@example.org>`, false},
	} {
		to, err := mail.ParseForwardPath(c.to)
		if err != nil {
			t.Errorf("%s: %v", c.to, err)
			continue
		}
		g, _ := p.Decide(Client{Listener: "mx", Addr: netip.MustParseAddr("198.51.100.7")}, mail.NullPath(), to)
		if g.IsZero() == c.ours {
			t.Errorf("%s: granted %v, want %v", c.to, !g.IsZero(), c.ours)
		}
	}
}

func TestAliases(t *testing.T) {
	alias := func(name string, to ...string) Alias {
		a := Alias{Name: name, At: problem.Pos{File: "f", Line: 1}}
		for _, each := range to {
			a.To = append(a.To, must(mail.ParseAddress(each)))
		}
		return a
	}
	chain := func(n int) (list []Alias) {
		for i := range n {
			list = append(list, alias(fmt.Sprint("a", i), fmt.Sprintf("a%d@example.org", i+1)))
		}
		return append(list, alias(fmt.Sprint("a", n), "anna@example.org"))
	}
	var many []string
	for i := range 101 {
		many = append(many, fmt.Sprintf("u%d@asked.example.org", i))
	}
	outside := alias("x", "b@far.example")
	named := func(name, sender string, to ...string) Alias {
		a := alias(name, to...)
		a.Sender = mail.ReverseTo(must(mail.ParseAddress(sender)))
		return a
	}
	foreignSender := outside
	foreignSender.Sender = mail.ReverseTo(must(mail.ParseAddress("me@elsewhere.example")))
	ourSender := outside
	ourSender.Sender = mail.ReverseTo(must(mail.ParseAddress("owner@example.org")))
	for _, c := range []struct {
		name    string
		aliases []Alias
		want    string // of the error; "": it compiles
		goes    int    // addresses that the first one leads to
	}{
		{"itself", []Alias{alias("x", "x@example.org")}, "leads back to itself", 0},
		{"a circle of two", []Alias{alias("x", "y@example.org"), alias("y", "x@example.org")}, "leads back to itself", 0},
		{"a circle of three", []Alias{alias("x", "y@example.org"), alias("y", "z@example.org"), alias("z", "x@example.org")}, "leads back to itself", 0},
		{"two ways to one mailbox", []Alias{alias("x", "y@example.org", "z@example.org"), alias("y", "anna@example.org"), alias("z", "anna@example.org")}, "", 1},
		{"deep", chain(4), "", 1},
		{"too deep", chain(5), "leads through more than 5 others", 0},
		{"wide", []Alias{alias("x", many[:100]...)}, "", 100},
		{"too wide", []Alias{alias("x", many...)}, "leads to more than 100 addresses", 0},
		{"nowhere", []Alias{alias("x")}, "leads nowhere", 0},
		{"to nobody", []Alias{alias("x", "nobody@example.org")}, "which does not exist", 0},
		{"outside, in strangers' names", []Alias{outside}, "in the name of strangers", 0},
		{"outside, in somebody else's name", []Alias{foreignSender}, "in the name of strangers", 0},
		{"outside, in our name", []Alias{ourSender}, "", 1},
		{"outside, in a circle of bounces", []Alias{named("x", "x@example.org", "b@far.example")}, "a bounce would be forwarded again", 0},
		{"outside, bounces to an alias that leads outside", []Alias{named("x", "owner-x@example.org", "b@far.example"), named("owner-x", "anna@example.org", "c@elsewhere.example")}, "which leads to c@elsewhere.example", 0},
		{"outside, bounces outside over two aliases", []Alias{named("x", "o@example.org", "b@far.example"), alias("o", "y@example.org"), named("y", "anna@example.org", "c@elsewhere.example")}, "which leads to c@elsewhere.example", 0},
		{"outside, bounces to a detail of itself", []Alias{named("x", "x+bounces@example.org", "b@far.example")}, "a bounce would be forwarded again", 0},
		{"outside, bounces to a mailbox behind an alias", []Alias{named("x", "owner-x@example.org", "b@far.example"), alias("owner-x", "anna@example.org")}, "", 1},
		{"to a route", []Alias{alias("x", `"b%far.example"@example.org`)}, "read such an address as a route", 0},
		{"a name that is a route", []Alias{alias("x%y", "anna@example.org")}, "read such a name as a route", 0},
		{"twice", []Alias{alias("x", "anna@example.org"), alias("X", "ben@example.org")}, "stands twice", 0},
	} {
		s := sample()
		s.Domains[0].Aliases = c.aliases
		p, err := Compile(s)
		fatal, _ := problem.Split(err)
		switch {
		case c.want == "" && fatal != nil:
			t.Errorf("%s: %v", c.name, fatal)
		case c.want != "" && (fatal == nil || !strings.Contains(fatal.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, fatal, c.want)
		case c.want == "":
			_, to := paths("<>", "<"+c.aliases[0].Name+"@example.org>")
			g, refusal := p.Decide(Client{Listener: "mx", Addr: netip.MustParseAddr("198.51.100.7")}, mail.NullPath(), to)
			if refusal != nil || len(g.Goes()) != c.goes {
				t.Errorf("%s: goes to %v (%v), want %d", c.name, g.Goes(), refusal, c.goes)
			}
		}
	}
}

// A message goes on in the alias's name, and a notice in nobody's: a bounce of
// what was forwarded is not bounced again.
func TestNoticesAreForwardedFromTheNullPath(t *testing.T) {
	p := compiled(t, sample())
	for _, c := range []struct{ from, want string }{
		{"<a@elsewhere.example>", "<owner-away@example.org>"},
		{"<>", ""},
	} {
		from, to := paths(c.from, "<Away@example.org>")
		g, refusal := p.Decide(Client{Listener: "mx", Addr: netip.MustParseAddr("198.51.100.7")}, from, to)
		if refusal != nil || len(g.Goes()) != 1 || g.Leaves() != 1 || g.Alias() != "away@example.org" {
			t.Errorf("from %s: %+v (%v)", c.from, g, refusal)
			continue
		}
		got := ""
		if d := g.Goes()[0]; !d.From.IsZero() {
			got = d.From.String()
		}
		if got != c.want {
			t.Errorf("from %s: goes on from %q, want %q", c.from, got, c.want)
		}
		again, refusal, err := p.Renew(g.Record())
		if err != nil || refusal != nil || again.Goes()[0] != g.Goes()[0] {
			t.Errorf("from %s: decided again: %+v (%v, %v)", c.from, again, refusal, err)
		}
	}
}

func TestSenderOfAnAliasThatDoesNotExist(t *testing.T) {
	_, err := Compile(sample())
	_, warnings := problem.Split(err)
	if warnings == nil || !strings.Contains(warnings.Error(), "owner-away@example.org, which does not exist, so bounces come back to nobody") {
		t.Errorf("warnings: %v", warnings)
	}
}

func TestGrantsAreDecidedAgain(t *testing.T) {
	p := compiled(t, sample())
	for _, c := range []struct {
		name     string
		client   Client
		from, to string
		change   func(s *Source)
		cause    Cause
	}{
		{
			"the user is gone",
			Client{Listener: "submission", Addr: netip.MustParseAddr("198.51.100.7"), TLS: true, Identity: "anna"},
			"<anna@example.org>", "<b@far.example>",
			func(s *Source) { s.Users = s.Users[1:] }, NoIdentity,
		},
		{
			"the right is gone",
			Client{Listener: "submissions", Addr: netip.MustParseAddr("198.51.100.7"), TLS: true, Identity: "anna"},
			"<sales@example.org>", "<b@far.example>",
			func(s *Source) { s.Users[0].MaySendAs = s.Users[0].MaySendAs[:1] }, NotYours,
		},
		{
			"the trusted network is gone",
			Client{Listener: "trusted", Addr: netip.MustParseAddr("10.1.2.40")},
			"<scanner@example.org>", "<b@far.example>",
			func(s *Source) { s.Trusted = nil }, NotTrusted,
		},
		{
			"the domain is gone",
			Client{Listener: "mx", Addr: netip.MustParseAddr("198.51.100.7")},
			"<a@far.example>", "<anna@example.org>",
			func(s *Source) { s.Domains = s.Domains[1:2] }, Relaying,
		},
		{
			"the mailbox is gone",
			Client{Listener: "mx", Addr: netip.MustParseAddr("198.51.100.7")},
			"<a@far.example>", "<ben@example.org>",
			func(s *Source) { s.Domains[0].Mailboxes, s.Domains[0].Aliases = []string{"anna"}, nil }, UnknownMailbox,
		},
	} {
		from, to := paths(c.from, c.to)
		g, refusal := p.Decide(c.client, from, to)
		if refusal != nil {
			t.Fatalf("%s: %v", c.name, refusal)
		}
		same, refusal, err := p.Renew(g.Record())
		if err != nil || refusal != nil || same.Record() != g.Record() || !slices.Equal(same.Goes(), g.Goes()) {
			t.Errorf("%s: renewed under the same policy: %v, %v, %v", c.name, same, refusal, err)
		}
		s := sample()
		c.change(&s)
		lost, refusal, err := compiled(t, s).Renew(g.Record())
		if err != nil || refusal == nil || refusal.Cause != c.cause || !lost.IsZero() {
			t.Errorf("%s: %v, %v, %v", c.name, lost, refusal, err)
		}
	}
	for _, c := range []struct { // well formed, and made by hand
		name  string
		r     Record
		cause Cause
	}{
		{"a user that nobody knows", Record{Reason: "authenticated", Who: "ghost", From: "<anna@example.org>", To: "<b@far.example>", TLS: true}, NoIdentity},
		{"a user in somebody else's name", Record{Reason: "authenticated", Who: "anna", From: "<ben@example.org>", To: "<b@far.example>", TLS: true}, NotYours},
		{"nobody", Record{Reason: "authenticated", From: "<anna@example.org>", To: "<b@far.example>", TLS: true}, NeedLogin},
		{"a login that was not protected", Record{Reason: "authenticated", Who: "anna", From: "<anna@example.org>", To: "<b@far.example>"}, NeedTLS},
		{"a stranger as the scanner", Record{Reason: "trusted_client", Who: "scanner", Addr: "198.51.100.7", From: "<scanner@example.org>", To: "<b@far.example>"}, NotTrusted},
		{"the scanner without its address", Record{Reason: "trusted_client", Who: "scanner", From: "<scanner@example.org>", To: "<b@far.example>"}, NotTrusted},
		{"a foreign domain as ours", Record{Reason: "inbound", Who: "example.org", From: "<a@far.example>", To: "<b@far.example>"}, Relaying},
		{"a route through ours", Record{Reason: "inbound", Who: "example.org", From: "<>", To: "<b%far.example@example.org>"}, Form},
	} {
		g, refusal, err := p.Renew(c.r)
		if err != nil || refusal == nil || refusal.Cause != c.cause || !g.IsZero() {
			t.Errorf("%s: renewed: %v, %v, %v; want %s", c.name, g, refusal, err, c.cause)
		}
	}
	for _, r := range []Record{
		{},
		{Reason: "grant", To: "<b@far.example>", From: "<>"},
		{Reason: "inbound", To: "b@far.example", From: "<>"},
		{Reason: "inbound", To: "<anna@example.org>", From: ""},
		{Reason: "inbound", To: "<anna@example.org>", From: "<>", Addr: "nowhere"},
	} {
		if g, _, err := p.Renew(r); !errors.Is(err, ErrNoRecord) || !g.IsZero() {
			t.Errorf("%+v was renewed: %v, %v", r, g, err)
		}
	}
}

func FuzzParseSenders(f *testing.F) {
	for _, seed := range []string{"*", "<>", "*@example.org", "anna@example.org", `"a b"@example.org`, "*@[192.0.2.1]", "@example.org"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseSenders(s)
		if err != nil {
			return
		}
		if q, err := ParseSenders(p.String()); err != nil || q != p {
			t.Errorf("ParseSenders(%q) = %v, which reads as %v (%v)", s, p, q, err)
		}
	})
}

// Whatever a stranger writes, nothing of it leaves in his name.
func FuzzStranger(f *testing.F) {
	p, _ := Compile(sample())
	for _, seed := range []string{"<anna@example.org>", "<b@far.example>", "<b%far.example@asked.example.org>", `<"b@far.example"@all.example.org>`, "<away@example.org>", "<Postmaster>"} {
		f.Add("<a@far.example>", seed)
	}
	f.Fuzz(func(t *testing.T, sender, recipient string) {
		from, err := mail.ParseReversePath(sender)
		to, err2 := mail.ParseForwardPath(recipient)
		if err != nil || err2 != nil {
			return
		}
		for _, l := range []string{"mx", "submission", "submissions", "trusted"} {
			g, refusal := p.Decide(Client{Listener: l, Addr: netip.MustParseAddr("198.51.100.7"), TLS: true}, from, to)
			if g.IsZero() == (refusal == nil) || l != "mx" && !g.IsZero() {
				t.Fatalf("%s: %s to %s: %v, %v", l, from, to, g, refusal)
			}
			for _, d := range g.Goes() {
				if d.From.IsZero() && !p.Ours(d.To.Domain()) {
					t.Fatalf("%s leads to %s", to, d.To)
				}
			}
		}
	})
}
