package check_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/check"
	"postern/mail"
	"postern/open"
	"postern/plan"
	"postern/verdict"
)

// records are a DNS of a few names. The target is 203.0.113.10.
type records struct {
	ptr []string
	mx  map[string][]string
	a   map[string]string
}

var errNoName = errors.New("NXDOMAIN")

func (r records) Addresses(_ context.Context, name string) ([]netip.Addr, error) {
	if a, ok := r.a[name]; ok {
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	}
	return nil, errNoName
}

func (r records) Exchangers(_ context.Context, domain string) ([]string, error) {
	if hosts, ok := r.mx[domain]; ok {
		return hosts, nil
	}
	if _, ok := r.a[domain]; ok {
		return []string{domain}, nil
	}
	return nil, errNoName
}

func (r records) Names(context.Context, netip.Addr) ([]string, error) { return r.ptr, nil }

func says(code int, enhanced, text string) open.Answer {
	return open.Answer{Reply: mail.NewReply(code, enhanced, text)}
}

// The fates of a recipient, and rules that are made of them.
var (
	keeps   = open.Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Fate: open.Keep}
	returns = open.Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Fate: open.Bounce}
	denies  = says(550, "5.7.1", "relaying denied")
	unknown = says(550, "5.1.1", "user unknown")
)

func relays(a open.Asked) open.Answer {
	return open.Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Next: a.To.Address()}
}

func always(answer open.Answer) open.Rule {
	return func(context.Context, open.Asked) open.Answer { return answer }
}

// at answers recipients of a domain, and those without one, by own, others by foreign.
func at(domain string, own, foreign open.Answer) open.Rule {
	return func(_ context.Context, a open.Asked) open.Answer {
		if d := a.To.Address().Domain(); a.To.Route() == "" && (d.IsZero() || d.String() == domain) {
			return own
		}
		return foreign
	}
}

// mailboxes is at, where the server knows its users.
func mailboxes(domain string, known ...string) open.Rule {
	return func(ctx context.Context, a open.Asked) open.Answer {
		own := unknown
		if slices.Contains(known, a.To.Address().Local()) || slices.Contains(known, strings.Trim(a.To.String(), "<>")) {
			own = keeps
		}
		return at(domain, own, denies)(ctx, a)
	}
}

// unwraps relays a percent sign in front of its domain, and is at for all else.
func unwraps(domain string, own open.Answer) open.Rule {
	return func(ctx context.Context, a open.Asked) open.Answer {
		to := a.To.Address()
		local, far, percent := strings.Cut(to.Local(), "%")
		if next, err := mail.ParseAddress(local + "@" + far); percent && err == nil && to.Domain().String() == domain {
			return open.Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Next: next}
		}
		return at(domain, own, denies)(ctx, a)
	}
}

// Verdicts on servers that nobody has named a domain of, unless the row says so.
func TestVerdicts(t *testing.T) {
	named := records{a: map[string]string{"mx.ours.example": "203.0.113.10"}, mx: map[string][]string{"ours.example": {"mx.ours.example"}}}
	wantsLogin := mail.NewReply(550, "5.7.1", "Authentication required")
	for _, c := range []struct {
		name     string
		server   open.SMTP
		dns      check.Resolver
		domain   bool          // its domain is named
		delay    time.Duration // of what it hands on
		options  check.Options
		want     verdict.Verdict
		why      string
		sure     verdict.Sure
		scatters bool
		proof    string
		also     func(verdict.Judgement) bool
	}{
		{name: "takes every recipient and refuses DATA", server: open.SMTP{Rule: always(keeps), AtData: mail.NewReply(554, "5.7.1", "Data command rejected: Access denied")}, want: verdict.Closed, why: "refused", sure: verdict.Certain},
		{name: "takes every recipient and refuses the message", server: open.SMTP{Rule: always(keeps), AtDot: mail.NewReply(554, "5.7.1", "End-of-data rejected: Access denied")}, want: verdict.Closed, why: "refused", sure: verdict.Certain},
		{name: "takes every recipient and refuses what stands in the message", server: open.SMTP{Rule: always(keeps), AtDot: mail.NewReply(550, "5.7.1", "message content rejected")}, want: verdict.Inconclusive, why: "content rejected"},
		{name: "takes everything and returns it", server: open.SMTP{Rule: always(returns)}, want: verdict.Closed, why: "backscatter", scatters: true},
		{name: "takes everything and returns it, in the name of a domain that is named", server: open.SMTP{Rule: always(returns)}, domain: true, want: verdict.Closed, why: "backscatter", scatters: true},
		{name: "takes everything and returns it later", server: open.SMTP{Rule: always(returns)}, dns: named, delay: time.Minute, want: verdict.Closed, why: "backscatter", scatters: true},
		{name: "takes everything and keeps it", server: open.SMTP{Rule: always(keeps)}, want: verdict.Accepts},
		{name: "takes everything of its own domain", server: open.SMTP{Rule: at("ours.example", keeps, denies)}, domain: true, want: verdict.Closed, why: "catch-all", sure: verdict.Likely, also: func(j verdict.Judgement) bool { return j.CatchAll && !j.Until.IsZero() }},
		{name: "takes everything of its own domain, which the DNS tells", server: open.SMTP{Rule: at("ours.example", keeps, denies)}, dns: named, want: verdict.Closed, why: "catch-all", sure: verdict.Likely},
		{name: "takes everything of its own domain and unwraps it", server: open.SMTP{Rule: unwraps("ours.example", keeps)}, domain: true, want: verdict.Open, proof: "pct-domain"},
		{name: "takes everything of its own domain and unwraps it a minute later", server: open.SMTP{Rule: unwraps("ours.example", keeps)}, domain: true, delay: time.Minute, want: verdict.Open, proof: "pct-domain"},
		{name: "takes a percent sign, and no unknown user otherwise", server: open.SMTP{Rule: unwraps("ours.example", unknown)}, domain: true, delay: time.Hour, want: verdict.Accepts},
		{name: "has no postmaster", server: open.SMTP{Rule: mailboxes("ours.example", "anna")}, want: verdict.Closed, why: "every form was refused", also: func(j verdict.Judgement) bool { return j.NoPostmaster() == "postmaster@ours.example" }},
		{name: "has a postmaster without a domain alone", server: open.SMTP{Rule: mailboxes("other.example", "postmaster")}, want: verdict.Closed, also: func(j verdict.Judgement) bool { return j.NoPostmaster() == "" }},
		{name: "serves a domain that only an MX record tells", server: open.SMTP{Rule: func(ctx context.Context, a open.Asked) open.Answer {
			if a.To.Address().Domain().IsZero() {
				return denies
			}
			return mailboxes("isp.example", "postmaster")(ctx, a)
		}}, dns: records{ptr: []string{"mail.isp.example."}, a: map[string]string{"mail.isp.example": "203.0.113.10"}, mx: map[string][]string{"isp.example": {"mail.isp.example"}}}, want: verdict.Closed, why: "every form was refused"},
		{name: "refuses every recipient in the same words", server: open.SMTP{Rule: always(denies)}, want: verdict.Inconclusive, why: "which domain it serves is not known"},
		{name: "trusts its PTR name in HELO", server: open.SMTP{Rule: func(ctx context.Context, a open.Asked) open.Answer {
			if a.Client.Helo == "gw-17.isp.example" && a.To.Address().Domain().String() == "probe.example" {
				return relays(a)
			}
			return mailboxes("ours.example", "postmaster")(ctx, a)
		}}, dns: records{ptr: []string{"gw-17.isp.example."}}, want: verdict.Open, proof: "helo-dom=gw-17.isp.example"},
		{name: "trusts senders of a domain that an MX record tells", server: open.SMTP{Rule: func(ctx context.Context, a open.Asked) open.Answer {
			if a.From.Address().Domain().String() == "isp.example" && a.To.Address().Domain().String() == "probe.example" {
				return relays(a)
			}
			return mailboxes("ours.example", "postmaster")(ctx, a)
		}}, domain: true, dns: records{ptr: []string{"mail.isp.example"}, a: map[string]string{"mail.isp.example": "203.0.113.10"}, mx: map[string][]string{"isp.example": {"mail.isp.example"}}}, want: verdict.Open, proof: "local-sender=isp.example"},
		{name: "wants a login before MAIL", server: open.SMTP{Rule: always(keeps), MustAuth: mail.NewReply(530, "5.7.0", "Authentication required")}, want: verdict.Closed, why: "without a login"},
		{name: "wants a login before MAIL, with another code", server: open.SMTP{Rule: always(keeps), MustAuth: wantsLogin}, want: verdict.Closed, why: "without a login"},
		{name: "wants a login before MAIL, and says relaying", server: open.SMTP{Rule: always(keeps), MustAuth: mail.NewReply(550, "5.7.1", "Relaying denied. Proper authentication required.")}, want: verdict.Closed, why: "without a login"},
		{name: "wants a login before RCPT", server: open.SMTP{Rule: always(open.Answer{Reply: wantsLogin})}, want: verdict.Closed, why: "without a login"},
		{name: "wants TLS, in other words than 530, and then a login", server: open.SMTP{Rule: always(keeps), TLS: certificate(t, "mx.ours.example"), MustTLS: mail.NewReply(554, "5.7.1", "Session encryption is required"), MustAuth: mail.NewReply(530, "5.7.0", "Authentication required")}, want: verdict.Closed, why: "without a login"},
		{name: "blocks us, and tells where to log in", server: open.SMTP{Rule: always(keeps), MustAuth: mail.NewReply(554, "5.7.1", "Client host [192.0.2.66] blocked using bl.example; see https://bl.example/login to be delisted")}, want: verdict.Inconclusive},
		{name: "lacks our name in the DNS", server: open.SMTP{Rule: always(says(550, "5.7.25", "PTR record not found for 192.0.2.66"))}, want: verdict.Inconclusive},
		{name: "unwraps what it takes, and its filter takes the message for spam", server: open.SMTP{Rule: unwraps("ours.example", unknown), AtDot: mail.NewReply(554, "5.7.1", "Message rejected as spam")}, domain: true, want: verdict.Inconclusive, why: "what stood in the message"},
		{name: "finds no route to our domain, and relays to others", server: open.SMTP{Rule: func(_ context.Context, a open.Asked) open.Answer {
			if d := a.To.Address().Domain(); d.IsZero() || d.String() == "probe.example" {
				return says(550, "", "Unrouteable address")
			}
			return relays(a)
		}}, want: verdict.Accepts, also: sendsNothing},
		{name: "finds no domain of ours, and relays to others", server: open.SMTP{Rule: func(_ context.Context, a open.Asked) open.Answer {
			if d := a.To.Address().Domain(); d.IsZero() || d.String() == "probe.example" {
				return says(550, "5.1.2", "domain not found")
			}
			return relays(a)
		}}, want: verdict.Accepts, also: sendsNothing},
		{name: "refuses our sender", server: open.SMTP{Rule: always(keeps), MustAuth: mail.NewReply(553, "5.1.8", "sender domain does not exist")}, want: verdict.Inconclusive, why: "sender"},
		{name: "blocks us, and takes mail for its postmaster", server: open.SMTP{Rule: func(_ context.Context, a open.Asked) open.Answer {
			if a.To.Address().Local() == "postmaster" {
				return keeps
			}
			return says(554, "5.7.1", "Client host blocked using dnsbl.example")
		}}, domain: true, want: verdict.Inconclusive, why: "refuses our address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{unnamed: !c.domain}
				c.server.Name, c.server.Limits, c.server.Sink = "mx.ours.example", limits(), slow{w, c.delay}
				w.server = c.server
				c.options.Resolver, c.options.Wait, c.options.Lasting = c.dns, 2*time.Minute, true
				j, _ := w.audit(t, c.options)
				if j.Verdict != c.want || !strings.Contains(j.Why, c.why) || c.sure != "" && j.Sure != c.sure || (j.Backscatter != nil) != c.scatters {
					t.Errorf("%s (%s), %s, backscatter %t; want %s with %q, %s\n%s", j.Verdict, j.Why, j.Sure, j.Backscatter != nil, c.want, c.why, c.sure, outcomes(j))
				}
				if c.proof != "" && (j.Proof == nil || j.Proof.Form.ID != c.proof) {
					t.Errorf("proved by %+v, want %s", j.Proof, c.proof)
				}
				if c.also != nil && !c.also(j) {
					t.Errorf("asked %+v, until %s", j.Asked, j.Until)
				}
				for _, f := range j.Forms {
					if f.State == verdict.Accepted && f.Stage != verdict.AtMessage {
						t.Errorf("%s is accepted at %s", f.Form.ID, f.Stage)
					}
				}
				time.Sleep(c.delay)
				synctest.Wait()
			})
		})
	}
}

// sendsNothing reports whether no message was sent for a name that is a guess.
func sendsNothing(j verdict.Judgement) bool { return !slices.ContainsFunc(j.Forms, sentInAGuessedName) }

func sentInAGuessedName(f verdict.FormResult) bool {
	named := func(mark string) bool { return f.Form.Sender.Uses(mark) || f.Form.Recipient.Uses(mark) }
	return f.Outcome == verdict.Taken && (named("dom") || named("host"))
}

// A notice about a message goes to its sender: no message is sent in somebody
// else's name where the server may return it.
func TestNobodyElseGetsANotice(t *testing.T) {
	somebodys := func(f verdict.FormResult) bool {
		return f.Outcome == verdict.Taken && f.Envelope.RecipientParams == "NOTIFY=NEVER"
	}
	for _, c := range []struct {
		name    string
		unnamed bool
		without []string
		rule    open.Rule
		sent    func(verdict.FormResult) bool
		want    bool
	}{
		{"a guessed domain, and everything is kept", true, nil, always(keeps), sentInAGuessedName, false},
		{"a guessed domain, and everything comes back", true, nil, always(returns), sentInAGuessedName, true},
		{"a domain that is named, and everything is kept", false, nil, always(keeps), sentInAGuessedName, true},
		{"DSN, and everything is kept", false, nil, always(keeps), somebodys, true},
		{"no DSN, and everything is kept", false, []string{"DSN"}, always(keeps), somebodys, false},
		{"no DSN, and all but a role's mail is refused", false, []string{"DSN"}, func(ctx context.Context, a open.Asked) open.Answer {
			if strings.HasPrefix(a.From.String(), "<info@") {
				return keeps
			}
			return mailboxes("ours.example", "postmaster")(ctx, a)
		}, somebodys, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{unnamed: c.unnamed}
				w.server = open.SMTP{Name: "mx.ours.example", Sink: w, Rule: c.rule, Limits: limits(), Without: c.without}
				j, _ := w.audit(t, check.Options{Wait: 2 * time.Minute})
				if got := slices.ContainsFunc(j.Forms, c.sent); got != c.want {
					t.Errorf("sent %t, want %t\n%s", got, c.want, outcomes(j))
				}
			})
		})
	}
}

// A server that bans us in the middle hangs up on whatever we ask, a control
// that it refused before among it: that is no answer to the forms.
func TestBansUsInTheMiddle(t *testing.T) {
	for _, users := range [][]string{nil, {"postmaster"}} {
		synctest.Test(t, func(t *testing.T) {
			w, asked := &world{}, new(atomic.Int64)
			w.server = banning{open.SMTP{Name: "mx.ours.example", Sink: w, Rule: mailboxes("ours.example", users...), Limits: limits(), Without: []string{"PIPELINING"}}, asked}
			j, _ := w.audit(t, check.Options{Wait: time.Minute})
			if j.Verdict != verdict.Inconclusive {
				t.Errorf("with the users %v: %s (%s), want inconclusive\n%s", users, j.Verdict, j.Why, outcomes(j))
			}
		})
	}
}

// banning is a server that hangs up at every recipient after the fourteenth.
type banning struct {
	open.SMTP
	asked *atomic.Int64
}

func (b banning) ServeConn(ctx context.Context, c net.Conn) error {
	return b.SMTP.ServeConn(ctx, &bannedConn{c, b.asked})
}

type bannedConn struct {
	net.Conn
	asked *atomic.Int64
}

func (c *bannedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if k := strings.Count(string(p[:n]), "RCPT TO"); k > 0 && c.asked.Add(int64(k)) > 14 {
		_ = c.Close()
		return 0, io.EOF
	}
	return n, err
}

// Without a collector nothing is sent, so nothing is accepted.
func TestNothingIsAcceptedUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		w.server = open.SMTP{Name: "mx.ours.example", Sink: w, Rule: always(keeps), Limits: limits()}
		j := w.judged(t, check.Options{Dial: w.dial, Owned: true, Ports: []uint16{25}, Wait: time.Minute})
		if j.Verdict != verdict.Inconclusive || !strings.Contains(j.Why, "no message was sent: there is no collector") || j.Count(verdict.Accepted) > 0 {
			t.Errorf("%s: %s", j.Verdict, j.Why)
		}
	})
}

// A server that hangs up in the middle of a burst has its recipients asked
// about again, until each form was played to its end.
func TestHangsUpAfterTheRecipient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		w.server = hasty{open.SMTP{Name: "mx.ours.example", Sink: w, Rule: always(keeps), AtData: mail.NewReply(554, "5.7.1", "Access denied"), Limits: limits()}}
		j, _ := w.audit(t, check.Options{Wait: time.Minute, Quick: true})
		if j.Verdict != verdict.Closed {
			t.Errorf("%s: %s\n%s", j.Verdict, j.Why, outcomes(j))
		}
	})
}

// judged checks the world's server with options of the caller's alone.
func (w *world) judged(t *testing.T, o check.Options) verdict.Judgement {
	t.Helper()
	target, err := plan.ParseTarget("203.0.113.10")
	if err != nil {
		t.Fatal(err)
	}
	report, err := check.Run(t.Context(), target, o)
	if err != nil {
		t.Fatal(err)
	}
	w.sessions.Wait()
	return report.Addresses[0].Doors[0].Judgement
}

// hasty is a server that hangs up after a number of lines.
type hasty struct{ open.SMTP }

func (h hasty) ServeConn(ctx context.Context, c net.Conn) error {
	return h.SMTP.ServeConn(ctx, &shortConn{Conn: c, lines: 14})
}

type shortConn struct {
	net.Conn
	lines int // left
	held  []byte
}

func (c *shortConn) Read(p []byte) (int, error) {
	if c.lines == 0 {
		return 0, io.EOF
	}
	if len(c.held) == 0 {
		b := make([]byte, 4096)
		n, err := c.Conn.Read(b)
		if err != nil {
			return 0, err
		}
		c.held = b[:n]
	}
	n := copy(p, c.held)
	for i := range n {
		if p[i] == '\n' {
			if c.lines--; c.lines == 0 {
				n = i + 1
				break
			}
		}
	}
	c.held = c.held[n:]
	return n, nil
}
