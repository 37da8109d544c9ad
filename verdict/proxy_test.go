package verdict

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/door"
	"postern/mail"
	"postern/plan"
)

// The evidence of a proxy that refuses everything; each case changes it.
func proxyEvidence(d door.Door) Evidence {
	e := Evidence{
		Door: d, Addr: netip.MustParseAddrPort("203.0.113.10:1080"), From: addrT, Waited: 20 * time.Second,
	}
	for _, f := range plan.At(d) {
		if f.Set == plan.Login || f.Set == plan.Inside {
			continue
		}
		e.Exchanges = append(e.Exchanges, Exchange{
			Form: f, Token: plan.Token("pt-" + f.ID), Stage: AtProxy, Outcome: Denied, Answer: Forbidden, Said: "not allowed by ruleset", Tries: 1,
		})
	}
	return e
}

func proxied(o Outcome, stage Stage, a Answer) func(*Exchange) {
	return func(x *Exchange) { x.Outcome, x.Stage, x.Answer = o, stage, a }
}

// carried is a form whose message was taken by the collector.
func carried(x *Exchange) {
	proxied(Taken, AtMessage, Granted)(x)
	x.Nonce, x.Ours = "n-1", true
}

// led is a form by which a port of the collector was reached that is not for mail.
func led(x *Exchange) {
	proxied(Taken, AtBanner, Granted)(x)
	x.Nonce, x.Ours = "n-2", true
}

func (e Evidence) each(change func(*Exchange)) Evidence {
	return e.all(func(x *Exchange) {
		if x.Form.Set != plan.Info {
			change(x)
		}
	})
}

// came is an arrival at the collector, from E.
func (e Evidence) came(id, nonce, egress, header string) Evidence {
	e.Arrivals = append(e.Arrivals, Arrival{
		Tokens: []plan.Token{plan.Token("pt-" + id)}, Kind: Message, Peer: netip.AddrPortFrom(netip.MustParseAddr(egress), 40000),
		PTR: "egress.example", Nonce: nonce, Header: header, Seen: SeenByPeer,
	})
	return e
}

func TestJudgeProxies(t *testing.T) {
	const x, other = "203.0.113.10", "198.51.100.4"
	socks, web := func() Evidence { return proxyEvidence(door.SOCKS) }, func() Evidence { return proxyEvidence(door.Connect) }
	for _, c := range []struct {
		name string
		e    Evidence
		want Verdict
		why  string
		kind Kind
		note string
	}{
		{"a message came through", socks().with("socks5-ipv4", carried).came("socks5-ipv4", "n-1", x, ""), Open, "port 25", KindSOCKS, ""},
		{"and came out elsewhere", web().with("connect-ipv4", carried).came("connect-ipv4", "n-1", other, ""), Open, "port 25", KindConnect, "came out at 198.51.100.4"},
		{"and came out at two addresses in turn", web().with("connect-ipv4", carried).came("connect-ipv4", "n-1", x, "").with("connect-name", carried).came("connect-name", "n-1", other, ""), Open, "port 25", KindConnect, "came from 198.51.100.4"},
		{"by way of a mail server of the proxy's", web().with("connect-ipv4", proxied(Taken, AtMessage, Granted)).came("connect-ipv4", "n-9", x, "Received: from t ([192.0.2.66]) by inner.example; x\r\n"), Open, "port 25", KindConnect, "inner.example"},
		{"in another session than the one that we saw", socks().with("socks4", carried).came("socks4", "n-9", x, ""), Open, "port 25", KindSOCKS, "another session"},
		{"with the body of a request, where nothing can be read", web().with("post", proxied(Denied, AtProxy, NoProxy)).came("post", "n-5", x, ""), Open, "request's body", KindConnect, ""},
		{"every form refused", socks(), Closed, "every form was refused", "", ""},
		{"a login is wanted", socks().all(proxied(Denied, AtProxy, WantsLogin)), Closed, "without a login", "", ""},
		{"a login is wanted, and some commands do not exist", socks().all(proxied(Denied, AtProxy, WantsLogin)).with("socks4", proxied(NotOffered, AtProxy, Unsupported)), Closed, "without a login", "", ""},
		{"port 25 alone is shut", web().with("connect-web", led), Closed, "an open proxy, but no way out for mail", "", ""},
		{"port 25 alone is shut, submission is not", web().with("connect-587", led), Closed, "with a stolen login", "", ""},
		{"port 25 cannot be reached, another can", web().each(proxied(Denied, AtProxy, Unreachable)).with("connect-web", led), Closed, "an open proxy", "", ""},
		{"nothing comes back, another port can be reached", web().each(proxied(Silent, AtBanner, Granted)).with("connect-web", led), Closed, "an open proxy", "", ""},
		{"the collector cannot be reached", socks().all(proxied(Denied, AtProxy, Unreachable)), Inconclusive, "could not", "", ""},
		{"yes, and nothing behind it", web().all(proxied(Silent, AtBanner, Granted)), Inconclusive, "nothing came back", "", ""},
		{"yes, and hangs up", web().all(proxied(Dropped, AtBanner, Granted)), Inconclusive, "hung up", "", ""},
		{"yes, and hangs up, another port can be reached", web().each(proxied(Dropped, AtBanner, Granted)).with("connect-web", led), Closed, "an open proxy", "", ""},
		{"hangs up whatever it is asked", socks().all(proxied(Dropped, AtProxy, "")), Inconclusive, "hung up", "", ""},
		{"hangs up on requests for a tunnel, and is a web server", web().all(proxied(Dropped, AtProxy, "")).with("post", proxied(Denied, AtProxy, NoProxy)).with("put", proxied(Denied, AtProxy, NoProxy)), Closed, "web server", "", ""},
		{"hangs up on what is said to the mail server", web().all(proxied(Dropped, AtRcpt, Granted)), Closed, "says yes", "", ""},
		{"yes, and shows a page to log in", web().all(proxied(Denied, AtBanner, Granted)), Closed, "says yes", "", ""},
		{"a web server", web().all(proxied(Denied, AtProxy, NoProxy)), Closed, "web server", "", ""},
		{"leads everybody to a mail server that takes all", socks().each(proxied(Taken, AtMessage, Granted)), Accepts, "nothing arrived", "", ""},
		{"leads everybody to a mail server of its own that takes all", socks().each(func(x *Exchange) { proxied(Taken, AtMessage, Granted)(x); x.Banner = "mx.victim.example ESMTP" }), Accepts, `("mx.victim.example ESMTP") is not our collector: it leads elsewhere, or plays a mail server itself`, "", ""},
		{"leads everybody to a mail server of its own that is closed", socks().each(func(x *Exchange) { proxied(Denied, AtRcpt, Granted)(x); x.Banner = "mx.victim.example ESMTP" }), Closed, "leads elsewhere, or plays", "", ""},
		{"leads everybody to a mail server of its own that says nothing more", socks().each(func(x *Exchange) { proxied(Silent, AtRcpt, Granted)(x); x.Banner = "mx.victim.example ESMTP" }), Inconclusive, "leads elsewhere, or plays", "", ""},
		{"a banner that says it is ours, and is not", web().with("connect-web", func(x *Exchange) { led(x); x.Ours = false; x.Outcome = Denied }), Closed, "", "", ""},
		{"a no without a reason", socks().all(proxied(Denied, AtProxy, Rejected)).with("socks5-web", notRun("needs port 443", true)), Inconclusive, "not why", "", ""},
		{"a no without a reason, to every port", socks().all(proxied(Denied, AtProxy, Rejected)), Closed, "every form was refused", "", ""},
		{"a no without a reason in one version, with one in the other", socks().with("socks4", proxied(Denied, AtProxy, Rejected)), Closed, "every form was refused", "", ""},
		{"no answer at all", socks().all(proxied(Silent, AtProxy, "")), Inconclusive, "did not answer", "", ""},
		{"there is no collector to lead to", socks().all(notRun("needs a collector of our own", true)), Inconclusive, "needs a collector", "", ""},
		{"a web server, or a proxy, and no collector", web().all(notRun("needs a collector of our own", true)), NotTested, "whether it is a proxy", "", ""},
		{"arrivals cannot be seen", func() Evidence {
			e := socks().all(proxied(Dropped, AtBanner, Granted))
			e.Blind = "it is deaf"
			return e
		}(), Inconclusive, "it is deaf", "", ""},
		{"half was never played", socks().each(notRun("turned away", false)), Inconclusive, "turned away", "", ""},
		{"somebody else's arrival", socks().came("other", "n-1", x, ""), Closed, "", "", ""},
		{"the message came back", func() Evidence {
			e := socks().with("socks4", carried).came("socks4", "n-1", x, "")
			e.Arrivals[0].Kind = Bounce
			return e
		}(), Closed, "", "", ""},
	} {
		j := Judge(c.e)
		if j.Verdict != c.want || !strings.Contains(j.Why, c.why) || j.Why == "" {
			t.Errorf("%s: %s (%s), want %s with %q", c.name, j.Verdict, j.Why, c.want, c.why)
		}
		if (j.Verdict == Accepts || j.Verdict == Inconclusive) && j.Do == "" {
			t.Errorf("%s: doubt without a way out of it", c.name)
		}
		if (j.Verdict == Open) != (j.Proof != nil) {
			t.Errorf("%s: %s with proof %v", c.name, j.Verdict, j.Proof)
			continue
		}
		if p := j.Proof; p != nil && (p.Kind != c.kind || !strings.Contains(strings.Join(p.Notes, "; "), c.note) || (c.note == "") != (len(p.Notes) == 0)) {
			t.Errorf("%s: %s with notes %q, want %s and %q", c.name, p.Kind, p.Notes, c.kind, c.note)
		}
	}
}

// That a proxy leads to other ports is worth telling of one that shuts port 25.
func TestElsewhere(t *testing.T) {
	for _, c := range []struct {
		name string
		e    Evidence
		want bool
	}{
		{"port 25 is shut", proxyEvidence(door.Connect).with("connect-web", led), true},
		{"port 25 is shut to tunnels, not to requests", proxyEvidence(door.Connect).with("connect-web", led).came("post", "n-1", "203.0.113.10", ""), true},
		{"port 25 is open", proxyEvidence(door.Connect).with("connect-web", led).with("connect-ipv4", carried).came("connect-ipv4", "n-1", "203.0.113.10", ""), false},
		{"all is shut", proxyEvidence(door.Connect), false},
	} {
		if j := Judge(c.e); (j.Elsewhere != nil) != c.want {
			t.Errorf("%s: %+v, want elsewhere %v", c.name, j.Elsewhere, c.want)
		}
	}
}

// A form that tells what answers mean never makes a proxy open, not even by an
// arrival that somebody else could not have made.
func TestOnlyAnArrivalProvesAProxy(t *testing.T) {
	for _, d := range []door.Door{door.SOCKS, door.Connect} {
		for _, o := range []Outcome{Taken, Denied, Deferred, Dropped, Silent, NotOffered, NotRun} {
			for _, a := range []Answer{"", Granted, WantsLogin, Forbidden, Unreachable, Rejected, Unsupported, NoProxy} {
				for _, s := range []Stage{AtConnect, AtProxy, AtBanner, AtHello, AtMail, AtRcpt, AtData, AtMessage} {
					j := Judge(proxyEvidence(d).all(func(x *Exchange) { x.Outcome, x.Answer, x.Stage, x.Ours = o, a, s, true }))
					if j.Verdict == Open || j.Why == "" {
						t.Fatalf("%s, every form %q at %s with answer %q, no arrival: %s (%s)", d, o, s, a, j.Verdict, j.Why)
					}
				}
			}
		}
	}
}

// What the trace fields and the greeting say reaches the rule.
func TestTrailsAreGathered(t *testing.T) {
	e := closedEvidence().with("plain", taken).arrived("plain", Message, "by smtp.provider.example id 1; x")
	e.Arrivals[0].Peer, e.Arrivals[0].PTR = netip.AddrPortFrom(addrP, 1), "smtp.provider.example"
	if p := Judge(e).Proof; p.Kind != KindSMTP || p.Sure != Guess || !p.Smarthost {
		t.Errorf("stripped and nothing known: %+v, want a guess at a smarthost", p.Placing)
	}
	e.Session.Banner = mail.NewReply(220, "", "smtp.provider.example ESMTP")
	e.Session.Hello = mail.NewReply(250, "", "smtp.provider.example Hello tester.example [203.0.113.10], pleased to meet you")
	p := Judge(e).Proof
	if p.Kind != KindForward || p.Sure != Likely || p.Guilty != addrX || p.Listed != addrP {
		t.Errorf("greeted by the provider, who saw the target: %+v, want likely forwarded", p.Placing)
	}
	if !strings.Contains(strings.Join(p.Notes, " "), "greets the tested address") {
		t.Errorf("notes %q name no sign", p.Notes)
	}
	e.Session.Hello = mail.NewReply(250, "", "smtp.provider.example Hello tester.example [192.0.2.66]")
	if p := Judge(e).Proof; p.Kind != KindSMTP {
		t.Errorf("greeted as ourselves: %+v, want no forwarding", p.Placing)
	}
}

func TestEcho(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"mx Hello tester [192.0.2.1]", "192.0.2.1"},
		{"mx Hello tester [IPv6:2001:db8::1], pleased", "2001:db8::1"},
		{"mx Hello [127.0.0.1] [192.0.2.1]", "192.0.2.1"},
		{"mx", ""},
		{"mx Hello [", ""},
		{"mx Hello [tester]", ""},
	} {
		got := Session{Hello: mail.NewReply(250, "", c.line)}.Echo()
		if got.IsValid() != (c.want != "") || got.IsValid() && got.String() != c.want {
			t.Errorf("%q: %v, want %q", c.line, got, c.want)
		}
	}
}
