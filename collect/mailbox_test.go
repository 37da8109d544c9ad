package collect

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"postern/mail"
	"postern/verdict"
)

// A mailServer is an IMAP server in memory, with one user.
type mailServer struct {
	*pipes
	user   *imapmemserver.User
	server *imapserver.Server
}

func newMailServer(t *testing.T, o imapserver.Options) *mailServer {
	t.Helper()
	memory := imapmemserver.New()
	m := &mailServer{pipes: newPipes(), user: imapmemserver.NewUser("anna", "correct horse")}
	if err := m.user.Create("INBOX", nil); err != nil {
		t.Fatal(err)
	}
	memory.AddUser(m.user)
	o.NewSession = func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
		return memory.NewSession(), nil, nil
	}
	o.Logger = log.New(io.Discard, "", 0)
	m.server = imapserver.New(&o)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.server.Serve(m.pipes) // ends with an error when it is closed
	}()
	t.Cleanup(func() {
		_ = m.pipes.Close()
		<-done
		_ = m.server.Close()
	})
	return m
}

// overTCP serves on loopback as well: a TLS handshake that fails needs a
// connection that holds what nobody reads.
func (m *mailServer) overTCP(t *testing.T, c *MailboxConfig) {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.server.Serve(l)
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	c.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
	}
}

type literal struct{ *strings.Reader }

func (m *mailServer) deliver(t *testing.T, message string) {
	t.Helper()
	text := strings.ReplaceAll(message, "\n", "\r\n")
	if _, err := m.user.Append("INBOX", literal{strings.NewReader(text)}, &imap.AppendOptions{Time: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

// lookInto runs a mailbox source over the server until the test ends.
func lookInto(t *testing.T, m *mailServer, change func(*MailboxConfig)) *Mailbox {
	t.Helper()
	c := MailboxConfig{
		Server: "127.0.0.1:143", User: "anna", Password: "correct horse", Secret: testSecret,
		Address: must(mail.ParseAddress("anna@ours.example")), Dial: m.dial,
	}
	if change != nil {
		change(&c)
	}
	box, err := NewMailbox(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- box.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return box
}

var idling = imapserver.Options{InsecureAuth: true, Caps: caps(imap.CapIMAP4rev1, imap.CapIMAP4rev2, imap.CapIdle)}

func caps(list ...imap.Cap) imap.CapSet {
	set := make(imap.CapSet)
	for _, c := range list {
		set[c] = struct{}{}
	}
	return set
}

const trace = `Return-Path: <s@probe.example>
Delivered-To: %TO%
Received: from mx.ours.example ([10.0.0.5]) by store.ours.example with LMTP; Tue, 24 Nov 2026 10:00:02 +0000
Received: from smtp.provider.example (smtp.provider.example [198.51.100.4]) by mx.ours.example with ESMTPS; Tue, 24 Nov 2026 10:00:01 +0000
Received: from tester (unknown [192.0.2.1]) by relay.example with SMTP; Tue, 24 Nov 2026 10:00:00 +0000
`

func TestMailboxSeesArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMailServer(t, idling)
		box := lookInto(t, m, nil)
		if err := box.Preflight(t.Context()); err != nil {
			t.Fatal(err)
		}
		tokens, err := box.Tokens(t.Context(), 2, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		to := box.Recipient(tokens[0])
		if to.String() != "anna+"+string(tokens[0])+"@ours.example" || box.Domain() != "ours.example" {
			t.Errorf("recipient %s at %s", to, box.Domain())
		}
		synctest.Wait()
		m.deliver(t, "Subject: a letter\nFrom: a friend\n\n"+string(tokens[1])+" stands in a letter, which is not opened\n")
		m.deliver(t, strings.Replace(trace, "%TO%", to.String(), 1)+"Message-ID: <"+string(tokens[0])+"@ours.example>\nSubject: Postern relay check\n\nbody\n")
		start := time.Now()
		list, next, err := box.Arrivals(t.Context(), 0)
		if err != nil || len(list) != 1 {
			t.Fatalf("arrivals %+v, %v, want one", list, err)
		}
		a := list[0]
		if a.Tokens[0] != tokens[0] || len(a.Tokens) != 1 || a.Kind != verdict.Message || a.Seen != verdict.SeenByMailbox ||
			a.Peer.Addr() != netip.MustParseAddr("198.51.100.4") || a.ForwardPath != to.String() || a.ReversePath != "<s@probe.example>" || a.Helo != "smtp.provider.example" {
			t.Errorf("arrival %+v", a)
		}
		if d := time.Since(start); d > 0 {
			t.Errorf("the arrival was seen after %v, want at once: the server idles", d)
		}
		if hops := a.Hops(); len(hops) != 3 || hops[0].IP != netip.MustParseAddr("192.0.2.1") {
			t.Errorf("hops %+v", hops)
		}

		m.deliver(t, "Return-Path: <>\nContent-Type: multipart/report; report-type=delivery-status\n\nMessage-ID: <"+string(tokens[1])+"@ours.example>\n")
		list, _, err = box.Arrivals(t.Context(), next)
		if err != nil || len(list) != 1 || list[0].Kind != verdict.Bounce || list[0].Tokens[0] != tokens[1] {
			t.Errorf("after a notice: %+v, %v, want a bounce that names the form's token", list, err)
		}
	})
}

func TestMailboxWithAFixedAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMailServer(t, idling)
		box := lookInto(t, m, func(c *MailboxConfig) { c.Fixed = true })
		tokens, err := box.Tokens(t.Context(), 1, time.Hour)
		if err != nil || box.Recipient(tokens[0]).String() != "anna@ours.example" {
			t.Fatal(err, box.Recipient(tokens[0]))
		}
		m.deliver(t, "Subject: Postern relay check "+string(tokens[0])+"\nX-Postern-Check: "+string(tokens[0])+"\n\nx\n")
		list, _, err := box.Arrivals(t.Context(), 0)
		if err != nil || len(list) != 1 || list[0].Tokens[0] != tokens[0] || list[0].ForwardPath != "anna@ours.example" || list[0].Peer.IsValid() {
			t.Errorf("arrivals %+v, %v; want one, without an address that nobody wrote", list, err)
		}
	})
}

// Whoever looks for probes leaves no mark on anybody's mail.
// A record keeps what the server's goroutines write.
type record struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func TestMailboxIsOnlyRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wire record
		o := idling
		o.DebugWriter = &wire
		m := newMailServer(t, o)
		box := lookInto(t, m, nil)
		m.deliver(t, "Return-Path: <>\nSubject: x\n\n"+string(mintOne(t, box))+"\n")
		if _, _, err := box.Arrivals(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		text := wire.String()
		if !strings.Contains(text, " EXAMINE INBOX") || strings.Contains(text, " SELECT ") || strings.Contains(text, " STORE ") {
			t.Errorf("the folder is not opened for reading only:\n%s", text)
		}
		if !strings.Contains(text, "BODY.PEEK[TEXT]") || regexp.MustCompile(`UID FETCH [^\r\n]*[( ]BODY\[`).MatchString(text) {
			t.Errorf("messages are not only peeked at:\n%s", text)
		}
	})
}

func TestMailboxWithoutIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := idling
		o.Caps = caps(imap.CapIMAP4rev1)
		m := newMailServer(t, o)
		box := lookInto(t, m, func(c *MailboxConfig) { c.Every = 7 * time.Second })
		tokens, err := box.Tokens(t.Context(), 1, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		start := time.Now()
		m.deliver(t, "X-Postern-Check: "+string(tokens[0])+"\n\nx\n")
		if list, _, err := box.Arrivals(t.Context(), 0); err != nil || len(list) != 1 || time.Since(start) > 7*time.Second {
			t.Errorf("arrivals %v, %v after %v, want one after 7s at most", list, err, time.Since(start))
		}
	})
}

func TestMailboxAfterALostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMailServer(t, idling)
		failed := make(chan error, 10)
		dials := 0
		box := lookInto(t, m, func(c *MailboxConfig) {
			c.Failed = func(err error) { failed <- err }
			c.Dial = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
				dials++
				conn, err = m.dial(ctx, network, address)
				if dials == 1 && err == nil {
					time.AfterFunc(time.Hour, func() { conn.Close() })
				}
				return conn, err
			}
		})
		tokens, err := box.Tokens(t.Context(), 2, 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		m.deliver(t, "X-Postern-Check: "+string(tokens[0])+"\n\nx\n")
		_, next, err := box.Arrivals(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-failed; err == nil {
			t.Error("a lost connection is no failure")
		}
		m.deliver(t, "X-Postern-Check: "+string(tokens[1])+"\n\nx\n")
		list, _, err := box.Arrivals(t.Context(), next)
		if err != nil || len(list) != 1 || list[0].Tokens[0] != tokens[1] || dials != 2 {
			t.Errorf("over the second of %d connections: %+v, %v; want the new message alone", dials, list, err)
		}
		if err := box.Preflight(t.Context()); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestMailboxThatCannotBeSeen(t *testing.T) {
	certificate := must(selfSigned("imap.ours.example"))
	withTLS := idling
	withTLS.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
	for _, c := range []struct {
		name    string
		options imapserver.Options
		change  func(*MailboxConfig)
		want    string
	}{
		{"a wrong password", idling, func(c *MailboxConfig) { c.Password = "wrong" }, "does not let anna in"},
		{"no such folder", idling, func(c *MailboxConfig) { c.Folder = "Probes" }, `"Probes" does not open`},
		{"no TLS, not on loopback", idling, func(c *MailboxConfig) { c.Server = "imap.ours.example:143" }, "no TLS"},
		{"a certificate of nobody's", withTLS, func(c *MailboxConfig) { c.Server = "imap.ours.example:143" }, "certificate"},
	} {
		m := newMailServer(t, c.options)
		box := lookInto(t, m, func(config *MailboxConfig) {
			m.overTCP(t, config)
			c.change(config)
		})
		err := box.Preflight(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "no arrival would be seen") {
			t.Errorf("%s: %v, want %q in it, and what it means", c.name, err, c.want)
		}
	}
}

func TestMailboxOverSTARTTLS(t *testing.T) {
	certificate := must(selfSigned("imap.ours.example"))
	o := idling
	o.InsecureAuth = false
	o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
	m := newMailServer(t, o)
	box := lookInto(t, m, func(c *MailboxConfig) {
		m.overTCP(t, c)
		c.Server, c.TLS = "imap.ours.example:143", &tls.Config{InsecureSkipVerify: true}
	})
	if err := box.Preflight(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNewMailboxRefuses(t *testing.T) {
	good := MailboxConfig{Server: "imap.ours.example:993", Address: must(mail.ParseAddress("anna@ours.example"))}
	for _, c := range []struct {
		name   string
		change func(*MailboxConfig)
		want   string
	}{
		{"no address", func(c *MailboxConfig) { c.Address = mail.Address{} }, "no address"},
		{"no port", func(c *MailboxConfig) { c.Server = "imap.ours.example" }, ":993"},
		{"no room for a token", func(c *MailboxConfig) { c.Address = must(mail.ParseAddress(strings.Repeat("a", 50) + "@ours.example")) }, "no room"},
		{"short secret", func(c *MailboxConfig) { c.Secret = []byte("x") }, "16 or more"},
	} {
		config := good
		c.change(&config)
		if _, err := NewMailbox(config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}

func TestEgressOf(t *testing.T) {
	for _, c := range []struct {
		name, header string
		border       []string
		want         string
	}{
		{"the border's own word", trace, []string{"mx.ours.example"}, "198.51.100.4"},
		{"the topmost public address", trace, nil, "198.51.100.4"},
		{"nothing but private ones", "Received: from a ([10.0.0.5]) by b\nReceived: from c ([192.168.1.1]) by d\n", nil, "10.0.0.5"},
		{"a forged one below the border's", "Received: from x ([203.0.113.9]) by mx.ours.example\nReceived: from y ([198.51.100.1]) by mx.ours.example\n", []string{"MX.ours.example"}, "203.0.113.9"},
		{"a hop of the provider's on top", "Received: from in.ours.example ([192.0.2.200]) by store\nReceived: from x ([203.0.113.9]) by in.ours.example\n", []string{"in.ours.example"}, "203.0.113.9"},
		{"none", "Subject: x\n", nil, ""},
	} {
		got := ""
		if hop := egressOf(mail.ParseHeader([]byte(c.header)), c.border); hop.IP.IsValid() {
			got = hop.IP.String()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
