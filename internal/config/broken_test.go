package config

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"postern/internal/problem"
	"postern/mail"
	"postern/policy"
)

// broken are the well-known ways to open a Postfix, and the nearest that our
// language can say.
var broken = []struct {
	postfix string // what is set there
	opens   string // what that does
	ours    string // the nearest text of ours; "" where there is no word for it
	client  string // who then tries, when the text loads
	says    string // how what we say begins
}{
	{"`mynetworks = 0.0.0.0/0`", "everybody is trusted", "trusted_client \"all\" {\n  address = \"0.0.0.0/0\"\n}", "", "refused: f.hcl:10:13: trusted_client 0.0.0.0/0 trusts everybody"},
	{"`check_sender_access` with our own domain = OK", "whoever writes our domain into MAIL is trusted", "sender_access = [\"example.org\"]", "", "refused: f.hcl:9:1: sender_access: a sender's address is what anybody can write"},
	{"`permit_mx_backup` without networks", "who publishes our name as an MX decides", "permit_mx_backup = true", "", "refused: f.hcl:9:1: permit_mx_backup: who publishes our name as an MX must not decide"},
	{"`allow_untrusted_routing` and relay_domains", "`user%far@relayed` goes on from the second hop", "domain \"relayed.example\" { deliver = \"smtp:inner.example.org:25\" }", "198.51.100.7", "closed: 501 5.1.3 Address form not accepted"},
	{"`smtpd_authorized_xclient_hosts = 0.0.0.0/0`", "every client says who it is", "xclient = [\"0.0.0.0/0\"]", "", "refused: f.hcl:9:1: xclient: Postern takes nobody's word"},
	{"`smtpd_upstream_proxy_protocol = haproxy`, reachable by all", "every client says who it is", "listener \"mx2\" {\n  role = \"mx\"\n  port = 2525\n  proxy_from = [\"0.0.0.0/0\"]\n}", "", "refused: f.hcl:12:17: proxy_from 0.0.0.0/0 trusts everybody"},
	{"`mynetworks = 127.0.0.0/8 [::]/0`", "every IPv6 client is trusted", "trusted_client \"six\" {\n  addresses = [\"127.0.0.0/8\", \"::/0\"]\n}", "", "refused: f.hcl:10:31: trusted_client ::/0 trusts everybody"},
}

const brokenFrame = `hostname = "mx.example.org"
listener "mx" { port = 25 }
listener "trusted" { port = 2526 }
domain "example.org" {
  recipients = ["anna"]
  deliver    = "hold"
}

`

// say is what Postern says of a text: it refuses to start with it, or it
// starts, and refuses the stranger.
func say(t *testing.T, text, client string) string {
	t.Helper()
	s, err := Read("f.hcl", []byte(brokenFrame+text+"\n"))
	if err != nil {
		return "refused: " + problem.All(err)[0].Error()
	}
	p, err := policy.Compile(s.Policy)
	if fatal, _ := problem.Split(err); fatal != nil || !p.Prove().Closed() {
		t.Fatalf("%s loads and does not compile closed: %v", text, err)
	}
	to, err := mail.ParseForwardPath("<b%far.example@relayed.example>")
	if err != nil {
		t.Fatal(err)
	}
	_, refusal := p.Decide(policy.Client{Listener: "mx", Addr: netip.MustParseAddr(client)}, mail.NullPath(), to)
	if refusal == nil {
		return "OPEN"
	}
	return "closed: " + refusal.Reply().String()
}

func TestBrokenPostfixes(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Seven broken Postfix configurations, in our words\n\nFive of the seven pass the guard that Postfix itself has against open relays. This page is made by a test that runs each text.\n\n| Postfix | what it does | the nearest in Postern | what Postern says |\n| --- | --- | --- | --- |\n")
	for _, c := range broken {
		got := say(t, c.ours, c.client)
		if !strings.HasPrefix(got, c.says) {
			t.Errorf("%s\ngot  %s\nwant %s", c.ours, got, c.says)
		}
		fmt.Fprintf(&b, "| %s | %s | `%s` | %s |\n", c.postfix, c.opens, strings.Join(strings.Fields(c.ours), " "), got)
	}
	const page = "../../docs/broken.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(page); err != nil || string(have) != b.String() {
		t.Errorf("docs/broken.md is stale (%v); write it anew with: go test ./internal/config -update", err)
	}
}
