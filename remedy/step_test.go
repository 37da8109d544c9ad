package remedy

import (
	"net/netip"
	"strings"
	"testing"

	"postern/mail"
	"postern/plan"
	"postern/verdict"
)

var (
	targetAddr = netip.MustParseAddrPort("203.0.113.10:25")
	tester     = netip.MustParseAddr("192.0.2.66")
)

// arrived is the evidence of a server that let the forms through: seen is our
// address as its trace field has it, egress where the message came out.
func arrived(banner, seen, egress string, ids ...string) verdict.Evidence {
	e := verdict.Evidence{
		Addr: targetAddr, From: tester, Session: session(banner),
		Asked: []verdict.Asked{{Control: verdict.KnownRecipient, Recipient: "postmaster@victim.example", Reply: mail.NewReply(250, "2.1.5", "Ok")}},
	}
	for _, id := range ids {
		form, ok := plan.Find(id)
		if !ok {
			panic(id)
		}
		token := plan.Token("pt-" + id)
		e.Exchanges = append(e.Exchanges, verdict.Exchange{Form: form, Token: token, Stage: verdict.AtMessage, Outcome: verdict.Taken, Reply: mail.NewReply(250, "2.0.0", "Ok"), Tries: 1})
		e.Arrivals = append(e.Arrivals, verdict.Arrival{
			Tokens: []plan.Token{token}, Kind: verdict.Message, Peer: netip.AddrPortFrom(netip.MustParseAddr(egress), 40000),
			Header: "Received: from tester.example (tester.example [" + seen + "]) by mx.victim.example with ESMTP id 1; Tue, 24 Nov 2026 01:00:00 +0000\r\n",
		})
	}
	return e
}

func TestFor(t *testing.T) {
	postfix := "mx.victim.example ESMTP Postfix"
	for _, c := range []struct {
		name     string
		evidence verdict.Evidence
		want     []string // in this order, in the texts and lines
		never    string
	}{
		{
			"open Postfix", arrived(postfix, "192.0.2.66", "203.0.113.10", "plain", "local-sender", "pct-domain"),
			[]string{"postconf -e 'mynetworks = 127.0.0.0/8", "postern check mx.victim.example --form plain"},
			"check_sender_access",
		},
		{
			"two holes and not the plainest", arrived(postfix, "192.0.2.66", "203.0.113.10", "local-sender", "sub-sender", "backup-mx"),
			[]string{"check_sender_access", "permit_mx_backup", "--form local-sender,backup-mx"},
			"0.0.0.0/0",
		},
		{
			"a server that we do not know", arrived("hello", "192.0.2.66", "203.0.113.10", "plain"),
			[]string{"Refuse every recipient", "tcp dport 25 drop", "--form plain"},
			"postconf",
		},
		{
			"a forwarded port", arrived(postfix, "203.0.113.10", "198.51.100.4", "plain", "null"),
			[]string{"ss -ltnp 'sport = :25'", "nft delete rule", "Docker:", "HAProxy:", "nginx:", "socat", "router", "(198.51.100.4) to demand a login", "--form plain"},
			"mynetworks",
		},
		{
			"a lost client address", arrived(postfix, "172.17.0.1", "203.0.113.10", "plain"),
			[]string{"Docker:", "userland-proxy", "Kubernetes:", "externalTrafficPolicy", "--form plain"},
			"YOUR_PROVIDERS_ADDRESS",
		},
		{
			"a lost client address in mailcow", arrived("mx ESMTP Postcow", "172.22.1.1", "203.0.113.10", "plain"),
			[]string{"extra.cf", "userland-proxy", "--form plain"},
			"Kubernetes",
		},
		{
			"a claimed address is not a lost one", arrived(postfix, "127.0.0.1", "203.0.113.10", "xclient"),
			[]string{"smtpd_authorized_xclient_hosts =", "--form xclient"},
			"userland-proxy",
		},
		{
			"OpenSMTPD with its domain", arrived("mx ESMTP OpenSMTPD", "192.0.2.66", "203.0.113.10", "plain"),
			[]string{`match from any for domain "victim.example" action`, "--form plain"},
			"YOUR_DOMAIN",
		},
	} {
		all := join(For(verdict.Judge(c.evidence), "mx.victim.example"))
		rest := all
		for _, want := range c.want {
			i := strings.Index(rest, want)
			if i < 0 {
				t.Errorf("%s: no %q, or not in its place, in\n%s", c.name, want, all)
				break
			}
			rest = rest[i:]
		}
		if strings.Contains(all, c.never) {
			t.Errorf("%s: holds %q, which does not belong there:\n%s", c.name, c.never, all)
		}
	}
}

func join(steps []Step) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString(s.Text + "\n" + s.Command + "\n")
	}
	return b.String()
}

func TestForWithoutAnythingToClose(t *testing.T) {
	for _, v := range []verdict.Verdict{verdict.Closed, verdict.NotTested, verdict.Inconclusive, verdict.Accepts} {
		if steps := For(verdict.Judgement{Verdict: v}, "x"); steps != nil {
			t.Errorf("%s: got %v", v, steps)
		}
	}
	back := For(verdict.Judgement{Verdict: verdict.Closed, Backscatter: &verdict.Arrival{}}, "x")
	if len(back) < 2 || !strings.Contains(join(back), "--form dsn-reflect") {
		t.Errorf("backscatter: got %v", back)
	}
	if all := For(verdict.Judgement{Verdict: verdict.Accepts, CatchAll: true}, "x"); len(all) < 2 {
		t.Errorf("catch-all: got %v", all)
	}
}

// A domain comes from the server's own banner: none that a shell would read
// gets into a line to paste.
func TestHostileDomainIsNotPasted(t *testing.T) {
	for _, domain := range []string{"$(reboot).example", "a;b.example", "-rf.example", "x\n.example", "bücher.example", "`id`.example", strings.Repeat("a", 300) + ".example", "nodot"} {
		e := arrived("mx ESMTP OpenSMTPD", "192.0.2.66", "203.0.113.10", "plain")
		e.Asked[0].Recipient = "postmaster@" + domain
		all := join(For(verdict.Judge(e), "mx.victim.example"))
		if strings.Contains(all, domain) || !strings.Contains(all, "YOUR_DOMAIN is each domain") {
			t.Errorf("%q: got\n%s", domain, all)
		}
	}
}
