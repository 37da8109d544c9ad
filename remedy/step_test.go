package remedy

import (
	"net/netip"
	"strings"
	"testing"

	"postern/door"
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

// through is the evidence of a proxy that let the forms through, or granted
// those of the set info.
func through(d door.Door, shown string, ids ...string) verdict.Evidence {
	e := verdict.Evidence{Door: d, Addr: netip.MustParseAddrPort("203.0.113.10:8080"), From: tester}
	for _, id := range ids {
		form, ok := plan.Find(id)
		if !ok {
			panic(id)
		}
		token := plan.Token("pt-" + id)
		x := verdict.Exchange{Form: form, Token: token, Stage: verdict.AtBanner, Outcome: verdict.Taken, Answer: verdict.Granted, Shown: shown, Ours: true, Nonce: "n-1", Tries: 1}
		if form.Set != plan.Info {
			x.Stage = verdict.AtMessage
			e.Arrivals = append(e.Arrivals, verdict.Arrival{Tokens: []plan.Token{token}, Kind: verdict.Message, Nonce: "n-1", Peer: netip.MustParseAddrPort("203.0.113.10:40000")})
		}
		e.Exchanges = append(e.Exchanges, x)
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
		{
			"a proxy whose TLS another program may make", insideTLS(through(door.Connect, "Proxy-Agent: tinyproxy/1.11.1\n", "connect-ipv4")),
			[]string{"HAProxy, nginx, stunnel", "tinyproxy.conf", "--form connect-ipv4"},
			"YOUR_DOMAIN",
		},
		{
			"a proxy in the clear", through(door.Connect, "Proxy-Agent: tinyproxy/1.11.1\n", "connect-ipv4"),
			[]string{"tinyproxy.conf", "--form connect-ipv4"},
			"stunnel",
		},
		{
			"a SOCKS proxy, which shows no name", through(door.SOCKS, "", "socks5-ipv4", "socks4", "socks5-587"),
			[]string{"ss -ltnp 'sport = :8080'", "Dante:", "port = 25", "microsocks:", "-u YOUR_USER", "3proxy:", "deny * * * 25", "ssh -D:", "GatewayPorts", "tcp dport 8080 drop", "--form socks5-ipv4"},
			"Squid",
		},
		{
			"Squid", through(door.Connect, "Server: squid/5.7\n", "connect-ipv4"),
			[]string{"http_access deny !Safe_ports", "deny CONNECT !SSL_ports", "squid -k parse", "--form connect-ipv4"},
			"tinyproxy",
		},
		{
			"tinyproxy", through(door.Connect, "Proxy-agent: tinyproxy/1.11.1\n", "connect-ipv4"),
			[]string{"ConnectPort 443", "systemctl restart tinyproxy"},
			"squid",
		},
		{
			"Privoxy", through(door.Connect, "Proxy-Agent: Privoxy/3.0.34\n", "connect-ipv4"),
			[]string{"listen-address  127.0.0.1:8080", "+limit-connect{443}"},
			"squid",
		},
		{
			"Apache", through(door.Connect, "Server: Apache/2.4.57 (Debian)\n", "connect-ipv4"),
			[]string{"ProxyRequests Off", "AllowCONNECT 443"},
			"squid",
		},
		{
			"a web proxy without a name", through(door.Connect, "", "post"),
			[]string{"for every method", "Squid:", "tinyproxy:", "Privoxy:", "Apache httpd:", "3proxy:", "--form post"},
			"Dante",
		},
		{
			"a proxy that leads to the web alone", through(door.Connect, "Via: 1.1 x (squid/5.7)\n", "connect-web"),
			[]string{"It serves everybody, though not to mail ports", "--form connect-web"},
			"Safe_ports",
		},
		{
			"a proxy that leads inside", through(door.SOCKS, "", "socks5-inside"),
			[]string{"every private network", "to: 127.0.0.0/8", "--form socks5-inside"},
			"Squid",
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
		if s.Of != "" {
			b.WriteString(s.Of + ": ")
		}
		b.WriteString(s.Text + "\n" + s.Command + "\n")
	}
	return b.String()
}

func insideTLS(e verdict.Evidence) verdict.Evidence {
	e.Session.TLS = "TLS 1.3 TLS_AES_128_GCM_SHA256"
	return e
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
