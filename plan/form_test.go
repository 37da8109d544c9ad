package plan

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"postern/door"
	"postern/mail"
)

func must[T any](t *testing.T, parse func(string) (T, error), s string) T {
	t.Helper()
	v, err := parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func allFacts(t *testing.T) Facts {
	return Facts{
		Addr: netip.MustParseAddr("203.0.113.10"), CollectorIP: netip.MustParseAddr("192.0.2.66"),
		Host: must(t, mail.ParseDomain, "mx.victim.example"), Domain: must(t, mail.ParseDomain, "victim.example"),
		RelayDomain: must(t, mail.ParseDomain, "relayed.example"), Backup: must(t, mail.ParseDomain, "b-cb00710a.probe.example"),
		Partner: must(t, mail.ParseDomain, "partner.example"),
		Local:   must(t, mail.ParseAddress, "postmaster@victim.example"), Collector: must(t, mail.ParseDomain, "probe.example"),
		Front: Front{
			Host: "mx.probe.example", Four: netip.MustParseAddr("192.0.2.66"), Six: netip.MustParseAddr("2001:db8::66"),
			Ports: map[uint16]uint16{25: 25, 443: 443, 465: 465, 587: 587},
		},
	}
}

func TestEveryFormExpands(t *testing.T) {
	token := Mint(nil, [5]byte{}, tokenTime)
	recipient := must(t, mail.ParseAddress, string(token)+"@probe.example")
	used := map[string]bool{}
	for _, f := range All() {
		e, missing := f.Expand(allFacts(t), token, recipient)
		if len(missing) > 0 {
			t.Errorf("%s: with all facts known it still needs %q", f.ID, missing)
		}
		if f.Hole != "backscatter" && f.Hole != "smuggling" && !strings.Contains(e.Recipient+e.MoveArg, string(token)) {
			t.Errorf("%s: the recipient %q carries no token, so no arrival can prove it", f.ID, e.Recipient)
		}
		used[f.Hole] = true
	}
	for hole := range holes() {
		if !used[hole] {
			t.Errorf("holes.tsv: no form looks for %q", hole)
		}
	}
}

func TestExpand(t *testing.T) {
	token := Token("pt-token")
	recipient := must(t, mail.ParseAddress, "pt-token@probe.example")
	for _, c := range []struct{ id, sender, senderParams, recipient, arg string }{
		{"plain", "s-pt-token@probe.example", "", "pt-token@probe.example", ""},
		{"null", "", "", "pt-token@probe.example", ""},
		{"auth-param", "s-pt-token@probe.example", "AUTH=postmaster@victim.example", "pt-token@probe.example", ""},
		{"route-two", "s-pt-token@probe.example", "", "@victim.example,@mx.victim.example:pt-token@probe.example", ""},
		{"backslash-at", "s-pt-token@probe.example", "", `pt-token\@probe.example@victim.example`, ""},
		{"nul", "s-pt-token@probe.example", "", "pt-token@probe.example\x00@victim.example", ""},
		{"backup-mx", "s-pt-token@probe.example", "", "pt-token@b-cb00710a.probe.example", ""},
		{"helo-ip", "s-pt-token@probe.example", "", "pt-token@probe.example", "[203.0.113.10]"},
		{"ideographic-dot", "s-pt-token@probe.example", "SMTPUTF8", "pt-token@probe\u3002example", ""},
		{"socks5-ipv4", "s-pt-token@probe.example", "", "pt-token@probe.example", "192.0.2.66:25"},
		{"socks5-ipv6", "s-pt-token@probe.example", "", "pt-token@probe.example", "[2001:db8::66]:25"},
		{"connect-name", "s-pt-token@probe.example", "", "pt-token@probe.example", "mx.probe.example:25"},
		{"connect-web", "s-pt-token@probe.example", "", "pt-token@probe.example", "192.0.2.66:443"},
		{"connect-inside-own", "s-pt-token@probe.example", "", "pt-token@probe.example", "203.0.113.10:25"},
		{"smuggle-crlf-lf", "s-pt-token@probe.example", "", "postmaster@victim.example", "\r\n.\n"},
	} {
		f, ok := Find(c.id)
		if !ok {
			t.Errorf("no form %q", c.id)
			continue
		}
		e, missing := f.Expand(allFacts(t), token, recipient)
		if len(missing) > 0 || e.Sender != c.sender || e.SenderParams != c.senderParams || e.Recipient != c.recipient || e.MoveArg != c.arg {
			t.Errorf("%s expands to %+v (missing %q), want %+v", c.id, e, missing, c)
		}
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	f, _ := Find("relaydom-pct")
	_, missing := f.Expand(Facts{}, "", mail.Address{})
	if got := strings.Join(missing, "; "); !strings.Contains(got, "--relay-domain") || !strings.Contains(got, "--collector") {
		t.Errorf("missing = %q", got)
	}
}

func TestBadTables(t *testing.T) {
	for _, c := range []struct{ name, table, want string }{
		{"too few cells", "a\tsmtp", "t.tsv:1: 2 cells"},
		{"unknown door", "a\tback\tcore\t{x}\t{tu}\t-\tquoting\tRFC", `t.tsv:1: door "back": unknown`},
		{"unknown set", "# c\na\tsmtp\tbest\t{x}\t{tu}\t-\tquoting\tRFC", "t.tsv:2: unknown set"},
		{"unknown placeholder", "a\tsmtp\tcore\t{y}\t{tu}\t-\tquoting\tRFC", "unknown placeholder"},
		{"unclosed placeholder", "a\tsmtp\tcore\t{x\t{tu}\t-\tquoting\tRFC", "unknown placeholder"},
		{"unknown hole", "a\tsmtp\tcore\t{x}\t{tu}\t-\tnone\tRFC", `unknown hole "none"`},
		{"no source", "a\tsmtp\tcore\t{x}\t{tu}\t-\tquoting\t", "needs an id and a source"},
		{"twice", "a\tsmtp\tcore\t{x}\t{tu}\t-\tquoting\tRFC\na\tsmtp\tcore\t{x}\t{tu}\t-\tquoting\tRFC", "t.tsv:2: form \"a\" stands twice"},
	} {
		if _, err := parseForms("t.tsv", c.table); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}

// Proxies are led to the collector, or by an owner's wish to the machine that
// they run on; never to anybody else.
func TestProxiesAreLedToUsAlone(t *testing.T) {
	facts := allFacts(t)
	for _, f := range All() {
		if f.Door != door.SOCKS && f.Door != door.Connect {
			continue
		}
		e, _ := f.Expand(facts, "pt-token", must(t, mail.ParseAddress, "pt-token@probe.example"))
		if e.MoveArg == "" {
			continue // asks for no place
		}
		host, _, err := net.SplitHostPort(e.MoveArg)
		if err != nil {
			t.Errorf("%s: %q is no host:port", f.ID, e.MoveArg)
		}
		ours := host == facts.Front.Host || host == facts.Front.Four.String() || host == facts.Front.Six.String()
		own := host == "127.0.0.1" || host == facts.Addr.String()
		if !ours && (!own || f.Set != Inside) {
			t.Errorf("%s leads a proxy to %s", f.ID, host)
		}
	}
}

func TestEachDoorHasItsForms(t *testing.T) {
	n := 0
	for _, d := range []door.Door{door.SMTP, door.SOCKS, door.Connect} {
		n += len(At(d))
		if len(At(d)) == 0 || At(d)[0].Door != d || At(d)[0].Set != Core {
			t.Errorf("%s: forms %v, want its own, core first", d, At(d))
		}
	}
	if n != len(All()) {
		t.Errorf("%d forms at the doors, %d in the table", n, len(All()))
	}
	if len(At(door.Forward)) != len(Forms()) {
		t.Error("a forwarded port speaks SMTP and is played the battery of the smtp door")
	}
}

func TestAFrontMeansTheSameMachineThere(t *testing.T) {
	for _, c := range []struct {
		collector, target string
		led               bool
	}{
		{"192.0.2.66", "203.0.113.10", true},
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "203.0.113.10", false},
		{"127.0.0.1", "10.0.0.1", false},
		{"10.0.0.2", "203.0.113.10", false},
		{"10.0.0.2", "192.168.1.1", true},
		{"::1", "2001:db8::1", false},
		{"fd00::1", "2001:db8::1", false},
	} {
		a := netip.MustParseAddr(c.collector)
		f := Front{Host: "mx.probe.example"}
		if a.Is4() {
			f.Four = a
		} else {
			f.Six = a
		}
		got := f.For(netip.MustParseAddr(c.target))
		if led := got.Four.IsValid() || got.Six.IsValid(); led != c.led || (got.Host != "") != c.led {
			t.Errorf("a collector at %s, a proxy at %s: %+v, want led %v", c.collector, c.target, got, c.led)
		}
	}
}

// A form that names the target can be played with another name of its.
func TestNamed(t *testing.T) {
	token, other := Token("pt-token"), must(t, mail.ParseDomain, "gw.isp.example")
	recipient := must(t, mail.ParseAddress, "pt-token@probe.example")
	for _, c := range []struct{ id, sender, recipient, arg string }{
		{"helo-host=gw.isp.example", "s-pt-token@probe.example", "pt-token@probe.example", "gw.isp.example"},
		{"local-sender=gw.isp.example", "postmaster@gw.isp.example", "pt-token@probe.example", ""},
		{"pct-domain=gw.isp.example", "s-pt-token@probe.example", "pt-token%probe.example@gw.isp.example", ""},
	} {
		f, ok := Find(c.id)
		if !ok || !f.NamesTarget() || !f.As.Equal(other) || !strings.EqualFold(f.ID, c.id) || f.ID == f.Base() {
			t.Fatalf("%s: %+v, %v", c.id, f, ok)
		}
		e, missing := f.Expand(allFacts(t), token, recipient)
		if len(missing) > 0 || e.Sender != c.sender || e.Recipient != c.recipient || e.MoveArg != c.arg {
			t.Errorf("%s: %+v, needs %q", c.id, e, missing)
		}
	}
	for _, id := range []string{"plain=gw.isp.example", "helo-host=", "helo-host=[192.0.2.1]", "helo-host=a b", "nonsense=gw.isp.example"} {
		if f, ok := Find(id); ok {
			t.Errorf("%s: found %s", id, f.ID)
		}
	}
	if f, _ := Find("auth-param"); !f.NamesTarget() {
		t.Error("auth-param names the target in a parameter, and is not known to")
	}
}
