package plan

import (
	"net/netip"
	"strings"
	"testing"

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
		Local: must(t, mail.ParseAddress, "postmaster@victim.example"), Collector: must(t, mail.ParseDomain, "probe.example"),
	}
}

func TestEveryFormExpands(t *testing.T) {
	token := Mint(nil, [5]byte{}, tokenTime)
	recipient := must(t, mail.ParseAddress, string(token)+"@probe.example")
	used := map[string]bool{}
	for _, f := range Forms() {
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
		{"too few cells", "a\tcore", "t.tsv:1: 2 cells"},
		{"unknown set", "# c\na\tbest\t{x}\t{tu}\t-\tquoting\tRFC", "t.tsv:2: unknown set"},
		{"unknown placeholder", "a\tcore\t{y}\t{tu}\t-\tquoting\tRFC", "unknown placeholder"},
		{"unclosed placeholder", "a\tcore\t{x\t{tu}\t-\tquoting\tRFC", "unknown placeholder"},
		{"unknown hole", "a\tcore\t{x}\t{tu}\t-\tnone\tRFC", `unknown hole "none"`},
		{"no source", "a\tcore\t{x}\t{tu}\t-\tquoting\t", "needs an id and a source"},
		{"twice", "a\tcore\t{x}\t{tu}\t-\tquoting\tRFC\na\tcore\t{x}\t{tu}\t-\tquoting\tRFC", "t.tsv:2: form \"a\" stands twice"},
	} {
		if _, err := parseForms("t.tsv", c.table); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}
