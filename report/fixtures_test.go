package report

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"postern/door"
	"postern/mail"
	"postern/plan"
	"postern/transcript"
	"postern/verdict"
)

// The fixtures are reports as a check makes them: evidence, judged.

var (
	clock  = time.Date(2026, 11, 24, 14, 2, 11, 0, time.UTC)
	tester = netip.MustParseAddr("192.0.2.66")
	four   = netip.MustParseAddr("203.0.113.10")
	six    = netip.MustParseAddr("2001:db8:2::10")
)

// A server is how a fixture's server behaves.
type server struct {
	banner     string
	hello      []string
	refusal    mail.Reply
	arrives    []string // forms whose message arrives
	accepted   []string // forms that are taken and lead nowhere
	bounces    []string // forms that are taken and come back as a notice
	seen       string   // our address as its trace field has it
	egress     string
	egressName string
	needs      map[string]string // forms that do not apply, and why
	put        string            // every form is put off with this text
	control    mail.Reply
	unknown    mail.Reply
	until      time.Time
	taken      mail.Reply // to the end of a message
	tls        string
	blind      string
}

var postfix = server{
	banner: "mx.victim.example ESMTP Postfix (Debian/GNU)",
	hello: []string{
		"mx.victim.example", "PIPELINING", "SIZE 10240000", "VRFY", "ETRN", "STARTTLS", "ENHANCEDSTATUSCODES",
		"8BITMIME", "DSN", "SMTPUTF8", "CHUNKING",
	},
	refusal: mail.NewReply(454, "4.7.1", "<b@relaytest.example>: Relay access denied"),
	control: mail.NewReply(250, "2.1.5", "Ok"), unknown: mail.NewReply(550, "5.1.1", "<nosuch@victim.example>: Recipient address rejected: User unknown in local recipient table"),
	taken: mail.NewReply(250, "2.0.0", "Ok: queued as 4F9C21A0B3"),
	seen:  "192.0.2.66", egress: "203.0.113.10", egressName: "mx.victim.example",
}

// exim is a closed server that offers logins in the clear.
var exim = server{
	banner:  "mx.victim.example ESMTP Exim 4.96 Tue, 24 Nov 2026 14:02:11 +0000",
	hello:   []string{"mx.victim.example Hello tester.example [192.0.2.66]", "SIZE 52428800", "8BITMIME", "PIPELINING", "PIPECONNECT", "AUTH PLAIN LOGIN", "CHUNKING", "PRDR", "HELP"},
	refusal: mail.NewReply(550, "", "relay not permitted"),
	control: mail.NewReply(250, "", "Accepted"), unknown: mail.NewReply(550, "", "Unrouteable address"),
	seen: "192.0.2.66", egress: "203.0.113.10", egressName: "mx.victim.example",
}

func tokenOf(id string) plan.Token {
	return plan.Token("pt" + strings.Repeat("a", 24-min(24, len(id))) + strings.ReplaceAll(id, "-", "7"))
}

func has(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// play plays the whole battery against a server.
func (s server) play(addr netip.AddrPort) verdict.Judgement {
	e := verdict.Evidence{
		Addr: addr, From: tester, Waited: 2 * time.Minute, Until: s.until, Blind: s.blind,
		Session: verdict.Session{Banner: mail.NewReply(220, "", s.banner), Hello: mail.Reply{Code: 250, Lines: s.hello}, Extensions: map[string]string{}, TLS: s.tls},
		Asked: []verdict.Asked{
			{Control: verdict.KnownRecipient, Recipient: "postmaster@victim.example", Reply: s.control},
			{Control: verdict.UnknownRecipient, Recipient: "nosuch-1@victim.example", Reply: s.unknown},
		},
	}
	for _, line := range s.hello[min(1, len(s.hello)):] {
		keyword, parameters, _ := strings.Cut(line, " ")
		e.Session.Extensions[strings.ToUpper(keyword)] = parameters
	}
	for i, form := range plan.Forms() {
		if form.Set == plan.Login {
			continue
		}
		x := s.exchange(form, clock.Add(time.Duration(i)*time.Second/4))
		e.Exchanges = append(e.Exchanges, x)
		if has(s.arrives, form.ID) {
			e.Arrivals = append(e.Arrivals, s.arrival(x, verdict.Message))
		}
		if has(s.bounces, form.ID) {
			e.Arrivals = append(e.Arrivals, s.arrival(x, verdict.Bounce))
		}
	}
	return verdict.Judge(e)
}

func (s server) exchange(form plan.Form, at time.Time) verdict.Exchange {
	token := tokenOf(form.ID)
	x := verdict.Exchange{
		Form: form, Token: token, Stage: verdict.AtRcpt, Outcome: verdict.Denied, Reply: s.refusal, Tries: 1, At: at,
		Envelope: plan.Envelope{Sender: "s-" + string(token) + "@relaytest.example", Recipient: string(token) + "@relaytest.example"},
	}
	if s.refusal.Transient() {
		x.Outcome = verdict.Deferred
	}
	switch {
	case s.needs[form.ID] != "":
		x.Outcome, x.Needs, x.Why, x.Reply, x.Tries = verdict.NotRun, true, s.needs[form.ID], mail.Reply{}, 0
		return x
	case s.put != "":
		x.Outcome, x.Reply, x.Tries = verdict.Deferred, mail.NewReply(451, "4.7.1", s.put), 3
	case has(s.arrives, form.ID), has(s.accepted, form.ID), has(s.bounces, form.ID):
		x.Stage, x.Outcome, x.Reply = verdict.AtMessage, verdict.Taken, s.taken
	}
	if x.Outcome == verdict.Taken && s.blind != "" {
		x.Stage, x.Outcome, x.Reply, x.Why = verdict.AtRcpt, verdict.Passed, mail.NewReply(250, "2.1.5", "Ok"), s.blind
	}
	x.Transcript = conversation(x, s.banner)
	return x
}

func conversation(x verdict.Exchange, banner string) *transcript.Transcript {
	t := &transcript.Transcript{}
	t.Add(clock, transcript.Received, []byte("220 "+banner+"\r\n"))
	t.Add(clock, transcript.Sent, []byte("EHLO tester.example\r\n"))
	t.Add(clock, transcript.Received, []byte("250 mx.victim.example\r\n"))
	t.Add(clock, transcript.Sent, []byte("MAIL FROM:<"+x.Envelope.Sender+">\r\n"))
	t.Add(clock, transcript.Received, []byte("250 2.1.0 Ok\r\n"))
	t.Add(clock, transcript.Sent, []byte("RCPT TO:<"+x.Envelope.Recipient+">\r\n"))
	t.Add(clock, transcript.Received, x.Reply.AppendWire(nil))
	return t
}

func (s server) arrival(x verdict.Exchange, kind verdict.ArrivalKind) verdict.Arrival {
	a := verdict.Arrival{
		Tokens: []plan.Token{x.Token}, Kind: kind, At: x.At.Add(2 * time.Second), Peer: netip.AddrPortFrom(netip.MustParseAddr(s.egress), 43210),
		PTR: s.egressName, Helo: s.egressName, ReversePath: "<" + x.Envelope.Sender + ">", ForwardPath: "<" + x.Envelope.Recipient + ">", Size: 812, Seen: verdict.SeenByPeer,
		Header: fmt.Sprintf("Received: from tester.example (tester.example [%s])\r\n\tby mx.victim.example (Postfix) with ESMTP id 4F9C21A0B3\r\n\tfor <%s>; Tue, 24 Nov 2026 14:02:12 +0000 (UTC)\r\nSubject: Postern relay check %s\r\n", s.seen, x.Envelope.Recipient, x.Token),
	}
	if kind == verdict.Bounce {
		a.ReversePath, a.ForwardPath = "<>", "<"+x.Envelope.Sender+">"
	}
	return a
}

// first returns the ids of the first n forms of the battery, for a server that
// takes what anybody sends.
func first(n int) []string {
	ids := make([]string, 0, n)
	for _, f := range plan.Forms()[:n] {
		ids = append(ids, f.ID)
	}
	return ids
}

func tested(addr netip.Addr, port uint16, s server) Door {
	return Door{Door: door.SMTP, Judgement: s.play(netip.AddrPortFrom(addr, port))}
}

func untested(addr netip.Addr, port uint16, why string) Door {
	return Door{Door: door.SMTP, Judgement: verdict.Judge(verdict.Evidence{Addr: netip.AddrPortFrom(addr, port), NotTested: why})}
}

func reported(given string, addresses ...Address) Report {
	return Report{Given: given, Host: given, Addresses: addresses, Started: clock, Took: 3*time.Minute + 4*time.Second}
}

func address(ip netip.Addr, shut []uint16, doors ...Door) Address {
	return Address{IP: ip, Doors: doors, Shut: shut, Ports: door.SMTP.Ports()}
}

// with returns the server, changed.
func (s server) with(change func(*server)) server {
	change(&s)
	return s
}

var missing = map[string]string{
	"backup-mx":      "needs a zone of our own that lists the target as an MX (--zone NAME)",
	"relaydom-at-at": "needs a domain that the target relays for (--relay-domain NAME)", "relaydom-pct": "needs a domain that the target relays for (--relay-domain NAME)",
	"helo-ip": "the same as helo-loopback",
}

// A proxyServer is how a fixture's proxy behaves.
type proxyServer struct {
	led    []string // forms whose message arrives
	noted  []string // forms that it grants besides
	egress string
	said   string // to all others
	shown  string
	answer verdict.Answer
	tls    string
}

// hangingUp completes the evidence of a port that hangs up on every word.
func hangingUp(e verdict.Evidence) Door {
	e.Door = door.SOCKS
	e.NotTested = "it takes the connection and hangs up on our first word, whichever that is: so does a server that speaks to nobody but its own clients, and what it does for those cannot be seen from here"
	e.Do = "test from an address that it is meant to serve, or see in its configuration who that is"
	return Door{Door: e.Door, Judgement: verdict.Judge(e)}
}

// proxyAt plays the whole battery of a door against a proxy.
func proxyAt(d door.Door, port uint16, s proxyServer) Door {
	if s.answer == "" {
		s.answer, s.said = verdict.Forbidden, "connection not allowed by ruleset"
	}
	e := verdict.Evidence{Door: d, Addr: netip.AddrPortFrom(four, port), From: tester, Waited: 3 * time.Second, Session: verdict.Session{TLS: s.tls}}
	for i, form := range plan.At(d) {
		if form.Set == plan.Login || form.Set == plan.Inside {
			continue
		}
		token := tokenOf(form.ID)
		x := verdict.Exchange{
			Form: form, Token: token, Stage: verdict.AtProxy, Outcome: verdict.Denied, Answer: s.answer, Said: s.said, Shown: s.shown, Tries: 1,
			At:       clock.Add(time.Duration(i) * time.Second / 4),
			Envelope: plan.Envelope{Sender: "s-" + string(token) + "@relaytest.example", Recipient: string(token) + "@relaytest.example", MoveArg: "198.51.100.25:25"},
		}
		x.Transcript = &transcript.Transcript{}
		x.Transcript.Add(clock, transcript.Sent, []byte("CONNECT 198.51.100.25:25 HTTP/1.1\r\n\r\n"))
		switch {
		case has(s.led, form.ID):
			x.Outcome, x.Stage, x.Answer, x.Said, x.Reply, x.Nonce, x.Ours = verdict.Taken, verdict.AtMessage, verdict.Granted, "", mail.NewReply(250, "2.0.0", "arrival recorded"), "n-1", true
			a := server{egress: s.egress, egressName: "proxy.victim.example"}.arrival(x, verdict.Message)
			a.Header, a.Nonce, a.Helo = fmt.Sprintf("Subject: Postern relay check %s\r\n", token), "n-1", "tester.example"
			e.Arrivals = append(e.Arrivals, a)
		case has(s.noted, form.ID):
			x.Outcome, x.Answer, x.Said, x.Ours = verdict.Taken, verdict.Granted, "granted", form.Move.Arg.Uses("p443")
		}
		e.Exchanges = append(e.Exchanges, x)
	}
	return Door{Door: d, Judgement: verdict.Judge(e)}
}

// fixtures are the reports of the goldens, by name.
func fixtures() map[string]Report {
	closed := postfix.with(func(s *server) { s.needs = missing })
	open := postfix.with(func(s *server) { s.arrives = first(32) })
	hostile := postfix.with(func(s *server) {
		s.banner = "mx \x1b[2J\x1b]0;owned\x07 ESMTP Postfix \u202eevil" + strings.Repeat(" long", 2000)
		s.hello = []string{"mx\x1b[31m", "AUTH \x9b31m\xff\xfe", "VRFY"}
		s.arrives, s.egressName = []string{"plain"}, "evil\u202e\r\nmx.victim.example  CLOSED\x1b[0m\x00\xff</failure>"
		s.refusal = mail.NewReply(550, "5.7.1", "\x1b[1A\x1b[2Kno\u2028\u2066\x7f"+strings.Repeat("A", 3000))
	})
	nobody := server{banner: "mx.victim.example ESMTP", hello: []string{"mx.victim.example"}, refusal: mail.NewReply(250, "2.1.5", "Ok"), control: mail.NewReply(250, "2.1.5", "Ok"), unknown: mail.NewReply(250, "2.1.5", "Ok"), seen: "192.0.2.66", egress: "203.0.113.10"}
	nobody.taken = mail.NewReply(250, "2.0.0", "thank you")
	nobody.until = clock.Add(5 * 24 * time.Hour)
	trap := nobody.with(func(s *server) {
		s.accepted = first(40)
		s.refusal = mail.NewReply(550, "5.7.1", "no")
		s.unknown = s.refusal
	})
	return map[string]Report{
		"closed-postfix": reported("mx.victim.example",
			address(four, []uint16{465, 2525}, tested(four, 25, closed), tested(four, 587, exim.with(func(s *server) { s.needs = missing }))),
			address(six, []uint16{465, 2525}, tested(six, 25, closed), tested(six, 587, exim.with(func(s *server) { s.needs = missing })))),
		"open-postfix": reported("203.0.113.10", address(four, []uint16{465, 587, 2525}, tested(four, 25, open))),
		"forwarded-port": reported("203.0.113.10", address(four, []uint16{465, 587, 2525}, tested(four, 25, open.with(func(s *server) {
			s.seen, s.egress, s.egressName = "203.0.113.10", "198.51.100.4", "smtp.provider.example"
		})))),
		"lost-client-address": reported("mail.victim.example", address(four, nil, tested(four, 25, open.with(func(s *server) { s.seen = "172.17.0.1" })))),
		"two-holes": reported("mx.victim.example", address(four, nil, tested(four, 25, postfix.with(func(s *server) {
			s.arrives = []string{"local-sender", "host-sender", "backup-mx"}
		})))),
		"catch-all": reported("mx.victim.example", address(four, nil, tested(four, 25, nobody.with(func(s *server) {
			s.accepted = []string{"pct-domain", "at-at", "bang-dom"}
			s.refusal = mail.NewReply(550, "5.7.1", "we do not relay")
		})))),
		"no-collector": reported("mx.victim.example", address(four, nil, tested(four, 25, trap.with(func(s *server) {
			s.blind, s.until, s.unknown = "there is no collector", time.Time{}, mail.NewReply(250, "2.1.5", "Ok")
		})))),
		"no-postmaster": reported("mx.victim.example", address(four, nil, tested(four, 25, exim.with(func(s *server) {
			s.control = s.unknown
		})))),
		"trap": reported("mx.victim.example", address(four, nil, tested(four, 25, trap))),
		"greylisted": reported("mx.victim.example", address(four, nil, tested(four, 25, postfix.with(func(s *server) {
			s.put, s.control, s.unknown = "greylisted, try again later", mail.NewReply(451, "4.7.1", "greylisted, try again later"), mail.Reply{}
		})))),
		"refused-connection": reported("192.0.2.9", address(netip.MustParseAddr("192.0.2.9"), door.SMTP.Ports())),
		"no-such-name":       {Given: "mx.victim.exmaple", Host: "mx.victim.exmaple", Failure: "mx.victim.exmaple does not resolve: NXDOMAIN", Started: clock},
		"not-smtp": reported("192.0.2.9", address(netip.MustParseAddr("192.0.2.9"), []uint16{465, 587, 2525},
			untested(netip.MustParseAddr("192.0.2.9"), 25, `not an SMTP server: it said "HTTP/1.0 400 Bad Request\r\n"`))),
		"open-over-six": reported("mx.victim.example",
			address(four, nil, tested(four, 25, postfix)),
			address(six, []uint16{587}, tested(six, 25, postfix.with(func(s *server) {
				s.arrives, s.egress = []string{"plain", "null"}, "2001:db8:2::10"
			})), untested(six, 465, "no answer; a firewall drops what we send"))),
		"backscatter": reported("mx.victim.example", address(four, nil, tested(four, 25, postfix.with(func(s *server) {
			s.bounces, s.hello, s.banner, s.refusal = []string{"dsn-reflect", "pct-domain"}, []string{"mx.victim.example", "PIPELINING", "8BITMIME"}, "mx.victim.example ESMTP",
				mail.NewReply(553, "", "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)")
			s.taken, s.unknown = mail.NewReply(250, "", "ok 1763990000 qp 4711"), mail.NewReply(250, "", "ok")
		})))),
		"open-socks": reported("203.0.113.10", address(four, []uint16{465, 587, 2525, 1081}, tested(four, 25, closed),
			proxyAt(door.SOCKS, 1080, proxyServer{led: []string{"socks5-ipv4", "socks4"}, noted: []string{"socks5-web", "socks5-bind"}, egress: "198.51.100.99"}))),
		"open-web-proxy": reported("203.0.113.10", address(four, []uint16{25},
			proxyAt(door.Connect, 3128, proxyServer{led: []string{"connect-name"}, egress: "203.0.113.10", shown: "Server: squid/5.7\nVia: 1.1 proxy (squid/5.7)\n", said: "HTTP 403 Forbidden", answer: verdict.Forbidden}))),
		"proxy-inside-tls": reported("203.0.113.10", address(four, []uint16{25},
			proxyAt(door.Connect, 443, proxyServer{led: []string{"connect-h2"}, egress: "203.0.113.10", said: "HTTP 403 Forbidden", answer: verdict.Forbidden, tls: "TLS 1.3 TLS_AES_128_GCM_SHA256"}))),
		"hangs-up":              reported("203.0.113.10", address(four, []uint16{1081}, hangingUp(verdict.Evidence{Addr: netip.AddrPortFrom(four, 1080)}))),
		"hangs-up-though-named": reported("203.0.113.10", address(four, []uint16{1081}, hangingUp(verdict.Evidence{Addr: netip.AddrPortFrom(four, 1080), Named: true}))),
		"proxy-for-the-web-alone": reported("proxy.victim.example", address(four, []uint16{25},
			proxyAt(door.Connect, 8080, proxyServer{noted: []string{"connect-web"}, shown: "Proxy-Agent: tinyproxy/1.11.1\n", said: "HTTP 403 Access violation", answer: verdict.Forbidden}),
			proxyAt(door.SOCKS, 1080, proxyServer{said: "the server accepts none of the offered methods", answer: verdict.WantsLogin}))),
		"two-ways-out": reported("mx.victim.example", address(four, nil, tested(four, 25, postfix.with(func(s *server) { s.arrives = []string{"local-sender"} })),
			proxyAt(door.SOCKS, 1080, proxyServer{led: []string{"socks5-ipv4"}, egress: "203.0.113.10"}))),
		"hostile-proxy": reported("203.0.113.10", address(four, nil,
			proxyAt(door.Connect, 8080, proxyServer{led: []string{"post"}, egress: "203.0.113.10", shown: "Server: squid\x1b[2J\u202e\n", said: "HTTP 403 \x1b]0;owned\x07\u2028" + strings.Repeat("A", 500), answer: verdict.NoProxy}))),
		"hostile": reported("x'; rm -rf $HOME\x1b[31m", address(four, nil, tested(four, 25, hostile))),
	}
}
