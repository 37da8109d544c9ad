package smtp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/mail"
	"postern/transcript"
)

// certificate makes one for mx.example, once.
var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"mx.example"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
})

func serverTLS() *tls.Config {
	c, _ := certificate()
	return &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS12}
}

func clientTLS() *tls.Config {
	_, pool := certificate()
	return &tls.Config{ServerName: "mx.example", RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// A keeper is a sink that logs in anna with 1234 and remembers its peer.
type keeper struct {
	sink
	peer *Peer
}

func (k *keeper) Mechanisms() []string { return []string{"PLAIN", "LOGIN"} }

func (k *keeper) Auth(_ context.Context, mechanism string, initial []byte, challenge func([]byte) ([]byte, error)) (string, mail.Reply) {
	ask := func(text string) string {
		b, err := challenge([]byte(text))
		if err != nil {
			return ""
		}
		return string(b)
	}
	var user, password string
	if mechanism == "LOGIN" {
		user, password = ask("User Name"), ask("Password")
	} else {
		if initial == nil {
			initial = []byte(ask(""))
		}
		parts := strings.Split(string(initial), "\x00")
		if len(parts) != 3 {
			return "anna", mail.Reply{} // no 235: the name must not count
		}
		user, password = parts[1], parts[2]
	}
	if user == "anna" && password == "1234" {
		return user, replyLoggedIn
	}
	return "anna", mail.Reply{}
}

func (k *keeper) handler() Handler {
	return HandlerFunc(func(_ context.Context, p *Peer) (Session, mail.Reply) {
		k.peer = p
		return k, mail.Reply{}
	})
}

func TestStartTLSForgetsAll(t *testing.T) {
	k := &keeper{}
	srv := &Server{Name: "mx.example", Handler: k.handler(), TLS: serverTLS()}
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- srv.ServeConn(t.Context(), server) }()
	rec := &transcript.Transcript{}
	r := NewRaw(client, rec)
	step := func(line string, code int) mail.Reply {
		t.Helper()
		reply, err := r.Command(t.Context(), line)
		if err != nil || reply.Code != code {
			t.Fatalf("%s: %v %v, want %d\n%s", line, reply, err, code, rec)
		}
		return reply
	}
	if b, err := r.Reply(t.Context()); err != nil || b.Code != 220 {
		t.Fatal(b, err)
	}
	if e := step("EHLO c.example", 250); !strings.Contains(e.Text(), "STARTTLS") || strings.Contains(e.Text(), "AUTH") {
		t.Errorf("before TLS: %v", e)
	}
	step("AUTH PLAIN AGFubmEAMTIzNA==", 502)
	step("MAIL FROM:<a@b.example>", 250)
	step("RCPT TO:<c@d.example>", 250)
	step("STARTTLS", 220)
	if err := r.StartTLS(t.Context(), clientTLS()); err != nil {
		t.Fatal(err)
	}
	step("DATA", 503)
	step("MAIL FROM:<a@b.example>", 503)
	if k.peer.Helo != "" || k.peer.ESMTP || k.peer.TLS == nil {
		t.Errorf("after STARTTLS: %+v", k.peer)
	}
	if e := step("EHLO c.example", 250); strings.Contains(e.Text(), "STARTTLS") || !strings.Contains(e.Text(), "AUTH PLAIN LOGIN") {
		t.Errorf("after TLS: %v", e)
	}
	step("STARTTLS", 502)
	step("AUTH PLAIN AGFubmEAMTIzNA==", 235)
	if k.peer.Identity != "anna" {
		t.Errorf("identity %q", k.peer.Identity)
	}
	step("RSET", 250)
	step("EHLO c.example", 250)
	if k.peer.Identity != "anna" {
		t.Errorf("identity after RSET and EHLO: %q", k.peer.Identity)
	}
	step("AUTH PLAIN AGFubmEAMTIzNA==", 503)
	step("HELO c.example", 250)
	if k.peer.Identity != "" {
		t.Errorf("identity after HELO: %q", k.peer.Identity)
	}
	step("QUIT", 221)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if text := rec.String(); strings.Contains(text, "AGFubmEA") || !strings.Contains(text, " ~> AUTH PLAIN (hidden)\n") {
		t.Errorf("the transcript:\n%s", text)
	}
}

// TestNothingBeforeTLSIsUsedAfterIt: CVE-2011-0411, and the session that goes
// on in clear after a handshake that failed.
func TestNothingBeforeTLSIsUsedAfterIt(t *testing.T) {
	for _, c := range []struct{ name, input, codes string }{
		{"commands in the same segment", "EHLO c.example\r\nSTARTTLS\r\nRSET\r\nQUIT\r\n", "220 250 554"},
		{"half a command in the same segment", "EHLO c.example\r\nSTARTTLS\r\nM", "220 250 554"},
		{"STARTTLS with a parameter", "EHLO c.example\r\nSTARTTLS x\r\nQUIT\r\n", "220 250 501 221"},
	} {
		srv := serverFor(&sink{})
		srv.TLS = serverTLS()
		if out, _ := play(srv, 0, c.input); codesOf(out) != c.codes {
			t.Errorf("%s: %s, want %s", c.name, codesOf(out), c.codes)
		}
	}
	// One octet a read: what follows reaches the handshake and breaks it.
	s := &sink{}
	srv := serverFor(s)
	srv.TLS = serverTLS()
	out, err := play(srv, 1, "EHLO c.example\r\nSTARTTLS\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n")
	if !strings.HasPrefix(codesOf(out), "220 250 220") || strings.Contains(out, "354") || err == nil || !s.from.IsZero() {
		t.Errorf("after a failed handshake: %q, %v", out, err)
	}
}

func TestImplicitTLS(t *testing.T) {
	k := &keeper{}
	srv := &Server{Name: "mx.example", Handler: k.handler(), TLS: serverTLS(), Implicit: true}
	client, server := net.Pipe()
	go func() { _ = srv.ServeConn(t.Context(), server) }()
	c, err := NewClient(t.Context(), tls.Client(client, clientTLS()), ClientOptions{PlainAuth: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Hello(t.Context(), "c.example"); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Extension("STARTTLS"); ok || k.peer.TLS == nil {
		t.Errorf("STARTTLS offered inside TLS, or TLS not seen: %+v", k.peer)
	}
	if err := c.Auth(t.Context(), "anna", "1234"); err != nil {
		t.Error(err)
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAuth(t *testing.T) {
	const e = "EHLO c.example\r\n"
	for _, c := range []struct{ name, input, codes, identity string }{
		{"PLAIN with initial response", e + "AUTH PLAIN AGFubmEAMTIzNA==\r\nQUIT\r\n", "220 250 235 221", "anna"},
		{"PLAIN without", e + "AUTH PLAIN\r\nAGFubmEAMTIzNA==\r\nQUIT\r\n", "220 250 334 235 221", "anna"},
		{"LOGIN, pipelined", e + "auth login\r\nYW5uYQ==\r\nMTIzNA==\r\nQUIT\r\n", "220 250 334 334 235 221", "anna"},
		{"a wrong password", e + "AUTH PLAIN AGFubmEAeA==\r\nQUIT\r\n", "220 250 535 221", ""},
		{"an empty response", e + "AUTH PLAIN =\r\nQUIT\r\n", "220 250 535 221", ""},
		{"cancelled", e + "AUTH LOGIN\r\n*\r\nQUIT\r\n", "220 250 334 501 221", ""},
		{"no base64", e + "AUTH PLAIN !!\r\nAUTH PLAIN\r\n!!\r\nQUIT\r\n", "220 250 501 334 501 221", ""},
		{"a mechanism that is not offered", e + "AUTH CRAM-MD5\r\nAUTH\r\nQUIT\r\n", "220 250 504 504 221", ""},
		{"before EHLO, after HELO", "AUTH PLAIN AGFubmEAMTIzNA==\r\nHELO c\r\nAUTH PLAIN AGFubmEAMTIzNA==\r\nQUIT\r\n", "220 503 250 503 221", ""},
		{"in a transaction", e + "MAIL FROM:<>\r\nAUTH PLAIN AGFubmEAMTIzNA==\r\nQUIT\r\n", "220 250 250 503 221", ""},
		{"three wrong passwords", e + strings.Repeat("AUTH PLAIN AGFubmEAeA==\r\n", 5), "220 250 535 535 421", ""},
		{"a response of 12288 octets", e + "AUTH PLAIN " + strings.Repeat("A", 12275) + "\r\nQUIT\r\n", "220 250 501 221", ""},
		{"a response that is too long", e + "AUTH PLAIN " + strings.Repeat("A", 12280) + "\r\nAUTH PLAIN\r\n" + strings.Repeat("A", 12290) + "\r\nQUIT\r\n", "220 250 500 334 500 221", ""},
		{"AUTH of MAIL", e + "MAIL FROM:<> AUTH=<>\r\nRSET\r\nMAIL FROM:<> AUTH=a+2Bb\r\nRSET\r\nMAIL FROM:<> AUTH=a+b\r\nQUIT\r\n", "220 250 250 250 250 250 501 221", ""},
		{"gone in the middle", e + "AUTH LOGIN\r\nYW5u", "220 250 334", ""},
	} {
		for _, step := range []int{0, 1} {
			k := &keeper{}
			srv := &Server{Name: "mx.example", Handler: k.handler(), PlainAuth: true}
			out, _ := play(srv, step, c.input)
			if codesOf(out) != c.codes || k.peer.Identity != c.identity {
				t.Errorf("%s: %s as %q, want %s as %q", c.name, codesOf(out), k.peer.Identity, c.codes, c.identity)
			}
		}
	}
}

// A muddled session says something else than 235, or 235 to nobody.
type muddled struct {
	keeper
	identity string
	reply    mail.Reply
}

func (m *muddled) Auth(context.Context, string, []byte, func([]byte) ([]byte, error)) (string, mail.Reply) {
	return m.identity, m.reply
}

func TestOnly235LogsIn(t *testing.T) {
	for _, c := range []struct {
		identity string
		reply    mail.Reply
		code     string
	}{
		{"anna", replyLoggedIn, "235"},
		{"", replyLoggedIn, "451"},
		{"anna", replyOK, "451"},
		{"anna", mail.Reply{}, "535"},
		{"anna", mail.NewReply(454, "4.7.0", "later"), "454"},
	} {
		m := &muddled{identity: c.identity, reply: c.reply}
		var peer *Peer
		srv := &Server{Name: "mx.example", PlainAuth: true, Handler: HandlerFunc(func(_ context.Context, p *Peer) (Session, mail.Reply) {
			peer = p
			return m, mail.Reply{}
		})}
		out, _ := play(srv, 0, "EHLO c\r\nAUTH PLAIN AA==\r\nQUIT\r\n")
		if want := "220 250 " + c.code + " 221"; codesOf(out) != want || (peer.Identity != "") != (c.code == "235") {
			t.Errorf("%q with %v: %s as %q, want %s", c.identity, c.reply, codesOf(out), peer.Identity, want)
		}
	}
}

// A fronted session takes XCLIENT.
type fronted struct {
	sink
	attributes map[string]string
}

func (f *fronted) XClient(_ context.Context, a map[string]string) mail.Reply {
	f.attributes = a
	return mail.NewReply(220, "", "mx.example again")
}

func TestXClient(t *testing.T) {
	f := &fronted{}
	srv := serverFor(f)
	out, _ := play(srv, 0, "EHLO c.example\r\nXCLIENT\r\nXCLIENT ADDR\r\nXCLIENT ADDR=192.0.2.1 NAME=a+2Bb helo=x+2by\r\nMAIL FROM:<>\r\nEHLO d.example\r\nMAIL FROM:<>\r\nXCLIENT ADDR=192.0.2.1\r\nQUIT\r\n")
	if codesOf(out) != "220 250 501 501 220 503 250 250 503 221" {
		t.Errorf("%s\n%s", codesOf(out), out)
	}
	if f.attributes["ADDR"] != "192.0.2.1" || f.attributes["NAME"] != "a+b" || f.attributes["HELO"] != "x+y" {
		t.Errorf("%q", f.attributes)
	}
}

// A careless session has every optional face.
type careless struct {
	sink
	raw []string
}

func (c *careless) MailRaw(_ context.Context, raw string) mail.Reply { return c.take(raw) }
func (c *careless) RcptRaw(_ context.Context, raw string) mail.Reply { return c.take(raw) }
func (c *careless) Verify(context.Context, string) mail.Reply {
	return mail.NewReply(250, "2.1.5", "anna")
}

func (c *careless) StartData(context.Context) mail.Reply {
	if len(c.to) > 1 {
		return mail.NewReply(554, "5.5.1", "too many")
	}
	return mail.Reply{}
}

func (c *careless) Command(_ context.Context, verb, arg string) mail.Reply {
	if verb == "ETRN" {
		return mail.NewReply(250, "2.0.0", "OK "+arg)
	}
	return mail.Reply{}
}

func (c *careless) take(raw string) mail.Reply {
	if strings.Contains(raw, "never") {
		return mail.Reply{}
	}
	c.raw = append(c.raw, raw)
	return replyOK
}

func TestOptionalFaces(t *testing.T) {
	c := &careless{}
	out, _ := play(serverFor(c), 0, "EHLO c\r\nVRFY x\r\nETRN d\r\nATRN\r\nMAIL FROM: a@b\r\nRCPT TO:<@x.example:c@d.example>\r\nRCPT TO:never\r\nDATA\r\nx\r\n.\r\n"+
		"MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nDATA\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 6 LAST\r\nQUIT\r\nRSET\r\nQUIT\r\n")
	if want := "220 250 250 250 500 250 250 501 354 250 250 250 250 554 503 250 250 250 554 250 221"; codesOf(out) != want {
		t.Errorf("got  %s\nwant %s\n%s", codesOf(out), want, out)
	}
	if strings.Join(c.raw, "|") != "a@b|<@x.example:c@d.example>" {
		t.Errorf("%q", c.raw)
	}
}

// TestHookReplies: a handler's mistake never becomes a yes.
func TestHookReplies(t *testing.T) {
	for _, c := range []struct {
		name  string
		reply mail.Reply
		codes string
	}{
		{"a refusal", mail.NewReply(554, "5.7.1", "no"), "354 554 221"},
		{"421 closes", mail.NewReply(421, "4.3.2", "later"), "354 421"},
		{"Hangup says nothing", Hangup, "354"},
		{"354 is no answer to a message", mail.NewReply(354, "", "?"), "354 451 221"},
		{"nor is 999", mail.Reply{Code: 999}, "354 451 221"},
	} {
		out, _ := play(serverFor(&sink{reply: c.reply}), 0, begin+"DATA\r\nx\r\n.\r\nQUIT\r\n")
		if got := strings.TrimPrefix(codesOf(out), "220 250 250 250 "); got != c.codes {
			t.Errorf("%s: %s, want %s", c.name, got, c.codes)
		}
	}
}

func TestConnectReplies(t *testing.T) {
	for _, c := range []struct {
		name    string
		session Session
		reply   mail.Reply
		out     string
	}{
		{"a banner of its own", &sink{}, mail.NewReply(220, "", "mx.example nonce"), "220 mx.example nonce\r\n221 2.0.0 Bye\r\n"},
		{"554 waits for QUIT", nil, mail.NewReply(554, "", "no mail here"), "554 no mail here\r\n221 2.0.0 Bye\r\n"},
		{"521 closes", nil, mail.NewReply(521, "", "no mail here"), "521 no mail here\r\n"},
		{"421 closes", nil, mail.NewReply(421, "4.7.0", "later"), "421 4.7.0 later\r\n"},
		{"Hangup says nothing", nil, Hangup, ""},
		{"no session and no reply", nil, mail.Reply{}, "451 4.3.0 Local error; try later\r\n"},
	} {
		srv := &Server{Name: "mx.example", Handler: HandlerFunc(func(context.Context, *Peer) (Session, mail.Reply) { return c.session, c.reply })}
		if out, _ := play(srv, 0, "QUIT\r\n"); out != c.out {
			t.Errorf("%s: %q, want %q", c.name, out, c.out)
		}
	}
	srv := &Server{Handler: HandlerFunc(func(context.Context, *Peer) (Session, mail.Reply) { return nil, mail.NewReply(554, "", "no") })}
	if out, _ := play(srv, 0, begin+"QUIT\r\n"); codesOf(out) != "554 503 503 503 221" {
		t.Errorf("after 554: %s", codesOf(out))
	}
}

// A deaf writer lets the first replies through and then fails.
type deaf struct {
	script
	writes int
}

func (d *deaf) Write(p []byte) (int, error) {
	if d.writes--; d.writes < 0 {
		return 0, errors.New("broken pipe")
	}
	return d.script.Write(p)
}

// TestAClientThatIsGone: no reply can be sent, so no message is taken from
// what it had sent before.
func TestAClientThatIsGone(t *testing.T) {
	s := &sink{}
	c := &deaf{script: script{in: []byte(begin + "DATA\r\nx\r\n.\r\n"), step: 4}, writes: 3}
	if err := serverFor(s).ServeConn(t.Context(), c); err == nil || !strings.Contains(err.Error(), "broken pipe") {
		t.Errorf("ended with %v", err)
	}
	if len(s.whole()) != 0 {
		t.Errorf("took %q", s.whole())
	}
}
