package verdict

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/mail"
	"postern/plan"
)

// The evidence of a server that is as it should be; each case changes it.
func closedEvidence() Evidence {
	e := Evidence{
		Addr:    netip.MustParseAddrPort("203.0.113.10:25"),
		From:    netip.MustParseAddr("192.0.2.66"),
		Session: Session{Banner: mail.NewReply(220, "", "mx.victim.example"), Extensions: map[string]string{}},
		Asked: []Asked{
			{Control: KnownRecipient, Recipient: "postmaster@victim.example", Reply: mail.NewReply(250, "2.1.5", "ok")},
			{Control: UnknownRecipient, Recipient: "nosuch@victim.example", Reply: mail.NewReply(550, "5.1.1", "unknown")},
		},
		Waited: 20 * time.Second,
	}
	for _, f := range plan.Forms() {
		if f.Set == plan.Login {
			continue
		}
		e.Exchanges = append(e.Exchanges, Exchange{
			Form: f, Token: plan.Token("pt-" + f.ID), Stage: AtRcpt, Outcome: Denied, Tries: 1,
			Reply: mail.NewReply(554, "5.7.1", "relay access denied"),
		})
	}
	return e
}

// with changes the exchange of one form.
func (e Evidence) with(id string, change func(*Exchange)) Evidence {
	for i := range e.Exchanges {
		if e.Exchanges[i].Form.ID == id {
			change(&e.Exchanges[i])
		}
	}
	return e
}

// all changes every exchange.
func (e Evidence) all(change func(*Exchange)) Evidence {
	for i := range e.Exchanges {
		change(&e.Exchanges[i])
	}
	return e
}

func taken(x *Exchange) {
	x.Outcome, x.Stage, x.Reply = Taken, AtMessage, mail.NewReply(250, "2.0.0", "queued")
}

// to sets the recipient: the form's token and what follows it.
func to(rest string) func(*Exchange) {
	return func(x *Exchange) { x.Envelope.Recipient = string(x.Token) + rest }
}

func answered(o Outcome, r mail.Reply) func(*Exchange) {
	return func(x *Exchange) { x.Outcome, x.Reply = o, r }
}

func notRun(why string, needs bool) func(*Exchange) {
	return func(x *Exchange) {
		*x = Exchange{Form: x.Form, Token: x.Token, Outcome: NotRun, Why: why, Needs: needs}
	}
}

func (e Evidence) arrived(id string, kind ArrivalKind, received ...string) Evidence {
	a := Arrival{Tokens: []plan.Token{plan.Token("pt-" + id)}, Kind: kind, Peer: netip.MustParseAddrPort("203.0.113.10:40000"), Seen: SeenByPeer}
	for _, r := range received {
		a.Header += "Received: " + r + "\r\n"
	}
	e.Arrivals = append(e.Arrivals, a)
	return e
}

func (e Evidence) control(r mail.Reply, atMail bool) Evidence {
	e.Asked = []Asked{{Control: KnownRecipient, Recipient: "postmaster@victim.example", Reply: r, AtMail: atMail}}
	return e
}

func (e Evidence) knows(recipient string, r mail.Reply) Evidence {
	e.Asked = []Asked{{Control: KnownRecipient, Recipient: recipient, Reply: r}}
	return e
}

func passed(why string) func(*Exchange) {
	return func(x *Exchange) { x.Outcome, x.Reply, x.Why = Passed, mail.NewReply(250, "2.1.5", "ok"), why }
}

// catchAllEvidence is that of a server that takes any name of its own domain.
func catchAllEvidence() Evidence {
	e := closedEvidence().with("pct-domain", taken).with("pct-domain", to("%probe.example@victim.example"))
	e.Asked[1].Reply = mail.NewReply(250, "2.1.5", "ok")
	return e
}

// returned is the evidence of a server that takes everything and returns it,
// but for one form.
func (e Evidence) returned(but string) Evidence {
	e = e.all(func(x *Exchange) {
		taken(x)
		to(" " + x.Form.ID)(x)
	})
	for _, x := range e.Exchanges {
		if x.Form.ID != but {
			e = e.arrived(x.Form.ID, Bounce)
		}
	}
	return e
}

// cut is the evidence of a wait that ended before its time.
func (e Evidence) cut() Evidence {
	e.Cut = true
	return e
}

func (e Evidence) waited(d time.Duration) Evidence {
	e.Waited = d
	return e
}

// homePutOff puts off, twice, the forms that end in the server's own domain.
func (e Evidence) homePutOff(text string) Evidence {
	return e.all(func(x *Exchange) {
		if x.Form.Recipient.Uses("dom") {
			x.Outcome, x.Reply, x.Tries = Deferred, mail.NewReply(450, "4.7.1", text), 2
		}
	})
}

func TestJudge(t *testing.T) {
	greylisted := mail.NewReply(450, "4.2.0", "greylisted, try again later")
	seenAsUs := "from tester.example (unknown [192.0.2.66]) by mx.victim.example with ESMTP; x"
	for _, c := range []struct {
		name string
		e    Evidence
		want Verdict
	}{
		{"every form refused", closedEvidence(), Closed},
		{"one message arrived", closedEvidence().with("plain", taken).arrived("plain", Message, seenAsUs), Open},
		{"a message of a refused form arrived all the same", closedEvidence().arrived("pct-domain", Message, seenAsUs), Open},
		{"taken, and nothing arrived", closedEvidence().with("plain", taken), Accepts},
		{"taken, and the notice came back", closedEvidence().with("pct-domain", taken).arrived("pct-domain", Bounce), Closed},
		{"taken, and a notice says that it is late", closedEvidence().with("pct-domain", taken).arrived("pct-domain", Delay), Accepts},
		{"the same recipient came back to us, and cannot come back to a local sender", closedEvidence().
			with("pct-domain", taken).with("pct-domain", to("%probe.example@victim.example")).arrived("pct-domain", Bounce).
			with("pct-local-sender", taken).with("pct-local-sender", to("%probe.example@victim.example")), Closed},
		{"accepted at RCPT, and nothing was sent", closedEvidence().with("pct-domain", passed("no reason")), Inconclusive},
		{"a catch-all took what ends in its own domain", catchAllEvidence(), Closed},
		{"the same, and one came through late", catchAllEvidence().arrived("pct-domain", Message, seenAsUs), Open},
		{"the same, and another was returned: then who knows what it keeps", catchAllEvidence().with("at-at", taken).arrived("at-at", Bounce), Accepts},
		{"the same, and one that ends in a foreign domain was taken", catchAllEvidence().with("trailing-dot", taken), Accepts},
		{"the same, and one that ends in a foreign domain was not decided", catchAllEvidence().with("route-dom", notRun("turned away", false)), Accepts},
		{"the same, and the address of its host takes no unknown name", func() Evidence {
			e := catchAllEvidence().with("pct-host", taken).with("pct-host", to("%probe.example@mx.victim.example"))
			e.Asked = append(e.Asked, Asked{Control: UnknownRecipient, Recipient: "nosuch@mx.victim.example", Reply: mail.NewReply(550, "5.1.1", "unknown")})
			return e
		}(), Accepts},
		{"the same, and arrivals could not be seen", func() Evidence {
			e := catchAllEvidence()
			e.Blind = "it is deaf"
			return e
		}(), Accepts},
		{"one was taken, and unknown recipients are not", closedEvidence().with("pct-domain", taken).with("pct-domain", to("%probe.example@victim.example")), Accepts},
		{"all came back but one", closedEvidence().returned("pct-domain"), Closed},
		{"all came back but one, and that is the plainest", closedEvidence().returned("plain"), Accepts},
		{"all came back but one, and that one arrived", closedEvidence().returned("pct-domain").arrived("pct-domain", Message, seenAsUs), Open},
		{"one came back, another is still out", closedEvidence().with("pct-domain", taken).with("at-at", taken).with("at-at", to("@probe.example@victim.example")).arrived("pct-domain", Bounce), Accepts},
		{"one notice for many forms, and another is still out", closedEvidence().all(func(x *Exchange) {
			taken(x)
			to("@probe.example")(x)
		}).with("pct-domain", to("%probe.example@victim.example")).arrived("plain", Bounce), Accepts},
		{"all came back but one, and that one is said to be late", closedEvidence().returned("pct-domain").arrived("pct-domain", Delay), Accepts},
		{"a catch-all says that what it took is late", catchAllEvidence().arrived("pct-domain", Delay), Accepts},
		{"the same recipient came back to us, and for the local sender it is late", closedEvidence().
			with("pct-domain", taken).with("pct-domain", to("%probe.example@victim.example")).arrived("pct-domain", Bounce).
			with("pct-local-sender", taken).with("pct-local-sender", to("%probe.example@victim.example")).arrived("pct-local-sender", Delay), Accepts},
		{"a catch-all took what ends in its own domain, and the wait was cut short", catchAllEvidence().cut(), Accepts},
		{"a catch-all took what ends in its own domain, and the wait was of a second", catchAllEvidence().waited(time.Second), Accepts},
		{"all came back but one, and the wait was cut short", closedEvidence().returned("pct-domain").cut(), Accepts},
		{"all came back but one, in a second", closedEvidence().returned("pct-domain").waited(time.Second), Accepts},
		{"smuggling that came to nothing before the wait was cut short", closedEvidence().with("smuggle-lf-lf", taken).cut(), Inconclusive},
		{"a block tells where to log in", closedEvidence().control(mail.NewReply(550, "5.7.1", "Client host [192.0.2.66] blocked; log in to https://bl.example to be removed"), true).all(answered(Denied, mail.NewReply(550, "5.7.1", "Client host [192.0.2.66] blocked; log in to https://bl.example to be removed"))), Inconclusive},
		{"a block has a link that holds login", closedEvidence().control(mail.NewReply(550, "5.7.1", "rejected, see https://bl.example/login"), true).all(answered(Denied, mail.NewReply(550, "5.7.1", "rejected, see https://bl.example/login"))), Inconclusive},
		{"a sender without SPF is unauthenticated", closedEvidence().control(mail.NewReply(550, "5.7.1", "SPF failed: sender is unauthenticated"), true).all(answered(Denied, mail.NewReply(550, "5.7.1", "SPF failed: sender is unauthenticated"))), Inconclusive},
		{"a block of those without a login", closedEvidence().control(mail.NewReply(550, "5.7.1", "blacklisted; unauthenticated senders from your network are not accepted"), true).all(answered(Denied, mail.NewReply(550, "5.7.1", "blacklisted; unauthenticated senders from your network are not accepted"))), Inconclusive},
		{"our relay is not authorized", closedEvidence().control(mail.NewReply(550, "5.7.1", "mail relay 192.0.2.66 is not authorized"), true).all(answered(Denied, mail.NewReply(550, "5.7.1", "mail relay 192.0.2.66 is not authorized"))), Inconclusive},
		{"our address has no name in the DNS", closedEvidence().control(mail.NewReply(550, "5.7.25", "PTR record not found for 192.0.2.66"), false).all(answered(Denied, mail.NewReply(550, "5.7.25", "PTR record not found for 192.0.2.66"))), Inconclusive},
		{"the same, without an enhanced code", closedEvidence().control(mail.NewReply(550, "", "PTR record not found for 192.0.2.66"), false).all(answered(Denied, mail.NewReply(550, "", "PTR record not found for 192.0.2.66"))), Inconclusive},
		{"the name of our host is missing", closedEvidence().control(mail.NewReply(550, "", "hostname of your server does not exist"), false).all(answered(Denied, mail.NewReply(550, "", "hostname of your server does not exist"))), Inconclusive},
		{"the domain of our sender is missing", closedEvidence().control(mail.NewReply(550, "5.7.1", "Domain of sender address s@x.example does not exist"), false).all(answered(Denied, mail.NewReply(550, "5.7.1", "Domain of sender address s@x.example does not exist"))), Inconclusive},
		{"the sender's user is unknown", closedEvidence().control(mail.NewReply(550, "", "Sender verify failed: no such user"), false).all(answered(Denied, mail.NewReply(550, "", "Sender verify failed: no such user"))), Inconclusive},
		{"the percent hack was taken, and the message refused as spam", closedEvidence().with("pct-domain", func(x *Exchange) {
			x.Outcome, x.Stage, x.Reply = Denied, AtMessage, mail.NewReply(554, "5.7.1", "Spam message rejected")
		}), Inconclusive},
		{"a smuggled message was refused for its content", closedEvidence().with("smuggle-lf-lf", func(x *Exchange) {
			x.Outcome, x.Stage, x.Reply = Denied, AtMessage, mail.NewReply(550, "5.5.2", "bare LF in content")
		}), Closed},
		{"refused with 454, as Postfix does", closedEvidence().all(answered(Deferred, mail.NewReply(454, "4.7.1", "Relay access denied"))), Closed},
		{"454, and the control was put off too", closedEvidence().control(greylisted, false).all(answered(Deferred, mail.NewReply(454, "4.7.1", "Relay access denied"))), Inconclusive},
		{"everything greylisted", closedEvidence().control(greylisted, false).all(answered(Deferred, greylisted)), Inconclusive},
		{"greylisted, but not the control", closedEvidence().all(answered(Deferred, greylisted)), Inconclusive},
		{"a limit on relaying puts every form off", closedEvidence().all(answered(Deferred, mail.NewReply(450, "4.7.1", "Relay rate limit exceeded, try again later"))), Inconclusive},
		{"a limit on relaying in other words", closedEvidence().all(answered(Deferred, mail.NewReply(450, "4.7.1", "too many relay attempts, try again later"))), Inconclusive},
		{"greylisted, and the link to why holds the word relay", closedEvidence().all(answered(Deferred, mail.NewReply(450, "4.7.1", "Greylisted, see http://postgrey.example/help/relaytest.example.html"))), Inconclusive},
		{"greylisted in words of our address", closedEvidence().homePutOff("Client host rejected: Greylisted for 300 seconds"), Inconclusive},
		{"greylisted in words of our IP", closedEvidence().homePutOff("Your IP is greylisted"), Inconclusive},
		{"greylisted in words of a block", closedEvidence().homePutOff("temporarily blocked (greylisting)"), Inconclusive},
		{"greylisted in words of spam", closedEvidence().homePutOff("Greylisted to fight spam, please try again later"), Inconclusive},
		{"one form of many put off twice with a firm word", closedEvidence().with("ip-sender", func(x *Exchange) {
			x.Outcome, x.Reply, x.Tries = Deferred, mail.NewReply(450, "4.1.8", "sender domain not found"), 2
		}), Closed},
		{"the control refused like all the rest", closedEvidence().control(mail.NewReply(550, "5.7.1", "blocked"), false), Inconclusive},
		{"the control's mailbox is missing, its domain is known", closedEvidence().control(mail.NewReply(550, "5.1.1", "no such user"), false), Closed},
		{"the control's mailbox is missing, as Exim says it", closedEvidence().control(mail.NewReply(550, "", "Unrouteable address"), false).all(answered(Denied, mail.NewReply(550, "", "relay not permitted"))), Closed},
		{"one word for an unknown user and for relaying", closedEvidence().control(mail.NewReply(550, "", "Invalid recipient"), false).all(answered(Denied, mail.NewReply(550, "", "Invalid recipient"))), Inconclusive},
		{"a login is demanded of the postmaster without a domain too", closedEvidence().knows("postmaster", mail.NewReply(550, "5.7.1", "Authentication required")).all(answered(Denied, mail.NewReply(550, "5.7.1", "Authentication required"))), Closed},
		{"a login is demanded for a domain that may be a stranger's", closedEvidence().control(mail.NewReply(550, "5.7.1", "Authentication required"), false).all(answered(Denied, mail.NewReply(550, "5.7.1", "Authentication required"))), Inconclusive},
		{"TLS is demanded, and could not be made", closedEvidence().control(mail.NewReply(530, "5.7.0", "Must issue a STARTTLS command first"), true).all(answered(Denied, mail.NewReply(530, "5.7.0", "Must issue a STARTTLS command first"))), Inconclusive},
		{"the plainest form is refused for our address, from which the postmaster takes mail", closedEvidence().with("plain", answered(Denied, mail.NewReply(554, "5.7.1", "blocked using dnsbl.example"))), Inconclusive},
		{"our sender refused", closedEvidence().control(mail.NewReply(553, "5.1.8", "domain of sender does not exist"), true), Inconclusive},
		{"a login is demanded at MAIL, in Postfix's words", closedEvidence().control(mail.NewReply(530, "5.7.0", "<a@b.example>: Sender address rejected: Authentication required"), true).all(answered(Denied, mail.NewReply(530, "5.7.0", "<a@b.example>: Sender address rejected: Authentication required"))), Closed},
		{"the same with another code", closedEvidence().control(mail.NewReply(550, "5.7.0", "<a@b.example>: Sender address rejected: Authentication required"), true).all(answered(Denied, mail.NewReply(550, "5.7.0", "<a@b.example>: Sender address rejected: Authentication required"))), Closed},
		{"a login is demanded", closedEvidence().control(mail.NewReply(530, "5.7.0", "authentication required"), true).all(answered(Denied, mail.NewReply(530, "5.7.0", "authentication required"))), Closed},
		{"the recipient's domain is what was refused", closedEvidence().with("plain", answered(Denied, mail.NewReply(550, "5.1.2", "host unknown"))), Inconclusive},
		{"half of the battery never ran", closedEvidence().all(func(x *Exchange) {
			if x.Form.Set != plan.Core && len(x.Form.ID)%2 == 0 {
				notRun("turned away", false)(x)
			}
		}), Inconclusive},
		{"one of the core never ran", closedEvidence().with("local-sender", notRun("turned away", false)), Inconclusive},
		{"forms that lack a fact do not count", closedEvidence().with("backup-mx", notRun("needs a zone", true)), Closed},
		{"hung up on one form", closedEvidence().with("nul", func(x *Exchange) { x.Outcome = Dropped }), Closed},
		{"hung up on the whole message of the plainest form", closedEvidence().with("plain", func(x *Exchange) { x.Outcome, x.Stage = Dropped, AtMessage }), Inconclusive},
		{"refused at the banner", func() Evidence {
			e := closedEvidence().control(mail.Reply{}, false)
			e.Session.Banner = mail.NewReply(554, "5.7.1", "go away")
			return e
		}(), Inconclusive},
		{"no SMTP there", Evidence{NotTested: "not an SMTP server"}, NotTested},
		{"nothing played", Evidence{}, Inconclusive},
		{"a subaddress of the postmaster is the postmaster's", closedEvidence().with("plus-ext", func(x *Exchange) {
			taken(x)
			x.Envelope.Recipient = "postmaster+t=probe.example@victim.example"
		}), Closed},
		{"a subaddress of nobody is not", closedEvidence().with("plus-ext", func(x *Exchange) {
			taken(x)
			x.Envelope.Recipient = "root+t=probe.example@victim.example"
		}), Accepts},
		{"smuggling that came to nothing", closedEvidence().with("smuggle-lf-lf", taken), Closed},
		{"smuggling that arrived", closedEvidence().with("smuggle-lf-lf", taken).arrived("smuggle-lf-lf", Message, seenAsUs), Open},
		{"somebody else's arrival", closedEvidence().with("plain", taken).arrived("other", Message, seenAsUs), Accepts},
	} {
		j := Judge(c.e)
		if j.Verdict != c.want {
			t.Errorf("%s: %s (%s), want %s", c.name, j.Verdict, j.Why, c.want)
		}
		if j.Why == "" {
			t.Errorf("%s: a verdict without a reason", c.name)
		}
		if (j.Verdict == Accepts || j.Verdict == Inconclusive) && j.Do == "" {
			t.Errorf("%s: doubt without a way out of it", c.name)
		}
		if (j.Verdict == Open) != (j.Proof != nil) {
			t.Errorf("%s: %s with proof %v", c.name, j.Verdict, j.Proof)
		}
	}
}

// No evidence without an arrival may ever be called open.
func TestOnlyAnArrivalProves(t *testing.T) {
	for _, o := range []Outcome{Taken, Passed, Denied, Deferred, Dropped, Silent, NotOffered, NotRun} {
		if j := Judge(closedEvidence().all(func(x *Exchange) { x.Outcome = o })); j.Verdict == Open {
			t.Errorf("every form %q, no arrival: open", o)
		}
		bounced := closedEvidence().all(func(x *Exchange) { x.Outcome = o }).arrived("plain", Bounce)
		if j := Judge(bounced); j.Verdict == Open {
			t.Errorf("every form %q, one notice: open", o)
		}
	}
}

func TestBackscatterIsShown(t *testing.T) {
	j := Judge(closedEvidence().with("pct-domain", taken).arrived("pct-domain", Bounce))
	if j.Backscatter == nil || j.Count(Bounced) != 1 {
		t.Errorf("backscatter %v, %d bounced; want the notice and 1", j.Backscatter, j.Count(Bounced))
	}
}

func TestTheAddressRule(t *testing.T) {
	for _, c := range []struct {
		name, received, egress string
		form                   string
		kind                   Kind
		notes                  int
	}{
		{"relays itself", "from t (unknown [192.0.2.66]) by mx.victim.example; x", "203.0.113.10", "plain", KindSMTP, 0},
		{"through a smarthost", "from t (unknown [192.0.2.66]) by mx.victim.example; x", "198.51.100.4", "plain", KindSMTP, 1},
		{"forwarded port", "from t (host [203.0.113.10]) by smtp.provider.example; x", "198.51.100.4", "plain", KindForward, 2},
		{"lost client address", "from t (unknown [172.17.0.1]) by mx.victim.example; x", "203.0.113.10", "plain", KindSMTP, 1},
		{"its own address, and it sends itself", "from t (unknown [203.0.113.10]) by mx.victim.example; x", "203.0.113.10", "plain", KindSMTP, 1},
		{"claimed by XCLIENT", "from t (localhost [127.0.0.1]) by mx.victim.example; x", "203.0.113.10", "xclient", KindSMTP, 1},
		{"no trace field", "", "203.0.113.10", "plain", KindSMTP, 1},
		{"a smarthost without a name", "from t (unknown [192.0.2.66]) by mx.victim.example; x", "198.51.100.5", "plain", KindSMTP, 1},
	} {
		e := closedEvidence().with(c.form, taken)
		if c.received == "" {
			e = e.arrived(c.form, Message)
		} else {
			e = e.arrived(c.form, Message, "from mx.victim.example by collector; x", c.received)
		}
		e.Arrivals[0].Peer = netip.AddrPortFrom(netip.MustParseAddr(c.egress), 1)
		p := Judge(e).Proof
		if p == nil || p.Kind != c.kind || len(p.Notes) != c.notes {
			t.Errorf("%s: %+v, want kind %s and %d notes", c.name, p, c.kind, c.notes)
		}
	}
}

// On loopback everybody is the machine itself, and only an address of loopback
// that is not ours shows what stands between: the lab's hosts are such.
func TestTheAddressRuleOnLoopback(t *testing.T) {
	for _, c := range []struct{ name, seen, egress, note string }{
		{"seen as ourselves", "127.0.0.1", "127.0.0.41", "from the machine itself"},
		{"seen as a container's gateway, as a test from its host is", "172.17.0.1", "127.0.0.41", "from the machine itself"},
		{"seen as another host of the lab", "127.0.0.42", "127.0.0.41", "lost its clients' addresses"},
		{"seen as the target, by another host", "127.0.0.41", "127.0.0.43", "took the stranger for its customer"},
	} {
		e := closedEvidence().with("plain", taken).arrived("plain", Message, "from t (x ["+c.seen+"]) by mx.victim.example; x")
		e.Addr, e.From = netip.MustParseAddrPort("127.0.0.41:2505"), netip.MustParseAddr("127.0.0.1")
		e.Arrivals[0].Peer = netip.AddrPortFrom(netip.MustParseAddr(c.egress), 1)
		if notes := strings.Join(Judge(e).Proof.Notes, "; "); !strings.Contains(notes, c.note) {
			t.Errorf("%s: notes %q, want %q", c.name, notes, c.note)
		}
	}
}
