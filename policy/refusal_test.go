package policy

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"unicode"

	"postern/internal/problem"
	"postern/mail"
)

// Each text names what to do, fits a reply whatever it is about, and is of one
// class in both codes.
func TestEveryRefusalHasItsText(t *testing.T) {
	hostile := []string{strings.Repeat("x", 300), "\r\n250 ok", strings.Repeat("\u00e9", 60), strings.Repeat("\xff", 90), strings.Repeat("\U0001f4ee", 30), ""}
	for _, cause := range Causes() {
		args := make([]any, strings.Count(catalogue[cause].format, "%s"))
		for _, text := range hostile {
			for i := range args {
				args[i] = shown(text)
			}
			checkText(t, cause, refuse(cause, problem.Pos{}, args...).Reply())
			for i := range args {
				args[i] = named(text)
			}
			checkText(t, cause, refuse(cause, problem.Pos{}, args...).Reply())
		}
	}
	if len(Causes()) != len(catalogue) {
		t.Errorf("%d causes, %d texts", len(Causes()), len(catalogue))
	}
}

func checkText(t *testing.T, cause Cause, r mail.Reply) {
	t.Helper()
	const id = " [0123456789abcdef0123456789]" // what a door adds
	line := r.String() + id
	if r.Text() == "" || strings.Contains(line, "%!") || len(line) > 200 || strings.ContainsFunc(line, func(c rune) bool { return c > unicode.MaxASCII || c < ' ' }) {
		t.Errorf("%s: %d octets: %q", cause, len(line), line)
	}
	if int(r.Enhanced.Class) != r.Code/100 {
		t.Errorf("%s: %s is of two classes", cause, r)
	}
	if r.Transient() != (cause == NoSuchListener || cause == TrustWithdrawn) {
		t.Errorf("%s: %d; waiting helps only where something of ours may change", cause, r.Code)
	}
}

// A refusal names a port only where this relay listens.
func TestRefusalsNameThePortsThatThereAre(t *testing.T) {
	stranger := netip.MustParseAddr("198.51.100.7")
	for _, c := range []struct {
		name      string
		listeners []Listener
		listener  string
		tls       bool
		want      string
	}{
		{"both", []Listener{{Name: "mx", Role: MX, Port: 25}, {Name: "s", Role: Submission, Port: 587}, {Name: "t", Role: Submissions, Port: 465}}, "mx", true, "Send through your own provider, or log in on port 465 (TLS)"},
		{"the relay without a configuration", []Listener{{Name: "mx", Role: MX, Port: 2525}, {Name: "s", Role: Submission, Port: 2587}}, "mx", true, "or log in on port 2587 (STARTTLS)"},
		{"another port", []Listener{{Name: "mx", Role: MX, Port: 25}, {Name: "t", Role: Submissions, Port: 14465}}, "mx", true, "or log in on port 14465 (TLS)"},
		{"nowhere", []Listener{{Name: "mx", Role: MX, Port: 25}}, "mx", true, "Send through your own provider"},
		{"a port that is not known yet", []Listener{{Name: "mx", Role: MX}, {Name: "t", Role: Submissions}}, "mx", true, "Send through your own provider"},
		{"TLS, of two", []Listener{{Name: "s", Role: Submission, Port: 587}, {Name: "t", Role: Submissions, Port: 4650}}, "s", false, "Turn on TLS (STARTTLS, or port 4650) and try again"},
		{"TLS, of one", []Listener{{Name: "s", Role: Submission, Port: 587}}, "s", false, "Turn on TLS (STARTTLS) and try again"},
		{"login, with an mx", []Listener{{Name: "s", Role: Submission, Port: 587}, {Name: "mx", Role: MX, Port: 2525}}, "s", true, "this port is for our users. Mail for our domains goes to port 2525"},
		{"login, without", []Listener{{Name: "s", Role: Submission, Port: 587}}, "s", true, "this port is for our users"},
		{"trusted, with a login", []Listener{{Name: "r", Role: Trusted, Port: 26}, {Name: "s", Role: Submission, Port: 588}}, "r", true, "198.51.100.7 is not known here. Log in on port 588 (STARTTLS). Ask the administrator to name this address"},
		{"trusted, without", []Listener{{Name: "r", Role: Trusted, Port: 26}}, "r", true, "198.51.100.7 is not known here. Ask the administrator to name this address"},
	} {
		s := sample()
		s.Listeners = c.listeners
		p := compiled(t, s)
		from, to := paths("<a@elsewhere.example>", "<b@far.example>")
		_, refusal := p.Decide(Client{Listener: c.listener, Addr: stranger, TLS: c.tls}, from, to)
		if refusal == nil || !strings.HasSuffix(refusal.Reply().Text(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, refusal, c.want)
		}
	}
}

// replies provokes each refusal once.
func replies(t *testing.T) []byte {
	anna := Client{Listener: "submission", Addr: netip.MustParseAddr("198.51.100.7"), TLS: true, Identity: "anna"}
	as := func(c Client, change func(c *Client)) Client { change(&c); return c }
	scanner := Client{Listener: "trusted", Addr: netip.MustParseAddr("10.1.2.40")}
	p := compiled(t, sample())
	var b bytes.Buffer
	seen := map[string]bool{}
	for _, c := range []struct {
		client   Client
		from, to string
	}{
		{as(anna, func(c *Client) { c.Listener = "closed" }), "<anna@example.org>", "<b@far.example>"},
		{as(anna, func(c *Client) { c.TLS = false }), "<anna@example.org>", "<b@far.example>"},
		{as(anna, func(c *Client) { c.Identity = "" }), "<anna@example.org>", "<b@far.example>"},
		{as(anna, func(c *Client) { c.Identity = "ghost" }), "<anna@example.org>", "<b@far.example>"},
		{anna, "<ben@example.org>", "<b@far.example>"},
		{anna, "<anna@example.org>", "<b@[192.0.2.1]>"},
		{as(scanner, func(c *Client) { c.Addr = anna.Addr }), "<scanner@example.org>", "<b@far.example>"},
		{as(scanner, func(c *Client) { c.Suspended = true }), "<scanner@example.org>", "<b@far.example>"},
		{scanner, "<anna@example.org>", "<b@far.example>"},
		{Client{Listener: "mx", Addr: anna.Addr}, "<>", "<b%far.example@example.org>"},
		{Client{Listener: "mx", Addr: anna.Addr}, "<>", "<b@far.example>"},
		{Client{Listener: "mx", Addr: anna.Addr}, "<>", "<nobody@example.org>"},
	} {
		from, to := paths(c.from, c.to)
		g, refusal := p.Decide(c.client, from, to)
		if refusal == nil {
			t.Fatalf("%+v: granted %v", c, g)
		}
		seen[string(refusal.Cause)] = true
		fmt.Fprintf(&b, "%s\n\t%s\n", refusal.Cause, refusal.Error())
	}
	refusal := p.Author(anna, must(mail.ParseAddress("ben@example.org")))
	if refusal == nil {
		t.Fatal("anna may write as ben")
	}
	seen[string(refusal.Cause)] = true
	fmt.Fprintf(&b, "%s\n\t%s\n", refusal.Cause, refusal.Error())
	out, err := Compile(gatewaySource(t, Gateway{Name: "out", Login: true, To: reaches(t, "*:443")}))
	if out == nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ who, to string }{{"anna", "mail.far.example:25"}, {"anna", "127.0.0.1:443"}, {"anna/shop", "www.far.example:443"}} {
		r := reaches(t, c.to)[0]
		_, refusal := out.Pass(Client{Listener: "out", Identity: c.who}, Place{Name: r.name, Addr: r.addr, Port: r.port})
		if refusal == nil {
			t.Fatalf("%s is led to %s", c.who, c.to)
		}
		seen[string(refusal.Cause)] = true
		fmt.Fprintf(&b, "%s\n\t%s\n", refusal.Cause, refusal.Error())
	}
	for _, cause := range Causes() {
		if !seen[string(cause)] {
			t.Errorf("nothing provokes %s", cause)
		}
	}
	return b.Bytes()
}

// The texts are read by people; a change of one is to be seen.
func TestReplies(t *testing.T) {
	const file = "testdata/replies.txt"
	got := replies(t)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || !bytes.Equal(want, got) {
		t.Errorf("the replies are not those of %s (%v); if they are meant: go test ./policy -run TestReplies -update\n%s", file, err, got)
	}
}
