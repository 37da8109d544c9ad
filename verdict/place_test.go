package verdict

import (
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"postern/door"
)

// The addresses of the rule: T tests X, the provider's server P is trusted by
// X or hands mail on for it.
var (
	addrT = netip.MustParseAddr("192.0.2.66")
	addrX = netip.MustParseAddr("203.0.113.10")
	addrP = netip.MustParseAddr("198.51.100.4")
	addrO = netip.MustParseAddr("198.51.100.99")
)

func TestPlace(t *testing.T) {
	forwarded := Trail{Seen: addrX, By: "smtp.provider.example", Egress: addrP, EgressNames: []string{"smtp.provider.example"}, Names: []string{"client20.isp.example"}}
	stripped := forwarded
	stripped.Seen, stripped.By = netip.Addr{}, ""
	with := func(t Trail, change func(*Trail)) Trail { change(&t); return t }
	for _, c := range []struct {
		name string
		t    Trail
		kind Kind
		sure Sure
		what string // lost, smarthost, cascade
	}{
		// Every row of the table.
		{"R=T, E=X: the server relays", Trail{Seen: addrT, Egress: addrX}, KindSMTP, Certain, ""},
		{"R=T, E another, the next field from X: through a smarthost", Trail{Seen: addrT, Egress: addrP, Handed: true}, KindSMTP, Certain, "smarthost"},
		{"R=T, E another, and no field says from whom", Trail{Seen: addrT, Egress: addrP}, KindSMTP, Likely, "smarthost"},
		{"R private, E=X: the client's address is lost", Trail{Seen: netip.MustParseAddr("172.17.0.1"), Egress: addrX}, KindSMTP, Certain, "lost"},
		{"R loopback, E=X", Trail{Seen: netip.MustParseAddr("127.0.0.1"), Egress: addrX}, KindSMTP, Certain, "lost"},
		{"R link-local, E=X", Trail{Seen: netip.MustParseAddr("fe80::1"), Egress: addrX}, KindSMTP, Certain, "lost"},
		{"R in shared space, E=X", Trail{Seen: netip.MustParseAddr("100.64.1.1"), Egress: addrX}, KindSMTP, Certain, "lost"},
		{"R unique local, E=X", Trail{Seen: netip.MustParseAddr("fd00::1"), Egress: addrX}, KindSMTP, Certain, "lost"},
		{"R=X, E=X: it sees everybody as itself", Trail{Seen: addrX, Egress: addrX}, KindSMTP, Certain, "lost"},
		{"R=X, E another: forwarded", forwarded, KindForward, Certain, ""},
		{"R=X, E another, nothing else known", Trail{Seen: addrX, Egress: addrP}, KindForward, Certain, ""},
		{"no trace field at a SOCKS proxy, E=X", Trail{Door: door.SOCKS, Egress: addrX, Through: true}, KindSOCKS, Certain, ""},
		{"no trace field at a CONNECT proxy, E=X", Trail{Door: door.Connect, Egress: addrX, Through: true}, KindConnect, Certain, ""},
		{"a proxy that hands on to another", Trail{Door: door.SOCKS, Egress: addrP, Through: true}, KindSOCKS, Certain, "cascade"},
		{"a proxy that leads port 25 to a server of its own", Trail{Door: door.Connect, Egress: addrX, Seen: addrX}, KindConnect, Likely, ""},

		// A mail proxy: the one that greets is not the one that took the message.
		{"R=X, E another, it greets with X's own name", with(forwarded, func(t *Trail) {
			t.Banner, t.Greeter, t.BannerAt = "client20.isp.example", "client20.isp.example", []netip.Addr{addrX}
			t.Certificate = []string{"client20.isp.example"}
		}), KindForward, Certain, "lost"},
		{"R=X, E another, it greets with a name without a domain", with(forwarded, func(t *Trail) { t.Greeter = "ubuntu" }), KindForward, Certain, "lost"},
		{"R loopback, E=X", Trail{Seen: netip.MustParseAddr("127.0.0.1"), Egress: addrX, By: "backend.corp.example", Greeter: "mx.corp.example"}, KindForward, Likely, "lost"},
		{"R private, E another", Trail{Seen: netip.MustParseAddr("10.0.0.9"), Egress: addrP, By: "backend.corp.example", Greeter: "mx.corp.example", Names: []string{"mx.corp.example"}, Banner: "mx.corp.example", BannerAt: []netip.Addr{addrX}}, KindForward, Guess, "lost"},
		{"R=T: the proxy passes its clients' addresses on", Trail{Seen: addrT, Egress: addrX, By: "backend.corp.example", Greeter: "mx.corp.example"}, KindSMTP, Certain, ""},
		{"R loopback, E=X, and the server writes its name without a domain", Trail{Seen: netip.MustParseAddr("127.0.0.1"), Egress: addrX, By: "mx", Greeter: "mx.corp.example"}, KindSMTP, Certain, "lost"},
		{"R loopback, E=X, and the server writes its address", Trail{Seen: netip.MustParseAddr("127.0.0.1"), Egress: addrX, By: "[203.0.113.10]", Greeter: "mx.corp.example"}, KindSMTP, Certain, "lost"},
		{"R=X, and X handed the message on", with(forwarded, func(t *Trail) { t.Handed, t.Greeter = true, "mx.corp.example" }), KindSMTP, Likely, "lost smarthost"},
		{"R loopback, E=X, and the first hop has another of X's own names", Trail{Seen: netip.MustParseAddr("127.0.0.1"), Egress: addrX, By: "client20.isp.example", Names: []string{"client20.isp.example"}, Greeter: "mx.corp.example"}, KindSMTP, Certain, "lost"},

		// What looks alike and is not.
		{"R private because the form claimed it", Trail{Seen: netip.MustParseAddr("127.0.0.1"), Claimed: true, Egress: addrX}, KindSMTP, Certain, ""},
		{"R=X, and X handed the message on: lost behind its own translation, and a smarthost", with(forwarded, func(t *Trail) { t.Handed = true }), KindSMTP, Likely, "lost smarthost"},
		{"R=X, and the first hop has X's own name", with(forwarded, func(t *Trail) { t.By = "client20.isp.example" }), KindSMTP, Guess, "lost smarthost"},
		{"R private, E another, handed on by X", Trail{Seen: netip.MustParseAddr("10.0.0.1"), Egress: addrP, Handed: true}, KindSMTP, Likely, "lost smarthost"},
		{"R private, E another, and the greeting is E's", Trail{Seen: netip.MustParseAddr("10.8.0.2"), Egress: addrP, Banner: "smtp.provider.example", BannerAt: []netip.Addr{addrP}, EgressNames: []string{"smtp.provider.example"}}, KindForward, Guess, ""},
		{"R somebody else's, E=X", Trail{Seen: addrO, Egress: addrX}, KindSMTP, Certain, ""},
		{"R somebody else's, E another, no sign", Trail{Seen: addrO, Egress: addrP}, KindSMTP, Guess, "smarthost"},
		{"R=X in IPv6's clothes", Trail{Seen: netip.MustParseAddr("::ffff:203.0.113.10"), Egress: addrP}, KindForward, Certain, ""},

		{"R public where our own address is private: ours behind translation", Trail{Us: netip.MustParseAddr("192.168.1.7"), Seen: addrT, Egress: addrX}, KindSMTP, Likely, ""},
		{"the same, and it leaves by another machine", Trail{Us: netip.MustParseAddr("192.168.1.7"), Seen: addrT, Egress: addrP}, KindSMTP, Likely, "smarthost"},
		{"R=X where our own address is private", Trail{Us: netip.MustParseAddr("192.168.1.7"), Seen: addrX, Egress: addrP}, KindForward, Certain, ""},

		// Trace fields stripped.
		{"stripped, E=X", Trail{Egress: addrX}, KindSMTP, Likely, ""},
		{"stripped, E another, no sign", stripped, KindSMTP, Guess, "smarthost"},
		{"stripped, EHLO greets X", with(stripped, func(t *Trail) { t.Echo = addrX }), KindForward, Guess, ""},
		{"stripped, EHLO greets us", with(stripped, func(t *Trail) { t.Echo = addrT }), KindSMTP, Likely, "smarthost"},
		{"stripped, the greeting leads to E and has its name", with(stripped, func(t *Trail) {
			t.Banner, t.BannerAt = "smtp.provider.example", []netip.Addr{addrP}
		}), KindForward, Likely, ""},
		{"stripped, the greeting leads elsewhere", with(stripped, func(t *Trail) {
			t.Banner, t.BannerAt = "mx.elsewhere.example", []netip.Addr{addrO}
		}), KindSMTP, Guess, "smarthost"},
		{"stripped, the greeting is X's own", with(stripped, func(t *Trail) {
			t.Banner, t.BannerAt = "client20.isp.example", []netip.Addr{addrX}
		}), KindSMTP, Likely, "smarthost"},
		{"stripped, the certificate is E's and the greeting too", with(stripped, func(t *Trail) {
			t.Banner, t.Certificate = "smtp.provider.example", []string{"smtp.provider.example"}
		}), KindForward, Guess, ""},
	} {
		if c.t.Tested = addrX; !c.t.Us.IsValid() {
			c.t.Us = addrT
		}
		if c.t.Door == 0 {
			c.t.Door = door.SMTP
		}
		p := Place(c.t)
		what := ""
		for _, w := range []struct {
			is   bool
			word string
		}{{p.Lost, "lost"}, {p.Smarthost, "smarthost"}, {p.Cascade, "cascade"}} {
			if w.is && what != "" {
				what += " "
			}
			if w.is {
				what += w.word
			}
		}
		if p.Kind != c.kind || p.Sure != c.sure || what != c.what {
			t.Errorf("%s: %s, %s, %q; want %s, %s, %q\nsigns %+v", c.name, p.Kind, p.Sure, what, c.kind, c.sure, c.what, p.Signs)
		}
		if p.Guilty != addrX || p.Listed != c.t.Egress {
			t.Errorf("%s: blames %s and expects %s on blocklists, want %s and %s", c.name, p.Guilty, p.Listed, addrX, c.t.Egress)
		}
	}
}

// The laws of the rule, for whatever a server may write.
func TestPlaceKeepsItsLaws(t *testing.T) {
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		return rapid.SampledFrom([]netip.Addr{
			{},
			addrT, addrX, addrP, addrO, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1"),
			netip.MustParseAddr("::ffff:203.0.113.10"), netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("2001:db8::1"),
		}).Draw(t, "addr")
	})
	name := rapid.SampledFrom([]string{"", "a.example", "A.example.", "b.example", "[127.0.0.1]", "\x00"})
	rapid.Check(t, func(t *rapid.T) {
		trail := Trail{
			Door:   rapid.SampledFrom([]door.Door{0, door.SMTP, door.SOCKS, door.Forward, door.Connect}).Draw(t, "door"),
			Tested: addr.Draw(t, "X"), Us: addr.Draw(t, "T"), Seen: addr.Draw(t, "R"), Egress: addr.Draw(t, "E"), Echo: addr.Draw(t, "echo"),
			By: name.Draw(t, "by"), Banner: name.Draw(t, "banner"), Greeter: name.Draw(t, "greeter"), Handed: rapid.Bool().Draw(t, "handed"), Claimed: rapid.Bool().Draw(t, "claimed"),
			Through: rapid.Bool().Draw(t, "through"), Names: rapid.SliceOfN(name, 0, 3).Draw(t, "names"), EgressNames: rapid.SliceOfN(name, 0, 3).Draw(t, "egress names"),
			BannerAt: rapid.SliceOfN(addr, 0, 3).Draw(t, "banner at"), Certificate: rapid.SliceOfN(name, 0, 3).Draw(t, "certificate"),
		}
		p := Place(trail)
		if err := placeLaws(trail.clean(), p); err != "" {
			t.Fatalf("%s\n%+v\n%+v", err, trail, p)
		}
	})
}

func placeLaws(t Trail, p Placing) string {
	proxied := t.Door == door.SOCKS || t.Door == door.Connect
	switch {
	case p.Kind == KindForward && !p.Lost && (!t.Egress.IsValid() || t.Egress == t.Tested):
		return "forwarded, and yet it came out at the tested address"
	case p.Kind == KindForward && t.Seen.IsValid() && t.Seen == t.Us:
		return "forwarded, and yet the first hop saw us"
	case p.Kind == KindForward && p.Sure == Certain && t.Seen != t.Tested:
		return "certainly forwarded, and no field says so"
	case p.Kind == KindForward && proxied, proxied && fmt.Sprint(p.Kind) != t.Door.String():
		return "a proxy is its own kind"
	case !proxied && (p.Kind != KindSMTP && p.Kind != KindForward || p.Cascade):
		return "a mail server is no proxy"
	case p.Guilty != t.Tested || p.Listed != t.Egress:
		return "blames another machine than the tested one"
	case p.Lost && (!t.Seen.IsValid() || t.Seen == t.Us || t.Claimed):
		return "a client address was lost that stands there"
	case p.Lost && p.Kind != KindSMTP && (p.Kind != KindForward || !t.mailProxy()):
		return "a lost client address is a fault of the relay that lost it, or of a mail proxy"
	case p.Smarthost && t.Egress == t.Tested:
		return "a smarthost that is the server itself"
	case p.Sure != Certain && p.Sure != Likely && p.Sure != Guess:
		return "no degree of certainty"
	}
	return ""
}
