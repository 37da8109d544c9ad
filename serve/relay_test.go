package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/identity"
	"postern/internal/problem"
	"postern/internal/state"
	"postern/mail"
	"postern/policy"
	"postern/smtp"
)

// A running relay of the tests, on loopback ports that the kernel chose.
type running struct {
	*Relay
	t        *testing.T
	settings Settings
	state    string
	ended    chan error
	stop     context.CancelFunc
	phase    func(Phase)
	log      lines
}

func run(t *testing.T, s Settings) *running {
	t.Helper()
	r := &running{t: t, settings: s, state: filepath.Join(t.TempDir(), "s"), ended: make(chan error, 1)}
	r.start()
	t.Cleanup(r.end)
	return r
}

func (r *running) start() {
	r.t.Helper()
	folder, err := state.Open(r.state)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Relay, err = New(r.t.Context(), Options{State: folder, Log: slog.New(slog.NewTextHandler(&r.log, nil)), Phase: r.phase, Load: func() (Settings, error) { return r.settings, nil }})
	if err != nil {
		r.t.Fatal(errors.Join(err, folder.Close()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.ended <- errors.Join(r.Run(ctx), folder.Close()) }()
}

func (r *running) end() {
	r.t.Helper()
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Error(err)
	}
}

// only keeps some of the listeners: each is audited at every start, which is
// what these tests take their time for.
func only(s Settings, names ...string) Settings {
	s.Listeners = slices.DeleteFunc(s.Listeners, func(l Listener) bool { return !slices.Contains(names, l.Name) })
	s.Policy.Listeners = slices.DeleteFunc(s.Policy.Listeners, func(l policy.Listener) bool { return !slices.Contains(names, l.Name) })
	return s
}

// loopback gives every listener a port.
func loopback(s Settings) Settings {
	for i := range s.Listeners {
		s.Listeners[i].Addrs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	}
	return s
}

func (r *running) dial(listener string) *smtp.Client {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.sockets.Load().addrs(listener)[0])
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	if strings.HasSuffix(listener, "submissions") {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	c, err := smtp.NewClient(r.t.Context(), conn, smtp.ClientOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := c.Hello(r.t.Context(), "client.example"); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *running) send(c *smtp.Client, from string, to ...string) mail.Reply {
	r.t.Helper()
	e := mail.Envelope{From: must(mail.ParseReversePath(from))}
	for _, each := range to {
		e.To = append(e.To, mail.Recipient{Path: must(mail.ParseForwardPath(each))})
	}
	results, reply, err := c.Send(r.t.Context(), e, strings.NewReader("From: "+from+"\r\nSubject: hello\r\n\r\ntext\r\n"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, one := range results {
		if !one.Reply.Positive() {
			return one.Reply
		}
	}
	return reply
}

func (r *running) queued() []QueuedMessage {
	r.t.Helper()
	var page QueuePage
	if err := Dial(r.state).Get(r.t.Context(), "/queue?messages=1", &page); err != nil {
		r.t.Fatal(err)
	}
	return page.Messages
}

const password = "plum-lantern-heron-83x"

func TestRelay(t *testing.T) {
	t.Parallel()
	r := run(t, loopback(ordinary()))
	if err := r.users.Add(identity.NewUser{Name: "anna", Password: password}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, listener, from, to, want string }{
		{"a stranger to us", "mx", "<a@far.example>", "<anna@example.org>", "250 2.0.0 Stored"},
		{"a stranger to others", "mx", "<a@far.example>", "<b@elsewhere.example>", "550 5.7.1 We do not relay for 127.0.0.1"},
		{"a stranger to nobody", "mx", "<a@far.example>", "<nobody@example.org>", "550 5.1.1"},
		{"without login", "submissions", "<anna@example.org>", "<b@elsewhere.example>", "530 5.7.0 Log in first"},
		{"where only trusted clients are served", "trusted", "<scanner@example.org>", "<b@elsewhere.example>", "550 5.7.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := r.send(r.dial(c.listener), c.from, c.to).String(); !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	client := r.dial("submission")
	if err := client.StartTLS(t.Context(), &tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Fatal(err)
	}
	if err := client.Auth(t.Context(), "anna", password); err != nil {
		t.Fatal(err)
	}
	if got := r.send(client, "<anna@example.org>", "<b@elsewhere.example>", "<anna@example.org>"); !got.Positive() {
		t.Errorf("anna to the world: %s", got)
	}
	if got := r.send(client, "<ben@example.org>", "<b@elsewhere.example>"); got.Code != 553 {
		t.Errorf("anna as ben: %s", got)
	}
	list := r.queued()
	if len(list) != 2 || list[1].Identity != "anna" || list[1].To[0].Grant.Reason != "authenticated" || list[1].To[0].Grant.At != "postern.hcl:6:1" {
		t.Errorf("queue = %+v", list)
	}
	var body bytes.Buffer // what was sent is what is kept
	if err := Dial(r.state).Get(t.Context(), "/queue/"+list[1].ID+"/body", &body); err != nil || !strings.HasSuffix(body.String(), "\r\n\r\ntext\r\n") {
		t.Errorf("the body: %q, %v", body.String(), err)
	}
	if w := r.Status().Wall; w.Turned != 2 || w.Relayed != 0 {
		t.Errorf("wall = %+v", w)
	}
	r.end() // and what was accepted is there after a restart
	r.start()
	if again := r.queued(); len(again) != 2 || again[0].ID != list[0].ID {
		t.Errorf("after a restart: %+v", again)
	}
}

func TestReloadIsAtomic(t *testing.T) {
	r := run(t, only(loopback(ordinary()), "mx"))
	idle := r.dial("mx")
	control := Dial(r.state)
	before := r.Status()

	open := only(loopback(ordinary()), "mx")
	open.Policy.Trusted[0].Networks[0].Prefix = netip.MustParsePrefix("0.0.0.0/0")
	r.settings = open
	err := control.Post(t.Context(), "/reload", &struct{}{})
	var p *problem.Problem
	if !errors.As(err, &p) || !strings.HasPrefix(err.Error(), "postern.hcl:7:1: trusted_client 0.0.0.0/0 trusts everybody") {
		t.Errorf("reload of an open configuration: %v", err)
	}
	if got := r.send(idle, "<a@far.example>", "<anna@example.org>"); !got.Positive() {
		t.Errorf("a session after a refused reload: %s", got)
	}

	next := only(loopback(ordinary()), "mx")
	next.Policy.Hash = "second"
	next.Policy.Domains[0].Mailboxes = []string{"ben"}
	r.settings = next
	if err := control.Post(t.Context(), "/reload", &struct{}{}); err != nil {
		t.Fatal(err)
	}
	if now := r.Status(); now.Policy != "second" || now.Listeners[0].Addrs[0] != before.Listeners[0].Addrs[0] {
		t.Errorf("after the reload: %+v", now)
	}
	if got := r.send(r.dial("mx"), "<a@far.example>", "<anna@example.org>"); got.Code != 550 {
		t.Errorf("a mailbox that is gone: %s", got)
	}
	// What was granted for that mailbox is held, not sent.
	if list := r.queued(); len(list) != 1 || !strings.Contains(list[0].Hold, "was withdrawn: this mailbox is there no more") {
		t.Errorf("queue = %+v", list)
	}
}

func TestUserThatIsDisabledSendsNoMore(t *testing.T) {
	t.Parallel()
	r := run(t, only(loopback(ordinary()), "submission"))
	if err := r.users.Add(identity.NewUser{Name: "carl", Password: password, MaySendAs: []string{"carl@example.org"}}); err != nil {
		t.Fatal(err)
	}
	r.waitFor("carl", true)
	client := r.dial("submission")
	if err := client.StartTLS(t.Context(), &tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Fatal(err)
	}
	if err := client.Auth(t.Context(), "carl", password); err != nil {
		t.Fatal(err)
	}
	if got := r.send(client, "<carl@example.org>", "<b@elsewhere.example>"); !got.Positive() {
		t.Fatalf("carl: %s", got)
	}
	if err := r.users.Disable("carl"); err != nil {
		t.Fatal(err)
	}
	r.waitFor("carl", false)
	if got := r.send(client, "<carl@example.org>", "<b@elsewhere.example>"); got.Code != 550 {
		t.Errorf("carl, disabled, in the session that was open: %s", got)
	}
	if list := r.queued(); len(list) != 1 || !strings.Contains(list[0].Hold, "this user is disabled") {
		t.Errorf("queue = %+v", list)
	}
}

// A user of the configuration who is disabled and enabled again has the rights
// of the configuration again; and a certificate that is half replaced just then
// keeps nobody's rights alive.
func TestUserOfTheConfigurationComesBack(t *testing.T) {
	t.Parallel()
	s := only(loopback(ordinary()), "submission")
	dir := t.TempDir()
	s.TLS = must(selfSigned(&state.Folder{Path: dir}, "mx.example.org"))
	r := run(t, s)
	if err := r.users.Add(identity.NewUser{Name: "anna", Password: password}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.TLS.Key, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.users.Disable("anna"); err != nil {
		t.Fatal(err)
	}
	r.waitFor("anna", false)
	if err := r.users.Enable("anna"); err != nil {
		t.Fatal(err)
	}
	r.waitFor("anna", true)
	client := r.dial("submission")
	if err := client.StartTLS(t.Context(), &tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Fatal(err)
	}
	if err := client.Auth(t.Context(), "anna", password); err != nil {
		t.Fatal(err)
	}
	if got := r.send(client, "<anna@example.org>", "<b@elsewhere.example>"); !got.Positive() {
		t.Errorf("anna, enabled again: %s", got)
	}
}

// waitFor waits until the policy in force knows a user, or no longer does.
func (r *running) waitFor(user string, known bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		found := false
		for _, u := range r.current.Load().policy.Source().Users {
			found = found || u.Name == user
		}
		if found == known {
			r.mu.Lock() // a change is in force as a whole, the queue's part too
			defer r.mu.Unlock()
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("the policy did not hear of %s", user)
		}
	}
}

func TestStrangersInTheQueueAreNobodysGrant(t *testing.T) {
	p := must(policy.Compile(ordinary().Policy))
	if _, _, err := p.Renew(policy.Record{Reason: "inbound", To: "<b@far.example>", From: "<>"}); err != nil {
		t.Fatal(err)
	}
	if g, refusal, _ := p.Renew(policy.Record{Reason: "inbound", To: "<b@far.example>", From: "<>"}); !g.IsZero() || refusal == nil {
		t.Errorf("a hand-made record was renewed: %v", g)
	}
}
