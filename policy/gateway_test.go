package policy

import (
	"net/netip"
	"strings"
	"testing"

	"postern/internal/problem"
	"postern/mail"
)

func reaches(t *testing.T, list ...string) (to []Reach) {
	t.Helper()
	for _, s := range list {
		r, err := ParseReach(s)
		if err != nil {
			t.Fatal(err)
		}
		if r.String() != s {
			t.Errorf("%q reads as %q", s, r)
		}
		to = append(to, r)
	}
	return to
}

func gatewaySource(t *testing.T, g ...Gateway) Source {
	t.Helper()
	s := Source{
		Hash: "test", Hostname: hostOf(t, "mx.example.org"), Listeners: []Listener{{Name: "mx", Role: MX}},
		Users:   []User{{Name: "anna"}, {Name: "anna/shop", MailOnly: true}, {Name: "anna/proxy"}},
		Trusted: []TrustedClient{{Name: "scanner", Networks: []Network{{Prefix: netip.MustParsePrefix("192.0.2.40/32")}}}, {Name: "other", Networks: []Network{{Prefix: netip.MustParsePrefix("192.0.2.41/32")}}}},
		Around:  Surroundings{Own: []netip.Addr{netip.MustParseAddr("203.0.113.1")}},
	}
	s.Gateways = g
	return s
}

func TestPass(t *testing.T) {
	p, err := Compile(gatewaySource(t, Gateway{
		Name: "out", Login: true, Clients: []Allowed{{Client: "scanner"}},
		To: reaches(t, "mail.example.org:587", "192.0.2.9:25", "10.0.0.5:25", "[2001:db8::9]:465", "*:443"),
	}))
	if fatal, _ := problem.Split(err); fatal != nil {
		t.Fatal(fatal)
	}
	anna := Client{Listener: "out", Addr: netip.MustParseAddr("198.51.100.7"), Identity: "anna"}
	scanner := Client{Listener: "out", Addr: netip.MustParseAddr("192.0.2.40")}
	for _, c := range []struct {
		name   string
		client Client
		host   string
		port   uint16
		want   string // the rule that refuses, or who passes
	}{
		{"a user, to a named host", anna, "mail.example.org", 587, "anna"},
		{"its name in other letters", anna, "MAIL.example.org.", 587, "anna"},
		{"another port of it", anna, "mail.example.org", 25, "named"},
		{"a host below it", anna, "x.mail.example.org", 587, "named"},
		{"a host that ends like it", anna, "evilmail.example.org", 587, "named"},
		{"a named address", anna, "192.0.2.9", 25, "anna"},
		{"the same address, mapped", anna, "::ffff:192.0.2.9", 25, "anna"},
		{"a private address that is named", anna, "10.0.0.5", 25, "anna"},
		{"its neighbour", anna, "10.0.0.6", 25, "named"},
		{"any host, on the port that is open to all", anna, "www.far.example", 443, "anna"},
		{"any mail server", anna, "mx.far.example", 25, "named"},
		{"this machine, on the port that is open to all", anna, "127.0.0.1", 443, "outside"},
		{"what a cloud tells its machines", anna, "169.254.169.254", 443, "outside"},
		{"one of our own addresses", anna, "203.0.113.1", 443, "outside"},
		{"this machine, by its name", anna, "localhost", 443, "outside"},
		{"the trusted client", scanner, "mail.example.org", 587, "scanner"},
		{"a trusted client that lost its trust", Client{Listener: "out", Addr: scanner.Addr, Suspended: true}, "mail.example.org", 587, "true-address"},
		{"a trusted client of another line", Client{Listener: "out", Addr: netip.MustParseAddr("192.0.2.41")}, "mail.example.org", 587, "known"},
		{"a token for mail", Client{Listener: "out", Addr: anna.Addr, Identity: "anna/shop"}, "mail.example.org", 587, "token"},
		{"the same from the trusted client", Client{Listener: "out", Addr: scanner.Addr, Identity: "anna/shop"}, "mail.example.org", 587, "token"},
		{"a token for gateways too", Client{Listener: "out", Addr: anna.Addr, Identity: "anna/proxy"}, "mail.example.org", 587, "anna/proxy"},
		{"a stranger", Client{Listener: "out", Addr: anna.Addr}, "mail.example.org", 587, "known"},
		{"a stranger with a name that nobody has", Client{Listener: "out", Addr: anna.Addr, Identity: "mallory"}, "mail.example.org", 587, "known"},
		{"a gateway that is not there", Client{Listener: "mx", Addr: anna.Addr, Identity: "anna"}, "mail.example.org", 587, "gateway"},
	} {
		to, err := NewPlace(c.host, c.port)
		if err != nil {
			t.Fatal(err)
		}
		g, refusal := p.Pass(c.client, to)
		got := g.Who()
		if refusal != nil {
			got = refusal.Rule
		}
		if got != c.want || g.IsZero() != (refusal != nil) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPassageClosesWhatANameMayPointTo(t *testing.T) {
	p, err := Compile(gatewaySource(t, Gateway{Name: "out", Login: true, To: reaches(t, "mail.example.org:587", "10.0.0.5:25", "*:443")}))
	if fatal, _ := problem.Split(err); fatal != nil {
		t.Fatal(fatal)
	}
	for _, c := range []struct {
		place, addr string
		closed      bool
	}{
		{"mail.example.org:587", "198.51.100.9", false},
		{"mail.example.org:587", "127.0.0.1", true},
		{"mail.example.org:587", "10.0.0.5", true},
		{"www.far.example:443", "169.254.169.254", true},
		{"www.far.example:443", "::ffff:10.0.0.1", true},
		{"www.far.example:443", "203.0.113.1", true},
		{"10.0.0.5:25", "10.0.0.5", false},
		{"10.0.0.5:25", "10.0.0.6", true},
	} {
		r, err := ParseReach(c.place)
		if err != nil {
			t.Fatal(err)
		}
		g, refusal := p.Pass(Client{Listener: "out", Addr: netip.MustParseAddr("198.51.100.7"), Identity: "anna"}, Place{Name: r.name, Addr: r.addr, Port: r.port})
		if refusal != nil {
			t.Fatal(refusal)
		}
		if why := g.Closes(netip.MustParseAddr(c.addr)); (why != "") != c.closed {
			t.Errorf("%s at %s: %q", c.place, c.addr, why)
		}
	}
	if (Passage{}).Closes(netip.MustParseAddr("198.51.100.9")) == "" {
		t.Error("the zero passage leads somewhere")
	}
}

func TestGatewaysThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		g    Gateway
		want string
	}{
		{"for nobody", Gateway{Name: "out", To: reaches(t, "a.example:443")}, "would be for nobody"},
		{"to nowhere", Gateway{Name: "out", Login: true}, "leads nowhere"},
		{"to every mail server", Gateway{Name: "out", Login: true, To: reaches(t, "*:25")}, "port 25 of every host"},
		{"for a client that is none", Gateway{Name: "out", Clients: []Allowed{{Client: "nobody"}}, To: reaches(t, "a.example:443")}, "is no trusted_client"},
		{"with the name of a listener", Gateway{Name: "mx", Login: true, To: reaches(t, "a.example:443")}, "the name of another way in"},
	} {
		p, err := Compile(gatewaySource(t, c.g))
		if p != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A trusted client whom a gateway leads has a way in, and needs no address to send as.
func TestTrustedClientsOfGatewaysHaveAWayIn(t *testing.T) {
	gate := Gateway{Name: "out", To: reaches(t, "a.example:443")}
	for _, c := range []struct {
		led  []string
		want string // of the warnings
	}{
		{[]string{"scanner", "other"}, ""},
		{[]string{"scanner"}, "trusted clients have no way in"},
	} {
		g := gate
		for _, name := range c.led {
			g.Clients = append(g.Clients, Allowed{Client: name})
		}
		_, err := Compile(gatewaySource(t, g))
		fatal, warnings := problem.Split(err)
		if fatal != nil || (warnings == nil) != (c.want == "") || warnings != nil && !strings.Contains(warnings.Error(), c.want) {
			t.Errorf("%v: %v, %v; want %q", c.led, fatal, warnings, c.want)
		}
	}
}

// TestEveryPassRuleIsNeeded takes each lock away: the proof must find it.
func TestEveryPassRuleIsNeeded(t *testing.T) {
	all := passRules
	defer func() { passRules = all }()
	s := gatewaySource(t, Gateway{Name: "out", Login: true, Clients: []Allowed{{Client: "scanner"}}, To: reaches(t, "mail.example.org:587", "*:443")})
	p, err := Compile(s)
	if fatal, _ := problem.Split(err); fatal != nil {
		t.Fatal(fatal)
	}
	if proof := p.Prove(); !proof.Closed() || len(proof.Gateways) != 1 || len(proof.Gateways[0].Passages) == 0 {
		t.Fatalf("%+v", proof.Gateways)
	}
	for i, rule := range all {
		if rule.name == "gateway" {
			continue // without it there is nothing to ask
		}
		passRules = append(append([]passRule{}, all[:i]...), all[i+1:]...)
		if p.Prove().Closed() {
			t.Errorf("without the rule %q the proof is closed all the same", rule.name)
		}
	}
}

func TestNewPlaceRefuses(t *testing.T) {
	for _, host := range []string{"", ".", "a b", "127.1", "0x7f.1", "2130706433", "[127.0.0.1", "user@host", "host:25", "fe80::1%eth0", strings.Repeat("a.", 200)} {
		if p, err := NewPlace(host, 25); err == nil {
			t.Errorf("NewPlace(%q) = %v", host, p)
		}
	}
}

func FuzzParseReach(f *testing.F) {
	for _, s := range []string{"mail.example.org:587", "192.0.2.7:25", "[2001:db8::1]:25", "*:443", "localhost:25", "a:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReach(s)
		if err != nil {
			return
		}
		if again, err := ParseReach(r.String()); err != nil || again != r {
			t.Errorf("%q reads as %q, and that as %q (%v)", s, r, again, err)
		}
	})
}

func hostOf(t *testing.T, s string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
