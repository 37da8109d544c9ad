package lab

import (
	"context"
	"net"
	"net/netip"
	"time"

	"postern/door"
	"postern/mail"
	"postern/open"
	"postern/verdict"
)

// A Specimen is one server of the lab, with the verdict that it deserves.
type Specimen struct {
	Name        string
	What        string // what it is, for people
	Want        verdict.Verdict
	Form        string // of an open one: the form that must prove it
	Door        door.Door
	Kind        verdict.Kind // of an open one, by which way its mail leaves; "": by its own relaying
	Egress      netip.Addr   // of an open one: the address that the collector must see; zero: any
	Backscatter bool
	IPv6        bool   // listens on [::1] as well
	Flags       string // what `postern check` needs besides
	Wire        Wire   // what happens below SMTP
	TLS         bool   // of a proxy: it is reached inside TLS
	Server      func(w World) open.SMTP

	Host netip.Addr                     // where it listens; zero: where the lab does
	Gate func(w World) (Gateway, error) // of a specimen that is no mail server of its own
}

// A Gateway serves the connections of a listener until ctx ends.
type Gateway interface {
	Run(ctx context.Context, l net.Listener) error
}

// A Wire is a fault below SMTP.
type Wire string

// The faults.
const (
	WholeWrites Wire = ""
	SplitEHLO   Wire = "split-ehlo"   // the answer to EHLO comes in two segments
	Mute        Wire = "mute"         // takes the connection and says nothing
	NotSMTP     Wire = "not-smtp"     // speaks another protocol
	LosesGroups Wire = "loses-groups" // loses what comes behind the first command of a group
	DeafToEHLO  Wire = "deaf-to-ehlo" // hangs up at EHLO
)

// A World is what specimens need to know of the lab.
type World struct {
	Lookup    mxLookup
	Collector netip.AddrPort
	Ports     map[uint16]uint16 // further ports of the collector, each for the one that it stands for
	sink      func(host string, from netip.Addr) open.Sink
	behind    func(host netip.Addr, g Gateway) (netip.AddrPort, error)
}

func by(rule open.Rule) func(World) open.SMTP {
	return func(World) open.SMTP { return open.SMTP{Rule: rule} }
}

// greylistDelay is short, so that the lab's own check need not wait long.
const greylistDelay = 2 * time.Second

// Specimens returns the lab's servers, open ones first.
func Specimens() []Specimen {
	all := append(openRelays(), openProxies()...)
	all = append(all, forwardedPorts()...)
	all = append(all, decoys()...)
	all = append(all, proxyDecoys()...)
	for i := range all {
		if all[i].Door == 0 {
			all[i].Door = door.SMTP
		}
		if all[i].Want == verdict.Open && all[i].Kind == "" {
			all[i].Kind = verdict.KindSMTP
		}
	}
	return all
}

func openRelays() []Specimen {
	return []Specimen{
		{Name: "open", What: "relays for anybody", Want: verdict.Open, Form: "plain", Server: by(when(anybody))},
		{Name: "local-sender", What: "trusts whoever claims a sender of its own", Want: verdict.Open, Form: "local-sender", Server: by(when(localSender))},
		{Name: "role-sender", What: "trusts one sender of its own, info@", Want: verdict.Open, Form: "sender-info", Server: by(when(fromInfo))},
		{Name: "provider-sender", What: "trusts every sender at a large provider", Want: verdict.Open, Form: "sender-gmail.com", Server: by(when(fromProvider))},
		{Name: "null-sender", What: "relays what comes with the null reverse-path", Want: verdict.Open, Form: "null", Server: by(when(nullSender))},
		{Name: "percent-hack", What: "rewrites user%domain after the check", Want: verdict.Open, Form: "pct-domain", Server: by(percentHack(Domain))},
		{Name: "quoted-at", What: "takes a quoted at sign for the real one", Want: verdict.Open, Form: "quoted-at-dom", Server: by(unquote)},
		{Name: "backup-mx", What: "relays for every domain that names it as an MX", Want: verdict.Open, Form: "backup-mx", Server: func(w World) open.SMTP {
			return open.SMTP{Rule: backupMX(w.Lookup)}
		}},
		{Name: "second-hop", What: "hands routed addresses of a relay domain to a host that follows them", Want: verdict.Open, Form: "relaydom-pct", Server: by(percentHack(RelayDomain))},
		{Name: "xclient", What: "takes XCLIENT from anybody", Want: verdict.Open, Form: "xclient", Server: func(World) open.SMTP {
			return open.SMTP{Rule: when(claimedLocal), XClient: true}
		}},
		{Name: "proxy", What: "takes the PROXY header from anybody", Want: verdict.Open, Form: "proxy-v1", Server: func(World) open.SMTP {
			return open.SMTP{Rule: when(claimedLocal), Proxied: true}
		}},
		{Name: "helo", What: "trusts the name given in EHLO", Want: verdict.Open, Form: "helo-dom", Server: by(when(localHelo))},
		{Name: "starttls", What: "trusts everybody who turns on TLS", Want: verdict.Open, Form: "starttls", Server: func(World) open.SMTP {
			return open.SMTP{Rule: when(encrypted), TLS: certificate()}
		}},
		{Name: "tls-first", What: "takes nothing before STARTTLS, and then trusts a local sender", Want: verdict.Open, Form: "local-sender", Server: func(World) open.SMTP {
			return open.SMTP{Rule: when(localSender), TLS: certificate(), MustTLS: mail.NewReply(530, "5.7.0", "issue a STARTTLS command first")}
		}},
		{Name: "first-recipient", What: "checks the first recipient only", Want: verdict.Open, Form: "second-recipient", Server: by(when(notFirst))},
		{Name: "any-login", What: "takes any user and password", Want: verdict.Open, Form: "auth-random", Flags: "--try-logins", Server: func(World) open.SMTP {
			return open.SMTP{Rule: when(loggedIn), AnyLogin: true}
		}},
		{Name: "guessable-login", What: "takes test with the password test, by CRAM-MD5 alone", Want: verdict.Open, Form: "auth-guess", Flags: "--try-logins", Server: func(World) open.SMTP {
			return open.SMTP{Rule: when(loggedIn), Users: map[string]string{"test": "test"}, Methods: []string{"CRAM-MD5"}}
		}},
		{Name: "guessable-domain", What: "takes the name of its domain as user and password, after STARTTLS", Want: verdict.Open, Form: "auth-guess", Flags: "--try-logins", Server: func(World) open.SMTP {
			return open.SMTP{Rule: when(loggedIn), Users: map[string]string{"lab@" + Domain.String(): "lab"}, Methods: []string{"LOGIN"}, TLS: certificate()}
		}},
		{Name: "lockstep-only", What: "offers PIPELINING and loses what is pipelined; trusts a local sender", Want: verdict.Open, Form: "local-sender", Wire: LosesGroups, Server: by(when(localSender))},
		{Name: "helo-only", What: "hangs up at EHLO and knows HELO; trusts a local sender", Want: verdict.Open, Form: "local-sender", Wire: DeafToEHLO, Server: by(when(localSender))},
		{Name: "ipv6-only", What: "closed over IPv4, open over IPv6", Want: verdict.Open, Form: "plain", IPv6: true, Server: by(when(overIPv6))},
		{Name: "says-530", What: `open, and says "530" in its 250`, Want: verdict.Open, Form: "plain", Server: by(says(when(anybody), mail.NewReply(250, "2.1.5", "ok id=a1530b")))},
		{Name: "greylist-open", What: "open, once the greylist lets the tuple pass", Want: verdict.Open, Form: "plain", Server: by(greylisted(when(anybody), greylistDelay))},
		{Name: "no-pipelining", What: "open, offers no extension at all", Want: verdict.Open, Form: "plain", Server: func(World) open.SMTP {
			return open.SMTP{Rule: when(anybody), Without: []string{"PIPELINING", "CHUNKING", "SMTPUTF8", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES", "SIZE", "LIMITS"}}
		}},
	}
}

func decoys() []Specimen {
	return []Specimen{
		{Name: "closed", What: "as it should be", Want: verdict.Closed, Server: by(closed)},
		{Name: "closed-454", What: "refuses relaying with 454, as Postfix does", Want: verdict.Closed, Server: by(denies(closed, mail.NewReply(454, "4.7.1", "relay access denied")))},
		{Name: "bounces", What: "takes what it does not serve and returns it later", Want: verdict.Closed, Backscatter: true, Server: by(bounceLater)},
		{Name: "discards", What: "takes everything, sends nothing", Want: verdict.Accepts, Server: by(discard)},
		{Name: "bounces-all", What: "takes everything for everybody and returns it later", Want: verdict.Closed, Backscatter: true, Server: by(bounceAll)},
		{Name: "catch-all", What: "takes every name of its own domain", Want: verdict.Closed, Server: by(catchAll)},
		{Name: "no-postmaster", What: "closed, and has no postmaster", Want: verdict.Closed, Server: by(withoutPostmaster)},
		{Name: "data-refused", What: "takes every recipient, refuses DATA", Want: verdict.Closed, Server: func(World) open.SMTP {
			return open.SMTP{Rule: discard, AtData: mail.NewReply(554, "5.7.1", "no valid recipients")}
		}},
		{Name: "dot-refused", What: "takes every recipient, refuses the message", Want: verdict.Closed, Server: func(World) open.SMTP {
			return open.SMTP{Rule: discard, AtDot: mail.NewReply(550, "5.7.1", "message refused")}
		}},
		{Name: "lockstep-closed", What: "offers PIPELINING and loses what is pipelined", Want: verdict.Closed, Wire: LosesGroups, Server: by(closed)},
		{Name: "greylist", What: "greylists everybody, then refuses strangers", Want: verdict.Closed, Server: by(greylisted(closed, greylistDelay))},
		{Name: "greylist-long", What: "greylists for longer than anybody waits", Want: verdict.Inconclusive, Server: by(greylisted(closed, 24*time.Hour))},
		{Name: "tarpit", What: "answers each refusal later than the one before", Want: verdict.Closed, Server: func(World) open.SMTP {
			return open.SMTP{Rule: closed, Slow: growing(100*time.Millisecond, time.Second)}
		}},
		{Name: "greet-pause", What: "holds its banner back", Want: verdict.Closed, Server: func(World) open.SMTP {
			return open.SMTP{Rule: closed, Pause: time.Second}
		}},
		{Name: "split-ehlo", What: "answers EHLO in two segments, then refuses with 450", Want: verdict.Closed, Wire: SplitEHLO, Server: by(denies(closed, mail.NewReply(450, "4.7.1", "relay access denied")))},
		{Name: "three-errors", What: "hangs up at the third error", Want: verdict.Closed, Server: func(World) open.SMTP {
			return open.SMTP{Rule: closed, DropAt: 2}
		}},
		{Name: "login-only", What: "lets nobody in without a login", Want: verdict.Closed, Server: func(World) open.SMTP {
			return open.SMTP{Rule: when(loggedIn), MustAuth: mail.NewReply(530, "5.7.0", "log in first")}
		}},
		{Name: "login-550", What: "the same, with a code that others use for relaying", Want: verdict.Closed, Server: func(World) open.SMTP {
			return open.SMTP{Rule: when(loggedIn), MustAuth: mail.NewReply(550, "5.7.1", "authentication required")}
		}},
		{Name: "blocks-us", What: "refuses the tester at the banner", Want: verdict.Inconclusive, Server: func(World) open.SMTP {
			return open.SMTP{Refuse: mail.NewReply(554, "5.7.1", "your address is on a blocklist")}
		}},
		{Name: "mute", What: "takes the connection and says nothing", Want: verdict.NotTested, Wire: Mute},
		{Name: "web-server", What: "speaks HTTP on a mail port", Want: verdict.NotTested, Wire: NotSMTP},
	}
}
