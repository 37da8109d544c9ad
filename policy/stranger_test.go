package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"postern/internal/problem"
	"postern/mail"
)

// The name in EHLO, the PTR record, headers, size and time are no inputs of a
// decision at all: Decide has no argument for them. What is left for a
// stranger to choose is the reverse-path, TLS and the name of a user; whatever
// it chooses, it reaches what it reaches with the null path and without TLS.
func TestNothingThatAStrangerSaysGrants(t *testing.T) {
	p := compiled(t, sample())
	v := &prover{p: p, proof: &Proof{}}
	v.world()
	senders := []mail.ReversePath{}
	for _, d := range []string{"example.org", "EXAMPLE.ORG", "sub.example.org", "asked.example.org", "mx.example.org", "far.example", "[127.0.0.1]", "localhost"} {
		for _, local := range []string{"anna", "scanner", "postmaster", "root", "MAILER-DAEMON", "a%far.example", "anna@example.org", "", "x" + strings.Repeat("y", 50)} {
			if a, err := mail.NewAddress(local, must(mail.ParseDomain(d))); err == nil {
				senders = append(senders, mail.ReverseTo(a))
			}
		}
	}
	if len(senders) < 50 {
		t.Fatalf("only %d reverse-paths", len(senders))
	}
	stranger := Client{Addr: netip.MustParseAddr("198.51.100.7")}
	for _, l := range []string{"mx", "submission", "submissions", "trusted", ghost} {
		for _, r := range v.recipients {
			plain := stranger
			plain.Listener = l
			before, _ := p.Decide(plain, mail.NullPath(), r.to)
			for _, from := range senders {
				for _, tls := range []bool{false, true} {
					c := plain
					c.TLS = tls
					if after, _ := p.Decide(c, from, r.to); after.IsZero() != before.IsZero() {
						t.Fatalf("%s, TLS %v: %s reaches %s, unlike the null path", l, tls, from, r.to)
					}
				}
			}
		}
	}
}

// A domain that is ours in one spelling is ours in each that means the same
// name, and in none that only looks so.
func TestNamesBeyondASCII(t *testing.T) {
	for _, written := range []string{"b\u00fccher.example", "xn--bcher-kva.example", "B\u00dcCHER.example"} {
		s := sample()
		s.Domains = []Domain{{Name: must(mail.ParseDomain(written)), Mailboxes: []string{"anna"}, At: problem.Pos{File: "f", Line: 1}}}
		p := compiled(t, s)
		for _, c := range []struct {
			name, domain string
			ours         bool
		}{
			{"U-label, NFC", "b\u00fccher.example", true},
			{"U-label, NFD", "bu\u0308cher.example", true},
			{"U-label, upper case", "B\u00dcCHER.EXAMPLE", true},
			{"A-label", "xn--bcher-kva.example", true},
			{"A-label, upper case", "XN--BCHER-KVA.EXAMPLE", true},
			{"with a dot at the end", "b\u00fccher.example.", true},
			{"without its dots", "bucher.example", false},
			{"Cyrillic letters", "b\u00fc\u0441her.example", false},
			{"another A-label", "xn--bcher-kvb.example", false},
			{"below it", "mail.b\u00fccher.example", false},
			{"full-width", "\uff42\u00fccher.example.far.example", false},
		} {
			to, err := mail.ParseForwardPath("<anna@" + c.domain + ">")
			if err != nil {
				continue // what is no path is nobody's
			}
			g, refusal := p.Decide(Client{Listener: "mx", Addr: netip.MustParseAddr("198.51.100.7")}, mail.NullPath(), to)
			if g.IsZero() == c.ours {
				t.Errorf("%s is ours; %s %q: %v (%v)", written, c.name, c.domain, g, refusal)
			}
		}
	}
}

// What our next hop hears of a domain of ours is its A-label in lower case,
// however it was written by a stranger or by the operator.
func TestOurDomainsAreHandedOnInALabels(t *testing.T) {
	s := sample()
	ours := must(mail.ParseDomain("b\u00fccher.example"))
	s.Domains = []Domain{
		{Name: ours, Mailboxes: []string{"anna"}, Aliases: []Alias{{Name: "team", To: []mail.Address{must(mail.ParseAddress("anna@B\u00dcCHER.example"))}}}},
		{Name: must(mail.ParseDomain("asked.b\u00fccher.example")), Asked: true},
		{Name: must(mail.ParseDomain("all.example")), CatchAll: must(mail.ParseAddress("anna@b\u00fccher.example"))},
	}
	p := compiled(t, s)
	for _, c := range []struct{ to, goes string }{
		{"<anna@b\u00fccher.example>", "anna@xn--bcher-kva.example"},
		{"<anna@XN--BCHER-KVA.Example>", "anna@xn--bcher-kva.example"},
		{"<Anna@\uff42\u00fccher.\uff45xample>", "Anna@xn--bcher-kva.example"},
		{"<anna@b\u00fccher.example\u200b>", "anna@xn--bcher-kva.example"},
		{"<anna@b\u00fccher.example.>", "anna@xn--bcher-kva.example"},
		{"<team@b\u00fccher.example>", "anna@xn--bcher-kva.example"},
		{"<x@asked.B\u00fccher.example>", "x@asked.xn--bcher-kva.example"},
		{"<x@ALL.example>", "anna@xn--bcher-kva.example"},
		{"<postmaster>", "postmaster@xn--bcher-kva.example"},
	} {
		_, to := paths("<>", c.to)
		g, refusal := p.Decide(Client{Listener: "mx", Addr: netip.MustParseAddr("198.51.100.7")}, mail.NullPath(), to)
		if refusal != nil || len(g.Goes()) != 1 || g.Goes()[0].To.String() != c.goes {
			t.Errorf("%+q goes to %v (%v), want %s", c.to, g.Goes(), refusal, c.goes)
		}
	}
}

// A local part that what keeps our mailboxes may read as a file, an option or
// an expansion is refused; elsewhere such addresses are somebody's.
func TestLocalPartsThatAreMoreThanNames(t *testing.T) {
	s := sample()
	p := compiled(t, s)
	user := Client{Listener: "submission", Addr: netip.MustParseAddr("198.51.100.7"), TLS: true, Identity: s.Users[0].Name}
	for _, local := range []string{
		"anna+/var/mail/root", "../anna", "anna+../../x", "anna..x", "anna+${run{x}}", "${local_part}", "-oQ/tmp", "anna+-oQ", "anna+~root",
		"~anna", ".anna", "anna+.forward", "a/b", "/S=anna/O=x",
	} {
		for _, d := range []string{"example.org", "asked.example.org", "all.example.org"} {
			to := mail.ForwardTo(must(mail.NewAddress(local, must(mail.ParseDomain(d)))))
			if g, refusal := p.Decide(Client{Listener: "mx", Addr: user.Addr}, mail.NullPath(), to); refusal == nil || refusal.Cause != Form {
				t.Errorf("%s: %v, %v; want %s", to, g.Goes(), refusal, Form)
			}
		}
	}
	from := mail.ReverseTo(must(mail.ParseAddress("anna@example.org")))
	for _, address := range []string{"/S=anna/O=x/@x400.far.example", `"a..b"@docomo.example`, "a.b.@docomo.example", "-a@far.example", "o'neill@far.example"} {
		if g, refusal := p.Decide(user, from, mail.ForwardTo(must(mail.ParseAddress(address)))); refusal != nil {
			t.Errorf("%s: %v, %v; want a grant", address, g, refusal)
		}
	}
	for _, local := range []string{"o'neill", "a-b", "a+b-c", "a{b}", "a$b", "a=b", "a~b", "a-", "a&b", "\u00fcn\u00ef"} {
		_, to := paths("<>", "<"+local+"@asked.example.org>")
		if _, refusal := p.Decide(Client{Listener: "mx", Addr: user.Addr}, mail.NullPath(), to); refusal != nil {
			t.Errorf("%s: %v", to, refusal)
		}
	}
}

// What takes every name that is not listed takes it to a mailbox of ours.
func TestCatchAll(t *testing.T) {
	for _, c := range []struct{ name, to, want string }{
		{"a mailbox of another domain of ours", "anna@example.org", ""},
		{"an alias of ours", "sales@example.org", ""},
		{"outside", "b@far.example", "outside: every stranger's guess would be mail to it"},
		{"below a domain of ours", "anna@sub.example.org", "outside: every stranger's guess would be mail to it"},
		{"nobody", "nobody@example.org", "which does not exist"},
	} {
		s := sample()
		s.Domains[2].CatchAll = must(mail.ParseAddress(c.to))
		p, err := Compile(s)
		fatal, _ := problem.Split(err)
		if c.want != "" {
			if fatal == nil || !strings.Contains(fatal.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.name, fatal, c.want)
			}
			continue
		}
		if fatal != nil {
			t.Errorf("%s: %v", c.name, fatal)
			continue
		}
		_, to := paths("<>", "<whoever@all.example.org>")
		g, refusal := p.Decide(Client{Listener: "mx", Addr: netip.MustParseAddr("198.51.100.7")}, mail.NullPath(), to)
		if refusal != nil || len(g.Goes()) == 0 {
			t.Errorf("%s: %v, %v", c.name, g, refusal)
		}
		for _, d := range g.Goes() {
			if !p.Ours(d.To.Domain()) {
				t.Errorf("%s leads to %s", c.name, d.To)
			}
		}
	}
}

// A detail behind the separator belongs to the mailbox; elsewhere it is a part
// of the name.
func TestSubaddresses(t *testing.T) {
	p := compiled(t, sample())
	for _, c := range []struct {
		to   string
		goes string // ""; refused
	}{
		{"<anna+news@example.org>", "anna+news@example.org"},
		{"<anna+a+b@example.org>", "anna+a+b@example.org"},
		{"<anna+@example.org>", "anna+@example.org"},
		{"<sales+x@example.org>", "anna@example.org ben@example.org"},
		{"<+anna@example.org>", ""},
		{"<news+anna@example.org>", ""},
		{"<anna-news@example.org>", ""},
		{"<anna+b%far.example@example.org>", ""},
		{"<nobody+x@all.example.org>", "anna@example.org"},
	} {
		_, to := paths("<>", c.to)
		g, refusal := p.Decide(Client{Listener: "mx", Addr: netip.MustParseAddr("198.51.100.7")}, mail.NullPath(), to)
		var goes []string
		for _, d := range g.Goes() {
			goes = append(goes, fmt.Sprint(d.To))
		}
		if got := strings.Join(goes, " "); got != c.goes {
			t.Errorf("%s: goes to %q (%v), want %q", c.to, got, refusal, c.goes)
		}
	}
}
