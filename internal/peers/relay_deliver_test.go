package peers

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postern/mail"
	"postern/serve"
	"postern/smtp"
)

// outboundConfig is a relay on the tester's side that delivers by MX, as anybody's does.
const outboundConfig = `hostname = "mx.` + Collector + `"
resolver = "` + Tester4 + `:53"

listener "mx" {
  port = 25
  addresses = ["` + Tester4 + `", "` + Tester6 + `"]
}
listener "submission" {
  port = 587
  addresses = ["` + Tester4 + `"]
}

domain "` + Collector + `" {
  recipients = ["anna"]
  deliver = "maildir:@DIR@/mail/{local}"
}

user "anna" { may_send_as = ["*@` + Collector + `"] }
route "default" { via = "mx" }
traffic { breakout = "off" }
limits {
  new_connections = "100000/m"
  stranger_messages = "100000000/m"
  stranger_recipients = "100000000/m"
  stranger_bytes = "100TiB/m"
  per_user = "100000/d"
}
`

// A sender is a relay of ours on the tester's side, and anna's mailbox there.
type sender struct {
	target *Target
	dir    string
}

// newSender starts it beside a target; it ends with the test.
func newSender(t *testing.T, target *Target) *sender {
	t.Helper()
	s := &sender{target: target, dir: t.TempDir()}
	s.dns(t)
	written, err := writeProgram(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	// A process that another test begins just now would hold open what we have
	// written, and nobody could run it: another process writes it once more.
	binary := written + "-copy"
	if out, err := target.Tester("cp", written, binary).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	config := filepath.Join(s.dir, "postern.hcl")
	if err := os.Mkdir(filepath.Join(s.dir, "mail"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(config, strings.ReplaceAll(outboundConfig, "@DIR@", s.dir)); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(s.dir, "s")
	add := target.Tester(binary, "user", "add", "anna", "--password-stdin", "--config", config, "--state", state)
	add.Stdin = strings.NewReader(Password + "\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := target.Tester(binary, "serve", "--config", config, "--state", state)
	cmd.Stdout, cmd.Stderr = target.log, target.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeoutCause(t.Context(), startLimit, fmt.Errorf("our relay does not listen after %s", startLimit))
	defer cancel()
	if err := target.await(ctx, net.JoinHostPort(Tester4, "587")); err != nil {
		t.Fatal(err)
	}
	return s
}

// dns serves the tester's side: what the target finds there, and the collector's zone as ours.
func (s *sender) dns(t *testing.T) {
	t.Helper()
	pc, err := s.target.ListenPacket(t.Context(), net.JoinHostPort(Tester4, "53"))
	if err != nil {
		t.Fatal(err)
	}
	own := records(
		Collector+". 60 IN MX 10 mx."+Collector+".",
		"mx."+Collector+". 60 IN A "+Tester4,
		"mx."+Collector+". 60 IN AAAA "+Tester6,
	)
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		name := strings.ToLower(q.Question[0].Name)
		if !dns.IsSubDomain(Collector+".", name) {
			_ = w.WriteMsg(s.target.resolve(q))
			return
		}
		m := new(dns.Msg).SetReply(q)
		m.Authoritative = true
		for _, rr := range own[name] {
			if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = pc.Close(); <-done })
}

// client logs in as anna.
func (s *sender) client(t *testing.T) *smtp.Client {
	t.Helper()
	conn, err := s.target.Dial(t.Context(), "tcp", net.JoinHostPort(Tester4, "587"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(t.Context(), conn, smtp.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		c.Hello(t.Context(), "anna.example"),
		c.StartTLS(t.Context(), &tls.Config{InsecureSkipVerify: true}), //nolint:gosec // its certificate is its own
		c.Auth(t.Context(), "anna", Password),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// send hands a message to our relay, and returns its id.
func (s *sender) send(t *testing.T, c *smtp.Client, body string, to ...string) string {
	t.Helper()
	from, err := mail.ParseReversePath("<anna@" + Collector + ">")
	if err != nil {
		t.Fatal(err)
	}
	env := mail.Envelope{From: from, Sender: mail.SenderParams{Body: mail.Body8BitMIME}}
	for _, each := range to {
		path, err := mail.ParseForwardPath("<" + each + ">")
		if err != nil {
			t.Fatal(err)
		}
		env.To = append(env.To, mail.Recipient{Path: path})
	}
	text := "From: <anna@" + Collector + ">\r\nTo: <" + to[0] + ">\r\nSubject: from our relay\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + body
	_, final, err := c.Send(t.Context(), env, strings.NewReader(text))
	if err != nil || !final.Positive() {
		t.Fatalf("our relay: %s, %v", final, err)
	}
	words := strings.Fields(final.Text())
	return words[len(words)-1]
}

// life is what our relay knows of a message, once it is done with it.
func (s *sender) life(t *testing.T, id string) serve.Trace {
	t.Helper()
	control := serve.Dial(filepath.Join(s.dir, "s"))
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var m serve.Trace
		if err := control.Get(t.Context(), "/trace/"+id, &m); err != nil {
			t.Fatal(err)
		}
		if !m.Done.IsZero() {
			return m
		}
		if time.Now().After(end) {
			text, _ := json.MarshalIndent(m, "", "  ")
			t.Fatalf("message %s is not done:\n%s", id, text)
		}
	}
}

// mailbox is what anna has got on the target.
func (t *Target) mailbox(tb testing.TB) string {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/var/mail/anna", t.target.pid()))
	if err != nil {
		tb.Logf("no mailbox: %v", err)
	}
	return string(text)
}

// keeps reports whether the target's mailboxes can be read: Sendmail's agent
// for local mail finds no home in such a world.
func (s *sender) keeps() bool { return s.target.Case.Server != "sendmail" }

// TestRelayDelivers lets our relay deliver to the mail servers of Debian, which it finds by DNS.
func TestRelayDelivers(t *testing.T) {
	Require(t)
	for _, server := range []string{"postfix", "exim", "opensmtpd", "sendmail"} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(Cases, func(c Case) bool { return c.Server == server && c.Config == "closed" })
			target := Start(t, Cases[i])
			s := newSender(t, target)
			t.Run("a message arrives as it was", func(t *testing.T) { s.arrives(t) })
			t.Run("what is refused comes back", func(t *testing.T) { s.comesBack(t) })
			t.Run("many arrive once", func(t *testing.T) { s.many(t) })
		})
	}
}

func (s *sender) arrives(t *testing.T) {
	c := s.client(t)
	for _, body := range []string{
		"mark-one\r\n",
		"mark-eight: Grüße aus Köln\r\n",
		"mark-dots\r\n.\r\n..\r\n\r\n.x\r\n",
		"mark-large\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 2<<20/72) + "mark-end\r\n",
	} {
		id := s.send(t, c, body, "anna@"+Domain)
		m := s.life(t, id)
		last := m.Events[len(m.Events)-1]
		if last.Event != "delivered" || last.Host != Host || last.Reply == "" {
			t.Errorf("%.20q: %+v", body, m.Events)
		}
	}
	var box string
	if !s.keeps() {
		return
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if box = strings.ReplaceAll(s.target.mailbox(t), "\r\n", "\n"); strings.Contains(box, "mark-end\n") {
			break
		}
	}
	for _, want := range []string{"mark-one\n", "mark-eight: Grüße aus Köln\n", "mark-dots\n.\n..\n\n.x\n", strings.Repeat("x", 70) + "\nmark-end\n", "by mx." + Collector + " (Postern)"} {
		if !strings.Contains(box, want) {
			t.Errorf("the mailbox, of %d octets, has no %.60q", len(box), want)
		}
	}
}

func (s *sender) comesBack(t *testing.T) {
	id := s.send(t, s.client(t), "to nobody\r\n", "nobody-there@"+Domain, "anna@"+Domain)
	m := s.life(t, id)
	states := map[string]string{}
	for _, e := range m.Events {
		states[e.To] = e.Event
	}
	if states["nobody-there@"+Domain] != "failed" || states["anna@"+Domain] != "delivered" {
		t.Errorf("%+v", m.Events)
	}
	var files []string
	for end := time.Now().Add(30 * time.Second); len(files) == 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		files, _ = filepath.Glob(filepath.Join(s.dir, "mail/anna/new/*"))
	}
	if len(files) != 1 {
		t.Fatalf("anna has %v", files)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Action: failed", "Final-Recipient: rfc822; nobody-there@" + Domain, "Remote-MTA: dns; " + Host, "There is no mailbox with this address.", "Return-Path: <>"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "anna@"+Domain) {
		t.Errorf("the notice tells of a recipient that has the message:\n%s", text)
	}
}

func (s *sender) many(t *testing.T) {
	c := s.client(t)
	var ids []string
	for i := range 60 {
		ids = append(ids, s.send(t, c, fmt.Sprintf("many-%03d\r\n", i), "anna@"+Domain))
	}
	for _, id := range ids {
		if m := s.life(t, id); m.Events[len(m.Events)-1].Event != "delivered" {
			t.Errorf("%+v", m.Events)
		}
	}
	if !s.keeps() {
		return
	}
	var box string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if box = s.target.mailbox(t); strings.Count(box, "\nmany-") >= 60 {
			break
		}
	}
	for i := range 60 {
		if n := strings.Count(box, fmt.Sprintf("\nmany-%03d", i)); n != 1 {
			t.Errorf("message %d is there %d times", i, n)
		}
	}
}
