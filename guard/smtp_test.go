package guard

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/internal/problem"
	"postern/mail"
	"postern/policy"
	"postern/smtp"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func senders(words ...string) (list []policy.Senders) {
	for _, w := range words {
		list = append(list, must(policy.ParseSenders(w)))
	}
	return list
}

// house is the policy of the tests.
var house = func() *policy.Policy {
	p, err := policy.Compile(policy.Source{
		Hash: "test", Hostname: must(mail.ParseDomain("mx.example.org")),
		Listeners: []policy.Listener{{Name: "mx", Role: policy.MX}, {Name: "submission", Role: policy.Submission}, {Name: "trusted", Role: policy.Trusted}},
		Domains:   []policy.Domain{{Name: must(mail.ParseDomain("example.org")), Mailboxes: []string{"anna"}}, {Name: must(mail.ParseDomain("asked.example.org")), Asked: true}},
		Users:     []policy.User{{Name: "anna", MaySendAs: senders("anna@example.org", "sales@example.org")}},
		Trusted: []policy.TrustedClient{{
			Name: "scanner", Networks: []policy.Network{{Prefix: netip.MustParsePrefix("10.1.2.40/32")}},
			MaySendAs: senders("scanner@example.org", "<>"),
		}},
	})
	if fatal, _ := problem.Split(err); fatal != nil {
		panic(fatal)
	}
	return p
}()

// A tray takes what is granted.
type tray struct {
	mu      sync.Mutex
	letters []policy.Letter
	bodies  []string
	fail    error
}

func (r *tray) Put(_ context.Context, l policy.Letter, body io.Reader) (int64, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	if r.fail != nil {
		return 0, r.fail
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.letters, r.bodies = append(r.letters, l), append(r.bodies, string(text))
	return int64(len(text)), nil
}

func (r *tray) Room(int64) error { return nil }

// keys lets anna in with any password but "wrong".
type keys struct{}

func (keys) Mechanisms(*tls.ConnectionState) []string { return []string{"PLAIN"} }
func (keys) Login(_ context.Context, _ LoginClient, _ string, initial []byte, _ func([]byte) ([]byte, error)) LoginResult {
	parts := strings.Split(string(initial), "\x00")
	if len(parts) == 3 && parts[2] != "wrong" {
		return LoginResult{Identity: parts[1], Reply: mail.NewReply(235, "2.7.0", "ok")}
	}
	return LoginResult{Reply: mail.NewReply(535, "5.7.8", "User name or password is wrong"), Wait: 2 * time.Second, Why: "wrong"}
}

type mailboxes struct{ err error }

func (m mailboxes) Exists(_ context.Context, a mail.Address) (bool, error) {
	return a.Local() == "known", m.err
}

// A bench is one guarded listener and what came of it.
type bench struct {
	SMTP
	tray   tray
	events []Event
	tls    *tls.Config
	ids    int
}

func newBench(role policy.Role) *bench {
	b := &bench{}
	b.SMTP = SMTP{
		Name: "mx.example.org", Listener: role.String(), Role: role, Policy: func() *policy.Policy { return house }, Intake: &b.tray,
		NewID: func() string { b.ids++; return fmt.Sprintf("ID%d", b.ids) }, Login: keys{}, Mailboxes: mailboxes{}, State: &State{}, Limits: DefaultLimits,
		Watch: func(e Event) { b.events = append(b.events, e) },
	}
	return b
}

// from is a connection that comes from an address.
type from struct {
	net.Conn
	addr netip.Addr
}

func (c from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.addr, 40000))
}

// talk sends lines and returns the last line of each reply, the banner first.
// "STARTTLS" also shakes hands; a line that begins with "." is not answered.
func (b *bench) talk(t *testing.T, client string, lines ...string) (replies []string) {
	t.Helper()
	near, far := net.Pipe()
	server := &smtp.Server{Name: "mx.example.org", Handler: &b.SMTP, TLS: b.tls}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeConn(context.Background(), from{far, netip.MustParseAddr(client)})
	}()
	defer func() { near.Close(); <-done }()
	conn := near
	_ = conn.SetDeadline(time.Now().Add(10 * time.Minute))
	in := bufio.NewReader(conn)
	read := func() bool {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return false
			}
			if len(line) > 3 && line[3] == ' ' {
				replies = append(replies, strings.TrimSpace(line))
				return true
			}
		}
	}
	if !read() {
		return replies
	}
	for _, line := range lines {
		if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
			return replies
		}
		if strings.HasPrefix(line, "\\") {
			continue
		}
		if !read() {
			return replies
		}
		if line == "STARTTLS" {
			secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			if err := secure.Handshake(); err != nil {
				t.Fatal(err)
			}
			conn, in = secure, bufio.NewReader(secure)
		}
	}
	return replies
}

var certificate = sync.OnceValue(func() *tls.Config {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
})

const stranger = "198.51.100.7"

var (
	plain = "AUTH PLAIN AGFubmEAcGFzcw==" // anna, pass
	login = []string{"EHLO c.example", "STARTTLS", "EHLO c.example", plain}
)

func TestRolesAndCommands(t *testing.T) {
	for _, c := range []struct {
		name   string
		role   policy.Role
		client string
		lines  []string
		want   string // how the last reply begins
	}{
		{"a stranger to us", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<a@far.example>", "RCPT TO:<anna@example.org>"}, "250 2.1.5"},
		{"a stranger to others", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<a@far.example>", "RCPT TO:<b@elsewhere.example>"}, "550 5.7.1 We do not relay for 198.51.100.7. Send through your own provider, or log in on port 465 [ID1]"},
		{"a stranger in our name to others", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<anna@example.org>", "RCPT TO:<b@elsewhere.example>"}, "550 5.7.1 We do not relay"},
		{"a percent hack", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<>", "RCPT TO:<b%far.example@example.org>"}, "501 5.1.3 Address form not accepted"},
		{"a source route", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<>", "RCPT TO:<@example.org:b@far.example>"}, "501 5.1.3 Address form not accepted"},
		{"an unknown mailbox", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<>", "RCPT TO:<nobody@example.org>"}, "550 5.1.1 No such mailbox here"},
		{"a mailbox that the next hop knows", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<>", "RCPT TO:<known@asked.example.org>"}, "250 2.1.5"},
		{"one that it does not know", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<>", "RCPT TO:<unknown@asked.example.org>"}, "550 5.1.1"},
		{"the bare postmaster", policy.MX, stranger, []string{"EHLO c", "MAIL FROM:<>", "RCPT TO:<Postmaster>"}, "250 2.1.5"},
		{"a trusted client elsewhere", policy.MX, "10.1.2.40", []string{"EHLO c", "MAIL FROM:<scanner@example.org>", "RCPT TO:<b@far.example>"}, "550 5.7.1 We do not relay for 10.1.2.40"},
		{"login on port 25", policy.MX, stranger, []string{"EHLO c", plain}, "502 5.5.1 No login on this port; use 465 (TLS) or 587"},
		{"XCLIENT", policy.MX, stranger, []string{"EHLO c", "XCLIENT ADDR=127.0.0.1"}, "502 5.5.1"},

		{"mail without TLS", policy.Submission, stranger, []string{"EHLO c", "MAIL FROM:<anna@example.org>"}, "530 5.7.0 Turn on TLS"},
		{"login without TLS", policy.Submission, stranger, []string{"EHLO c", plain}, "538 5.7.11 This login needs an encrypted connection"},
		{"mail without login", policy.Submission, stranger, []string{"EHLO c", "STARTTLS", "EHLO c", "MAIL FROM:<anna@example.org>"}, "530 5.7.0 Log in first"},
		{"a wrong password", policy.Submission, stranger, []string{"EHLO c", "STARTTLS", "EHLO c", "AUTH PLAIN AGFubmEAd3Jvbmc="}, "535 5.7.8"},
		{"anna to the world", policy.Submission, stranger, append(login[:4:4], "MAIL FROM:<anna@example.org>", "RCPT TO:<b@far.example>"), "250 2.1.5"},
		{"anna by her other name", policy.Submission, stranger, append(login[:4:4], "MAIL FROM:<Sales@example.org>"), "250 2.1.0"},
		{"anna as somebody else", policy.Submission, stranger, append(login[:4:4], "MAIL FROM:<ben@example.org>"), `553 5.7.1 anna may not send as "<ben@example.org>"`},
		{"anna as nobody", policy.Submission, stranger, append(login[:4:4], "MAIL FROM:<>"), "553 5.7.1"},
		{"anna to an address literal", policy.Submission, stranger, append(login[:4:4], "MAIL FROM:<anna@example.org>", "RCPT TO:<b@[192.0.2.1]>"), "550 5.1.2"},
		{"anna after HELO, which forgets her", policy.Submission, stranger, append(login[:4:4], "HELO c.example", "MAIL FROM:<anna@example.org>"), "530 5.7.0 Log in first"},
		{"a user that the policy does not know", policy.Submission, stranger, []string{"EHLO c", "STARTTLS", "EHLO c", "AUTH PLAIN AGdob3N0AHBhc3M=", "MAIL FROM:<anna@example.org>"}, `550 5.7.1 User "ghost" may no longer send here`},

		{"the scanner", policy.Trusted, "10.1.2.40", []string{"EHLO c", "MAIL FROM:<scanner@example.org>", "RCPT TO:<b@far.example>"}, "250 2.1.5"},
		{"the scanner, mapped", policy.Trusted, "::ffff:10.1.2.40", []string{"EHLO c", "MAIL FROM:<scanner@example.org>", "RCPT TO:<b@far.example>"}, "250 2.1.5"},
		{"the scanner as anna", policy.Trusted, "10.1.2.40", []string{"EHLO c", "MAIL FROM:<anna@example.org>"}, "553 5.7.1 scanner may not send as"},
		{"its neighbour", policy.Trusted, "10.1.2.41", []string{"EHLO c", "MAIL FROM:<scanner@example.org>"}, "550 5.7.1 10.1.2.41 is not known here"},
		{"login where nobody logs in", policy.Trusted, "10.1.2.40", []string{"EHLO c", plain}, "502 5.5.1 No login on this port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(c.role)
			b.tls = certificate()
			replies := b.talk(t, c.client, c.lines...)
			if got := replies[len(replies)-1]; len(replies) != len(c.lines)+1 || !strings.HasPrefix(got, c.want) {
				t.Errorf("%q\ngot  %q\nwant %q", c.lines, replies, c.want)
			}
			if len(b.tray.letters) != 0 {
				t.Error("something was stored")
			}
		})
	}
}

// A message reaches the tray only through MAIL, a granted RCPT and DATA, in
// this order and in one transaction.
func TestOnlyAWholeTransactionIsStored(t *testing.T) {
	words := []string{"MAIL FROM:<a@far.example>", "RCPT TO:<anna@example.org>", "RCPT TO:<b@far.example>", "RSET", "EHLO c", "DATA"}
	var try func(prefix []int, depth int)
	try = func(prefix []int, depth int) {
		if depth > 0 {
			for i := range words {
				try(append(prefix[:len(prefix):len(prefix)], i), depth-1)
			}
			return
		}
		lines, open, granted, stored := []string{"EHLO c"}, false, false, 0
		for _, w := range prefix {
			lines = append(lines, words[w])
			switch w {
			case 0:
				open = true
			case 1:
				granted = granted || open
			case 3, 4:
				open, granted = false, false
			case 5:
				if open && granted {
					lines = append(lines, "\\x\r\n.")
					stored++
					open, granted = false, false
				}
			}
		}
		b := newBench(policy.MX)
		for i, l := range lines {
			if l == "\\x\r\n." {
				lines[i] = "x\r\n."
			}
		}
		b.talk(t, stranger, lines...)
		if len(b.tray.letters) != stored {
			t.Fatalf("%q: %d stored, want %d", lines, len(b.tray.letters), stored)
		}
		for _, l := range b.tray.letters {
			if len(l.To) != 1 || l.To[0].Grant.To().String() != "<anna@example.org>" {
				t.Fatalf("%q: stored for %v", lines, l.To)
			}
		}
	}
	try(nil, 4)
}

func (b *bench) deliver(t *testing.T, client string, message string) string {
	t.Helper()
	lines := []string{"EHLO c.example"}
	sender := "<a@far.example>"
	switch b.Role {
	case policy.Submission, policy.Submissions:
		b.tls = certificate()
		lines, sender = append(lines, login[1:]...), "<anna@example.org>"
	case policy.Trusted:
		sender = "<scanner@example.org>"
	case policy.MX:
	}
	lines = append(lines, "MAIL FROM:"+sender, "RCPT TO:<anna@example.org>", "DATA", strings.ReplaceAll(message, "\n", "\r\n")+"\r\n.")
	replies := b.talk(t, client, lines...)
	return replies[len(replies)-1]
}

func TestMessages(t *testing.T) {
	hops := strings.Repeat("Received: by x\n", 50)
	for _, c := range []struct {
		name, role, message string
		want                string   // how the reply begins
		has, hasNot         []string // in what is stored
	}{
		{
			"as a mail program writes it", "submission", "From: Anna <anna@example.org>\nTo: b@far.example\nBcc: secret@far.example\nDate: Mon, 1 Jan 2026 10:00:00 +0000\nMessage-ID: <x@y>\nSubject: s\n\ntext", "250",
			[]string{"Received: by mx.example.org (Postern)\r\n\twith ESMTPSA id ID1;", "Message-ID: <x@y>", "\r\n\r\ntext"},
			[]string{"Bcc", "secret", stranger, "c.example"},
		},
		{"without date and id", "submission", "From: anna@example.org\nSubject: s\n\ntext", "250", []string{"\r\nDate: ", "\r\nMessage-ID: <ID1@mx.example.org>\r\n"}, nil},
		{"without author", "submission", "Subject: s\n\ntext", "250", []string{"From: <anna@example.org>\r\n"}, nil},
		{"of two authors", "submission", "From: anna@example.org, sales@example.org\n\ntext", "250", []string{"Sender: <anna@example.org>\r\n"}, nil},
		{"in somebody else's name", "submission", "From: ben@example.org\n\ntext", `550 5.7.1 The From line "ben@example.org" does not belong to anna`, nil, nil},
		{"in two names, one of somebody else", "submission", "From: anna@example.org, ben@example.org\n\ntext", "550 5.7.1", nil, nil},
		{"with a sender of somebody else", "submission", "From: anna@example.org\nSender: ben@example.org\n\ntext", "550 5.7.1", nil, nil},
		{"resent by somebody else", "submission", "From: anna@example.org\nResent-From: ben@example.org\n\ntext", "550 5.7.1", nil, nil},
		{"with two From", "submission", "From: anna@example.org\nFrom: anna@example.org\n\ntext", "550 5.6.0 Header From appears 2 times", nil, nil},
		{"with a From that is none", "submission", "From: hello\n\ntext", "550 5.6.0 Header From holds no address", nil, nil},
		{"hidden behind a name", "submission", "From: \"anna@example.org\" <ben@example.org>\n\ntext", "550 5.7.1", nil, nil},
		{"without any header", "submission", "hello", "250", []string{"From: <anna@example.org>", "\r\n\r\nhello\r\n"}, nil},
		{"with a folded field", "submission", "From: Anna\n <anna@example.org>\nSubject: a\n b\n\ntext", "250", []string{"From: Anna\r\n <anna@example.org>\r\n", "Subject: a\r\n b\r\n"}, nil},

		{
			"from a stranger", "mx", "From: anybody@far.example\nBcc: x@far.example\n\ntext", "250",
			[]string{"Received: from unknown ([198.51.100.7])\r\n\tby mx.example.org (Postern)\r\n\twith ESMTP id ID1\r\n\tfor <anna@example.org>;", "From: anybody@far.example\r\nBcc: x@far.example\r\n"},
			[]string{"Message-ID", "Date:"},
		},
		{"with a verdict in our name", "mx", "Authentication-Results: mx.example.org; spf=pass\nAuthentication-Results: other.example; spf=pass\n\ntext", "250", []string{"other.example"}, []string{"Authentication-Results: mx.example.org"}},
		{"in circles", "mx", hops + "\ntext", "554 5.4.6 Loop: 50 hops", nil, nil},
		{"in circles almost", "mx", hops[15:] + "\ntext", "250", nil, nil},
		{"with a long header", "mx", strings.Repeat("X: "+strings.Repeat("y", 900)+"\n", 300) + "\ntext", "550 5.6.0 The header is longer than 262144 octets", nil, nil},
		{"with many fields", "mx", strings.Repeat("X: y\n", 1001) + "\ntext", "550 5.6.0 The header has more than 1000 fields", nil, nil},

		{"from a device", "trusted", "Subject: scan\n\ntext", "250", []string{"From: <scanner@example.org>", "Received: by mx.example.org"}, []string{"10.1.2.40"}},
		{"from a device in anna's name", "trusted", "From: anna@example.org\n\ntext", "550 5.7.1", nil, nil},
	} {
		t.Run(c.role+", "+c.name, func(t *testing.T) {
			role, _ := policy.ParseRole(c.role)
			b := newBench(role)
			client := stranger
			if role == policy.Trusted {
				client = "10.1.2.40"
			}
			if b.Role == policy.MX { // its name is no name of a host
				b.Limits.Pause = 0
			}
			got := b.deliver(t, client, c.message)
			if c.role == "mx" && c.name == "from a stranger" {
				c.has[0] = strings.Replace(c.has[0], "from unknown", "from c.example", 1)
			}
			if !strings.HasPrefix(got, c.want) {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			if stored := len(b.tray.bodies); (stored == 1) != strings.HasPrefix(c.want, "250") {
				t.Fatalf("%d stored", stored)
			}
			for _, text := range c.has {
				if !strings.Contains(b.tray.bodies[0], text) {
					t.Errorf("%q is not in\n%s", text, b.tray.bodies[0])
				}
			}
			for _, text := range c.hasNot {
				if strings.Contains(b.tray.bodies[0], text) {
					t.Errorf("%q is in\n%s", text, b.tray.bodies[0])
				}
			}
		})
	}
}

type full struct{}

func (full) Error() string     { return "full" }
func (full) Reply() mail.Reply { return mail.NewReply(452, "4.3.1", "No room") }

func TestWhatCannotBeStored(t *testing.T) {
	b := newBench(policy.MX)
	b.tray.fail = full{}
	if got := b.deliver(t, stranger, "x"); !strings.HasPrefix(got, "452 4.3.1 No room [ID1]") {
		t.Errorf("full: %q", got)
	}
	b.tray.fail = errors.New("secret detail")
	if got := b.deliver(t, stranger, "x"); !strings.HasPrefix(got, "451 4.3.0") || strings.Contains(got, "secret") {
		t.Errorf("broken: %q", got)
	}
	b = newBench(policy.MX)
	b.Mailboxes = mailboxes{errors.New("away")}
	if got := b.talk(t, stranger, "EHLO c", "MAIL FROM:<>", "RCPT TO:<known@asked.example.org>"); !strings.HasPrefix(got[3], "451 4.4.3") {
		t.Errorf("a next hop that does not answer: %q", got)
	}
}

func TestLimits(t *testing.T) {
	b := newBench(policy.MX)
	b.Limits.Connections = Rate{3, time.Minute}
	for i := range 4 {
		got := b.talk(t, stranger)[0]
		if want := map[bool]string{true: "220", false: "421 4.7.0 Too many connections"}[i < 3]; !strings.HasPrefix(got, want) {
			t.Errorf("connection %d: %q", i, got)
		}
	}
	if got := b.talk(t, "198.51.100.8")[0]; !strings.HasPrefix(got, "220") {
		t.Errorf("its neighbour: %q", got)
	}
	b = newBench(policy.MX)
	lines := []string{"EHLO c", "MAIL FROM:<>"}
	for i := range 7 {
		lines = append(lines, fmt.Sprintf("RCPT TO:<u%d@example.org>", i))
	}
	if got := b.talk(t, stranger, lines...); len(got) != 9 || !strings.HasPrefix(got[8], "421 4.7.0 Too many mailboxes that do not exist") {
		t.Errorf("a dictionary: %q", got)
	}
}

func TestBudget(t *testing.T) {
	b := newBench(policy.Submission)
	b.Limits.PerUser = Rate{2, 24 * time.Hour}
	for i, want := range []string{"250 2.0.0 Stored as", "250 2.0.0 Stored as", "250 2.0.0 Stored as ID3 and held: anna has reached its limit of 2/d", "250 2.0.0 Stored as ID4 and held", "452 4.7.1 anna has reached twice its limit of 2/d"} {
		if got := b.deliver(t, stranger, "x"); !strings.HasPrefix(got, want) {
			t.Errorf("message %d: %q, want %q", i+1, got, want)
		}
	}
	if n := len(b.tray.letters); n != 4 || b.tray.letters[1].Hold != "" || b.tray.letters[2].Hold == "" {
		t.Errorf("%d stored, holds %q, %q", n, b.tray.letters[1].Hold, b.tray.letters[2].Hold)
	}
	b = newBench(policy.Submission)
	b.Limits.PerUser = Rate{1, 24 * time.Hour}
	b.tray.fail = full{}
	b.deliver(t, stranger, "x")
	b.tray.fail = nil // what was not stored has cost nothing
	if got := b.deliver(t, stranger, "x"); strings.Contains(got, "held") {
		t.Errorf("after a failure: %q", got)
	}
	b = newBench(policy.Submission)
	b.Limits.PerUserBytes = Rate{100, 24 * time.Hour}
	b.deliver(t, stranger, strings.Repeat("x", 200))
	if got := b.deliver(t, stranger, "x"); !strings.Contains(got, "held") && !strings.HasPrefix(got, "452") {
		t.Errorf("after too many octets: %q", got)
	}
}

// Fifty strangers behind one trusted address, as a proxy makes them look:
// trust is withdrawn before the third has got anywhere.
func TestLostClientAddresses(t *testing.T) {
	b := newBench(policy.Trusted)
	sent := 0
	for i := range 50 {
		got := b.talk(t, "10.1.2.40", fmt.Sprintf("EHLO s%d.example", i), "MAIL FROM:<scanner@example.org>", "RCPT TO:<b@far.example>")
		if strings.HasPrefix(got[len(got)-1], "250") {
			sent++
		} else if !strings.HasPrefix(got[2], "451 4.7.1 This server cannot see your real address") {
			t.Fatalf("stranger %d: %q", i, got)
		}
	}
	if sent != 2 {
		t.Errorf("%d strangers were trusted, want 2", sent)
	}
	b.State.Witness.Restore()
	if got := b.talk(t, "10.1.2.40", "EHLO scanner.example", "MAIL FROM:<scanner@example.org>"); !strings.HasPrefix(got[2], "250") {
		t.Errorf("after the operator has looked: %q", got)
	}
}

func TestEarlyTalker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(policy.MX)
		b.Limits.Pause = 2 * time.Second
		began := time.Now()
		if got := b.talk(t, stranger)[0]; !strings.HasPrefix(got, "220") || time.Since(began) != 2*time.Second {
			t.Errorf("who waits: %q after %s", got, time.Since(began))
		}
		near, far := net.Pipe()
		go func() {
			server := &smtp.Server{Name: "mx.example.org", Handler: &b.SMTP}
			_ = server.ServeConn(context.Background(), from{far, netip.MustParseAddr(stranger)})
		}()
		go func() { _, _ = io.WriteString(near, "EHLO spam\r\n") }()
		line, _ := bufio.NewReader(near).ReadString('\n')
		if !strings.HasPrefix(line, "554 5.5.1 Talked before our greeting") {
			t.Errorf("who does not: %q", line)
		}
		near.Close()
	})
}

func TestIDs(t *testing.T) {
	b := newBench(policy.MX)
	one := []string{"MAIL FROM:<>", "RCPT TO:<anna@example.org>", "DATA", "x\r\n."}
	b.talk(t, stranger, append(append([]string{"EHLO c"}, one...), one...)...)
	if len(b.tray.letters) != 2 || b.tray.letters[0].ID != "ID1" || b.tray.letters[1].ID != "ID2" || b.tray.letters[1].Origin.Session != "ID1" {
		t.Errorf("letters = %+v", b.tray.letters)
	}
}

// A right that is withdrawn while the message comes in: it is stored, since it
// was granted, and held.
func TestGrantLostOnTheWay(t *testing.T) {
	s := house.Source()
	s.Users = nil
	without, _ := policy.Compile(s)
	b := newBench(policy.Submission)
	now := house
	b.Policy = func() *policy.Policy { return now }
	b.Intake = slow{&b.tray, func() { now = without }}
	b.tls = certificate()
	lines := append(login[:4:4], "MAIL FROM:<anna@example.org>", "RCPT TO:<b@far.example>", "DATA")
	now = house
	b.Watch = func(e Event) {}
	// Room is asked at MAIL, after the policy of the transaction was taken.
	replies := b.talk(t, stranger, append(lines, "x\r\n.")...)
	if got := replies[len(replies)-1]; !strings.Contains(got, "and held: its grant for <b@far.example> was withdrawn while it came in") {
		t.Errorf("got %q", got)
	}
	if len(b.tray.letters) != 1 || b.tray.letters[0].Hold == "" {
		t.Errorf("stored: %+v", b.tray.letters)
	}
}

// slow lets something happen before the message is stored.
type slow struct {
	*tray
	meanwhile func()
}

func (s slow) Room(int64) error { s.meanwhile(); return nil }
