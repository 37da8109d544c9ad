package mail

import (
	"errors"
	"strings"
	"testing"
)

func TestParseForwardPath(t *testing.T) {
	long := strings.Repeat("a", 238)
	label := strings.Repeat("a", 63)
	accepted := []struct{ text, local, domain, route, canonical string }{
		{"<a@b.example>", "a", "b.example", "", "<a@b.example>"},
		{"<Postmaster>", "Postmaster", "", "", "<Postmaster>"},
		{`<"a"@b.example>`, "a", "b.example", "", "<a@b.example>"},
		{`<"a b"@b.example>`, "a b", "b.example", "", `<"a b"@b.example>`},
		{`<"a\"\\b"@b.example>`, `a"\b`, "b.example", "", `<"a\"\\b"@b.example>`},
		{`<"x@far.example"@ours.example>`, "x@far.example", "ours.example", "", `<"x@far.example"@ours.example>`},
		{`<"v@evil.example> ORCPT=rfc822;x"@ours.example>`, "v@evil.example> ORCPT=rfc822;x", "ours.example", "", `<"v@evil.example> ORCPT=rfc822;x"@ours.example>`},
		{"<a%far.example@ours.example>", "a%far.example", "ours.example", "", "<a%far.example@ours.example>"},
		{"<far.example!a@ours.example>", "far.example!a", "ours.example", "", "<far.example!a@ours.example>"},
		{"<@one.example,@two.example:a@b.example>", "a", "b.example", "@one.example,@two.example", "<@one.example,@two.example:a@b.example>"},
		{"<a@[192.0.2.1]>", "a", "[192.0.2.1]", "", "<a@[192.0.2.1]>"},
		{"<a@[IPv6:2001:db8::1]>", "a", "[IPv6:2001:db8::1]", "", "<a@[IPv6:2001:db8::1]>"},
		{"<müller@bücher.example>", "müller", "bücher.example", "", "<müller@bücher.example>"},
		{"<a@xn--i-7iq.example>", "a", "xn--i-7iq.example", "", "<a@xn--i-7iq.example>"},

		// What other servers take, and real mail has.
		{"<" + long + "@longest.example>", long, "longest.example", "", "<" + long + "@longest.example>"},
		{
			"<bounces+1234567-0a1b-anna.lindqvist=customer-with-a-long-name.example.org@em1.mailer.example>",
			"bounces+1234567-0a1b-anna.lindqvist=customer-with-a-long-name.example.org", "em1.mailer.example", "",
			"<bounces+1234567-0a1b-anna.lindqvist=customer-with-a-long-name.example.org@em1.mailer.example>",
		},
		{"<a@r3---sn.cache.example>", "a", "r3---sn.cache.example", "", "<a@r3---sn.cache.example>"},
		{"<a@in--mail.example>", "a", "in--mail.example", "", "<a@in--mail.example>"},
		{"<a@host_1.example>", "a", "host_1.example", "", "<a@host_1.example>"},
		{"<a@_b.example>", "a", "_b.example", "", "<a@_b.example>"},
		{"<a@" + label + ".example>", "a", label + ".example", "", "<a@" + label + ".example>"},
		{"<a@b.example.>", "a", "b.example", "", "<a@b.example>"},
		{"<a@bücher.example.>", "a", "bücher.example", "", "<a@bücher.example>"},
		{"<a..b@c.example>", "a..b", "c.example", "", `<"a..b"@c.example>`},
		{"<a.@c.example>", "a.", "c.example", "", `<"a."@c.example>`},
		{"<.a@c.example>", ".a", "c.example", "", `<".a"@c.example>`},
	}
	for _, c := range accepted {
		p, err := ParseForwardPath(c.text)
		if err != nil {
			t.Errorf("ParseForwardPath(%q): %v", c.text, err)
			continue
		}
		if p.Address().Local() != c.local || p.Address().Domain().String() != c.domain || p.Route() != c.route || p.String() != c.canonical {
			t.Errorf("ParseForwardPath(%q) = local %q domain %q route %q text %q", c.text, p.Address().Local(), p.Address().Domain(), p.Route(), p)
		}
	}
	refused := []struct {
		name, text string
		at         int
	}{
		{"no brackets", "a@b.example", 0},
		{"null path", "<>", 1},
		{"no domain", "<a>", 2},
		{"two at signs", "<a@evil.example@ours.example>", 15},
		{"no closing bracket", "<a@b.example", 12},
		{"something follows", "<a@b.example>x", 13},
		{"a space inside", "<a b@c.example>", 2},
		{"NUL", "<a\x00@b.example>", 2},
		{"bare CR", "<a\r@b.example>", 2},
		{"empty quoted local part", `<""@b.example>`, 1},
		{"a path of 257 octets", "<a" + long + "@longest.example>", 1},
		{"an address of 255 octets once it is quoted", "<.." + long[2:] + "@longest.example>", 1},
		{"dots alone", "<..@b.example>", 3},
		{"a label of 64 octets", "<a@a" + label + ".example>", 3},
		{"a name of 254 octets", "<a@" + strings.Repeat(label[:62]+".", 4) + "ab>", 3},
		{"invalid A-label", "<a@xn--\u0061.example>", 3},
		{"an A-label of ASCII", "<a@xn--example-.example>", 3},
		{"address without brackets", "<a@192.0.2.1>", 3},
		{"inet_aton style", "<a@127.1>", 3},
		{"octal literal", "<a@[0127.0.0.1]>", 3},
		{"zone", "<a@[IPv6:fe80::1%eth0]>", 3},
		{"two dots at the end", "<a@b.example..>", 3},
		{"a dot alone", "<a@.>", 4},
		{"trailing hyphen", "<a@b-.example>", 3},
		{"hyphens alone", "<a@--.example>", 3},
		{"empty label", "<a@b..example>", 3},
		{"leading hyphen", "<a@-b.example>", 3},
		{"ideographic full stop", "<a@b\u3002example>", 3},
		{"fullwidth at sign", "<a\uff20evil.example>", 17},
		{"invalid UTF-8", "<\xff@b.example>", 1},
		{"route without colon", "<@one.example a@b.example>", 13},
		{"comment", "<a(c)@b.example>", 2},
		{"postmaster behind a route", "<@one.example:postmaster>", 24},
	}
	for _, c := range refused {
		_, err := ParseForwardPath(c.text)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%s: ParseForwardPath(%q) = %v, want a SyntaxError", c.name, c.text, err)
		} else if syntax.At != c.at {
			t.Errorf("%s: ParseForwardPath(%q) fails at %d (%v), want %d", c.name, c.text, syntax.At, err, c.at)
		}
	}
}

func TestCutReversePath(t *testing.T) {
	for _, c := range []struct{ text, path, rest string }{
		{"<> SIZE=1", "<>", " SIZE=1"},
		{"<a@b.example> BODY=8BITMIME", "<a@b.example>", " BODY=8BITMIME"},
		{`<"> X="@b.example>y`, `<"> X="@b.example>`, "y"},
	} {
		p, rest, err := CutReversePath(c.text)
		if err != nil || p.String() != c.path || rest != c.rest {
			t.Errorf("CutReversePath(%q) = %q, %q, %v; want %q, %q", c.text, p, rest, err, c.path, c.rest)
		}
	}
	if _, err := ParseReversePath("<postmaster>"); err == nil {
		t.Error("a reverse-path needs a domain, even for postmaster")
	}
}

func TestDomainsThatAreTheSame(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"EXAMPLE.ORG", "example.org", true},
		{"bücher.example", "xn--bcher-kva.example", true},
		{"B\u00dcCHER.example", "bu\u0308cher.example", true}, // composed and decomposed
		{"evilexample.org", "example.org", false},
		{"[192.0.2.1]", "[192.0.2.1]", true},
		{"[ipv6:2001:DB8:0::1]", "[IPv6:2001:db8::1]", true},
	} {
		a, errA := ParseDomain(c.a)
		b, errB := ParseDomain(c.b)
		if errA != nil || errB != nil || a.Equal(b) != c.same {
			t.Errorf("%q equal to %q: %v, want %v (%v, %v)", c.a, c.b, a.Equal(b), c.same, errA, errB)
		}
	}
}

func TestZeroValuesAreNone(t *testing.T) {
	var f ForwardPath
	var r ReversePath
	if !f.IsZero() || !r.IsZero() || r.Null() || NullPath().IsZero() || f.String() != "" || r.String() != "" {
		t.Error("the zero path must be none, and must differ from the null path")
	}
	if (Domain{}).Within(Domain{}) {
		t.Error("no domain is within none")
	}
}

// The law of the package: what was parsed formats to a text that parses to
// the same value.
func FuzzForwardPath(f *testing.F) {
	for _, seed := range []string{
		"<a@b.example>", `<"a b"@[192.0.2.1]>`, "<@one.example,@two.example:a@b.example>", "<Postmaster>",
		"<a%far.example@ours.example>", "<far.example!a@ours.example>", `<"a\"@b"@c.example> NOTIFY=NEVER`,
		"<müller@bücher.example>", "<a@[IPv6:2001:db8::1]>", "<>", "<a@b@c.example>", "<@one.example:postmaster>",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, rest, err := CutForwardPath(s)
		if err != nil {
			return
		}
		if !strings.HasSuffix(s, rest) {
			t.Fatalf("CutForwardPath(%q): the rest %q is not the end of the text", s, rest)
		}
		q, err := ParseForwardPath(p.String())
		if err != nil || q != p {
			t.Fatalf("ParseForwardPath(%q) = %#v, %v; want %#v, read from %q", p, q, err, p, s)
		}
		if text := p.String(); strings.ContainsAny(text, "\r\n\x00") {
			t.Fatalf("%q formats to %q", s, text)
		}
		if d := p.Address().Domain(); !d.IsZero() {
			again, err := ParseDomain(d.ASCII())
			if err != nil || !again.Equal(d) {
				t.Fatalf("the A-label form %q of %q is another domain (%v)", d.ASCII(), d, err)
			}
		}
	})
}
