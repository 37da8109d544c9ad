package guard

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
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
		Listeners: []policy.Listener{{Name: "mx", Role: policy.MX, Port: 25}, {Name: "submission", Role: policy.Submission, Port: 587}, {Name: "trusted", Role: policy.Trusted}},
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
	spare   error // what Spare says
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

func (r *tray) Spare(int64) error { return r.spare }

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

type mailboxes struct {
	err    error
	offers *Offer // of every next hop; nil: none was heard
}

func (m mailboxes) Offers(mail.Domain) (Offer, bool) {
	if m.offers == nil {
		return Offer{}, false
	}
	return *m.offers, true
}

func (m mailboxes) Exists(_ context.Context, a mail.Address) (bool, error) {
	return strings.HasPrefix(a.Local(), "known"), m.err
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
