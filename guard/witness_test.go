package guard

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/internal/problem"
	"postern/mail"
	"postern/policy"
)

// smarthost is the policy of a relay whose customers are known by their
// addresses.
var smarthost = func() *policy.Policy {
	prefixes := func(list ...string) (all []policy.Network) {
		for _, s := range list {
			all = append(all, policy.Network{Prefix: netip.MustParsePrefix(s)})
		}
		return all
	}
	p, err := policy.Compile(policy.Source{
		Hash: "test", Hostname: must(mail.ParseDomain("mx.example.org")),
		Listeners: []policy.Listener{{Name: "mx", Role: policy.MX}, {Name: "trusted", Role: policy.Trusted}},
		Domains:   []policy.Domain{{Name: must(mail.ParseDomain("example.org")), Mailboxes: []string{"anna"}}},
		Trusted: []policy.TrustedClient{
			{Name: "customer", Networks: prefixes("192.0.2.10/32", "192.0.2.11/32", "2001:db8::10/128"), MaySendAs: senders("*@customer.example", "<>")},
			{Name: "phones", Networks: prefixes("10.1.3.0/24"), MaySendAs: senders("*@example.org")},
			{Name: "here", Networks: prefixes("127.0.0.1/32"), MaySendAs: senders("*@example.org")},
		},
		Around: policy.Surroundings{Own: []netip.Addr{netip.MustParseAddr("203.0.113.1")}},
	})
	if fatal, _ := problem.Split(err); fatal != nil {
		panic(fatal)
	}
	return p
}()

// A callIn is a session that comes to a smarthost.
type callIn struct {
	after time.Duration // since the one before
	from  string        // the address that we see
	helo  string
	as    string   // the reverse-path
	top   string   // of its message; "-" sends none
	also  []string // commands after EHLO
}

const (
	mtaTop     = "Received: from pc (pc [10.0.0.7])\r\n\tby mail.customer.example (Postfix) with ESMTPSA id 4F\r\n\tfor <b@far.example>; Tue, 24 Nov 2026 10:00:00 +0000\r\n"
	mtaLocal   = "Received: by mail.customer.example (Postfix, from userid 33)\r\n\tid 4F; Tue, 24 Nov 2026 10:00:00 +0000\r\n"
	foreignTop = "Received: from x ([203.0.113.5]) by mta7.bulk.example with SMTP; Tue, 24 Nov 2026 10:00:00 +0000\r\n"
)

func mta(top string) callIn {
	return callIn{from: "192.0.2.10", helo: "mail.customer.example", as: "joe@customer.example", top: top}
}

func bot(helo, as, top string) callIn {
	return callIn{from: "192.0.2.10", helo: helo, as: as, top: top}
}

func tries(helo string, also ...string) callIn {
	return callIn{from: "192.0.2.10", helo: helo, top: "-", also: also}
}

// fromOutside is a mail server after strangers wrote to it: mail of three
// domains that it forwards by way of app, bounces to senders that are written
// as routes, and bounces to seven mailboxes that do not exist.
func fromOutside(server, app string) []callIn {
	list := []callIn{bot(server, "joe@customer.example", mtaTop)}
	for i := range 3 {
		list = append(list, bot(app, fmt.Sprintf("u@far%d.example", i), mtaTop))
	}
	for i := range 3 {
		list = append(list, tries(server, "MAIL FROM:<>", fmt.Sprintf("RCPT TO:<a%%b%d@far.example>", i)))
	}
	guesses := []string{"MAIL FROM:<>"}
	for i := range 7 {
		guesses = append(guesses, fmt.Sprintf("RCPT TO:<nobody%d@example.org>", i))
	}
	return append(list, tries(server, guesses...), mta(mtaTop))
}

// Behind a forwarded port every stranger comes from the customer's address: it
// is suspended after few of them. Customers as they are keep their trust.
func TestForwardersAndCustomers(t *testing.T) {
	each := func(n int, make func(i int) callIn) (list []callIn) {
		for i := range n {
			list = append(list, make(i))
		}
		return list
	}
	for _, c := range []struct {
		name  string
		calls []callIn
		want  int    // messages that are taken before trust is withdrawn; -1: it is not
		why   string // in the reason
	}{
		// Who must keep their trust.
		{"a mail server with various senders and ways", each(40, func(i int) callIn {
			return callIn{from: "192.0.2.10", helo: "mail.customer.example", as: fmt.Sprintf("u%d@customer.example", i), top: []string{mtaTop, mtaLocal, mtaTop + foreignTop, ""}[i%4]}
		}), -1, ""},
		{"a mail server that forwards mail of any sender, which is refused", each(40, func(i int) callIn {
			v := mta(mtaTop)
			if i%2 == 1 {
				v.as = fmt.Sprintf("u%d@far%d.example", i, i)
			}
			return v
		}), -1, ""},
		{"the same before it has sent anything", each(20, func(i int) callIn {
			return bot("mail.customer.example", fmt.Sprintf("u@far%d.example", i), mtaTop)
		}), -1, ""},
		{"a printer", each(40, func(int) callIn { return bot("printer3", "scan@customer.example", "") }), -1, ""},
		{"a printer that greets with its private address", each(40, func(int) callIn { return bot("[10.0.0.5]", "scan@customer.example", "") }), -1, ""},
		{"a printer that was given another name", append(each(3, func(int) callIn { return bot("printer3", "scan@customer.example", "") }), bot("printer4", "scan@customer.example", "")), -1, ""},
		{"a web application of many senders", each(40, func(i int) callIn {
			return bot("web.customer.example", fmt.Sprintf("shop%d@customer.example", i), "")
		}), -1, ""},
		{"one with a form for visitors, whose addresses it may not use, beside a mail server", each(40, func(i int) callIn {
			if i%2 == 0 {
				return mta(mtaTop)
			}
			return bot("localhost", fmt.Sprintf("visitor@far%d.example", i), "")
		}), -1, ""},
		{"a mail server and programs on one host", []callIn{
			mta(mtaTop), bot("localhost", "cron@customer.example", ""), bot("[127.0.0.1]", "java@customer.example", ""), bot("localhost.localdomain", "x@customer.example", ""), bot("mail", "y@customer.example", ""), mta(mtaLocal),
		}, -1, ""},
		{"a server that greets by one name over IPv4 and by another over IPv6", each(40, func(i int) callIn {
			if i%2 == 0 {
				return mta(mtaTop)
			}
			return callIn{from: "2001:db8::10", helo: "six.other.example", as: "joe@customer.example", top: mtaTop}
		}), -1, ""},
		{"a server of many names, which all relay as one", []callIn{
			mta(mtaTop), bot("brand.example", "a@customer.example", mtaTop), mta(mtaTop), bot("brand.example", "a@customer.example", mtaTop),
		}, -1, ""},
		{"the same, whose other name came first", []callIn{bot("brand.example", "a@customer.example", mtaTop), mta(mtaTop), bot("brand.example", "a@customer.example", mtaTop)}, -1, ""},
		{"a server that writes another name into its trace", each(20, func(i int) callIn {
			return bot("mail.customer.example", "joe@customer.example", []string{foreignTop, ""}[i%2])
		}), -1, ""},
		{"a server that greets with its other address", []callIn{bot("[192.0.2.11]", "joe@customer.example", mtaTop), bot("[192.0.2.11]", "joe@customer.example", "")}, -1, ""},
		{"a server with another address outside", each(9, func(int) callIn { return bot("[198.51.100.9]", "joe@customer.example", "") }), -1, ""},
		{"a server that was copied from ours, with its name", each(9, func(int) callIn { return bot("mx.example.org", "joe@customer.example", "") }), -1, ""},
		{"a program of our own machine, in its name", each(9, func(i int) callIn {
			return callIn{from: "127.0.0.1", helo: []string{"mx.example.org", "[203.0.113.1]"}[i%2], as: "cron@example.org"}
		}), -1, ""},
		{"phones that are handed addresses", each(40, func(i int) callIn {
			return callIn{after: 31 * time.Minute, from: fmt.Sprintf("10.1.3.%d", 1+i%3), helo: fmt.Sprintf("phone%d", i), as: "anna@example.org"}
		}), -1, ""},
		{"phones of one kind", each(40, func(i int) callIn {
			return callIn{from: fmt.Sprintf("10.1.3.%d", 1+i%3), helo: "smtpclient.apple", as: "anna@example.org"}
		}), -1, ""},
		{"a container that is made anew, with a name by chance, every day", each(40, func(i int) callIn {
			v := bot(fmt.Sprintf("%012x", i*7919), "shop@customer.example", "")
			v.after = 24 * time.Hour
			return v
		}), -1, ""},
		{"a program that has a password and was told to use it", each(9, func(int) callIn { return tries("printer3", "AUTH PLAIN AGFubmEAcGFzcw==") }), -1, ""},
		{"a person who mistypes addresses", each(9, func(int) callIn {
			return tries("mail.customer.example", "MAIL FROM:<joe@customer.example>", "RCPT TO:<b%far@example.org>", "RCPT TO:<b!c@far.example>")
		}), -1, ""},
		// What strangers can make an honest server do, by writing to its people.
		{"a server that forwards and bounces what strangers sent it", fromOutside("mail.customer.example", "mail.customer.example"), -1, ""},
		{"the same, which greets with its private address", fromOutside("[10.0.0.5]", "[10.0.0.5]"), -1, ""},
		{"the same beside a web form at localhost", fromOutside("mail.customer.example", "localhost"), -1, ""},

		// Who is a forwarder.
		{"strangers with names, before a mail server's own", append(each(5, func(int) callIn { return mta(mtaTop) }),
			each(9, func(i int) callIn { return bot(fmt.Sprintf("s%d.bulk.example", i), "joe@customer.example", "") })...), 6, "2 names; sent mail that it relayed, and mail that nobody relayed"},
		{"a stranger's mail server beside the customer's", []callIn{mta(mtaTop), mta(mtaTop), bot("out.far.example", "joe@customer.example", foreignTop)}, 2, "mail that came through other servers and by another name"},
		{"the same, and the stranger came first", []callIn{bot("out.far.example", "joe@customer.example", foreignTop), mta(mtaTop), mta(mtaTop)}, 1, "mail that came through other servers"},
		{"two strangers' mail servers without fault, and one more sign", []callIn{
			mta(mtaTop), bot("out.far.example", "joe@customer.example", strings.Replace(mtaTop, "mail.customer", "out.far", 1)), tries("out.far.example", "AUTH LOGIN"), mta(mtaTop),
		}, 2, "two servers of different domains; tried to log in"},
		{"bots that greet with addresses of their own", each(9, func(i int) callIn {
			return bot(fmt.Sprintf("[203.0.113.%d]", 20+i), "joe@customer.example", "")
		}), 1, "public address that is not its own"},
		{"bots that leave out the brackets", each(9, func(i int) callIn {
			return bot(fmt.Sprintf("203.0.113.%d", 20+i), "joe@customer.example", "")
		}), 1, "public address that is not its own"},
		{"a bot in our name that tries passwords", append(each(3, func(int) callIn { return mta(mtaTop) }),
			tries("mx.example.org", "AUTH LOGIN"), bot("mx.example.org", "joe@customer.example", "")), 3, "our own name or address; tried to log in"},
		{"a bot in our address that tries routes", []callIn{tries("[203.0.113.1]", "MAIL FROM:<joe@customer.example>",
			"RCPT TO:<b%far.example@example.org>", "RCPT TO:<far.example!b@example.org>", "RCPT TO:<\"b@far.example\"@example.org>"), mta(mtaTop)}, 0, "recipients that are written as routes"},
		{"a bot that tries three users, and senders by the score", append(append([]callIn{mta(mtaTop)},
			each(3, func(i int) callIn {
				return tries("win-pc", "AUTH PLAIN "+[]string{"AGEAYQ==", "AGIAYg==", "AGMAYw=="}[i])
			})...),
			append(each(3, func(i int) callIn { return bot("win-pc", fmt.Sprintf("u@far%d.example", i), "") }), mta(mtaTop))...), 1, "tried to log in where nobody can; tried senders of 3 foreign domains"},
		{"strangers who come to a network of phones within the hour", each(9, func(i int) callIn {
			return callIn{after: time.Minute, from: "10.1.3.7", helo: fmt.Sprintf("s%d.bulk.example", i), as: "anna@example.org"}
		}), 2, "more than 2 names"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(policy.Trusted)
				b.Policy = func() *policy.Policy { return smarthost }
				b.Limits.Connections, b.Limits.PerClient = Rate{}, Rate{}
				taken := 0
				for i, call := range c.calls {
					time.Sleep(call.after)
					lines := append([]string{"EHLO " + call.helo}, call.also...)
					if call.top != "-" {
						lines = append(lines, "MAIL FROM:<"+call.as+">", "RCPT TO:<b@far.example>", "DATA", call.top+"From: <"+call.as+">\r\nSubject: s\r\n\r\ntext\r\n.")
					}
					replies := b.talk(t, call.from, lines...)
					last := replies[len(replies)-1]
					if strings.HasPrefix(last, "250 2.0.0 Stored") {
						taken++
					}
					if c.want < 0 && strings.Contains(strings.Join(replies, "\n"), "real address") {
						t.Fatalf("call %d, %+v: %q", i+1, call, replies)
					}
				}
				var why []string
				for _, e := range b.events {
					if e.Kind == Withdrawn {
						why = append(why, e.Why)
					}
				}
				switch {
				case c.want < 0 && len(why) > 0:
					t.Errorf("it lost its trust: %q", why)
				case c.want >= 0 && (len(why) != 1 || !strings.Contains(why[0], c.why)):
					t.Errorf("withdrawn for %q, want once for %q", why, c.why)
				case c.want >= 0 && (taken != c.want || len(b.tray.letters) != c.want):
					t.Errorf("%d messages were taken, want %d; withdrawn for %q", taken, c.want, why)
				}
			})
		})
	}
}

// Logins that fail from a trusted client's address are a weak sign: people of
// one office mistype their passwords, and do not guess at five names.
func TestPasswordsFromATrustedAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		login, trusted := newBench(policy.Submission), newBench(policy.Trusted)
		trusted.State = login.State
		login.tls = certificate()
		fails := func(user string) {
			t.Helper()
			initial := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00wrong"))
			if got := login.talk(t, "10.1.2.40", "EHLO pc", "STARTTLS", "EHLO pc", "AUTH PLAIN "+initial); !strings.HasPrefix(got[len(got)-1], "535") {
				t.Fatalf("%q", got)
			}
		}
		withdrawn := func() bool { return trusted.State.Witness.Suspended("scanner") != "" }
		trusted.talk(t, "10.1.2.40", "EHLO mx.example.org") // two points
		for range 9 {
			fails("anna")
		}
		for _, user := range []string{"ben", "carl", "dora"} {
			fails(user)
		}
		if withdrawn() {
			t.Fatal("four users mistyped their passwords, and it is suspended")
		}
		fails("eve")
		if !withdrawn() {
			t.Error("five users were guessed at from an address that greets in our name, and it is trusted")
		}
	})
}

func TestUserSaid(t *testing.T) {
	for _, c := range []struct{ mechanism, first, want string }{
		{"PLAIN", "\x00anna\x00x", "anna"},
		{"PLAIN", "anna", "anna"},
		{"LOGIN", "anna", "anna"},
		{"SCRAM-SHA-256", "n,,n=anna,r=abc", "anna"},
		{"SCRAM-SHA-256-PLUS", "p=tls-exporter,,n=anna,r=abc", "anna"},
		{"SCRAM-SHA-256", "", ""},
		{"EXTERNAL", "", ""},
	} {
		if got := userSaid(c.mechanism, []byte(c.first)); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.mechanism, c.first, got, c.want)
		}
	}
}

// What is remembered of an address stays small, whatever comes from it.
func TestWitnessIsBounded(t *testing.T) {
	var w Witness
	s := Sighting{Client: "customer", Addr: netip.MustParseAddr("192.0.2.10"), At: time.Unix(0, 0)}
	r := &record{marks: map[mark]time.Time{}}
	for i := range 1000 {
		for sign := range signs {
			r.mark(s, sign, strings.Repeat("x", 500)+fmt.Sprint(i))
			r.mark(s, sign, fmt.Sprint(i, strings.Repeat("x", 500)))
		}
		s.Helo = fmt.Sprintf("s%d.example", i)
		r.hear(s, "")
	}
	most := 0
	for _, each := range weights {
		most += each.most
	}
	if len(r.marks) > most || len(r.voices) > mostVoices || most > 40 {
		t.Errorf("%d marks of %d, %d voices", len(r.marks), most, len(r.voices))
	}
	for i := range maxWitnessed + 10 {
		s.Addr = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		w.Sees(s, OurName, "")
	}
	if len(w.seen) > maxWitnessed {
		t.Errorf("%d addresses", len(w.seen))
	}
}

func TestRelatedNames(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"mail.example.org", "MAIL.example.org.", true},
		{"mail.example.org", "web.example.org", true},
		{"mail.example.org", "example.org", true},
		{"mail.dept.example.org", "example.org", true},
		{"mail", "mail.example.org", true},
		{"mail.example.org", "mail.example.com", false},
		{"mail.org", "web.org", false},
		{"mail.example.org", "badexample.org", false},
		{"mail", "web", false},
		{"", "mail", false},
	} {
		if related(c.a, c.b) != c.want || related(c.b, c.a) != c.want {
			t.Errorf("related(%q, %q) is not %v", c.a, c.b, c.want)
		}
	}
}
