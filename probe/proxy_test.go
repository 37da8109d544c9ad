package probe

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/door"
	"postern/mail"
	"postern/plan"
	"postern/transcript"
	"postern/verdict"
)

func TestEveryMoveOfTheProxyDoorsIsKnown(t *testing.T) {
	used := map[string]bool{}
	for _, f := range plan.At(door.SOCKS) {
		used[f.Move.Name] = true
		if socksMoves[f.Move.Name] == nil {
			t.Errorf("form %s: no move %q at the socks door", f.ID, f.Move.Name)
		}
	}
	for _, f := range plan.At(door.Connect) {
		used[f.Move.Name] = true
		if connectMoves[f.Move.Name] == nil {
			t.Errorf("form %s: no move %q at the connect door", f.ID, f.Move.Name)
		}
	}
	for name := range socksMoves {
		if !used[name] {
			t.Errorf("no form plays the move %q", name)
		}
	}
	for name := range connectMoves {
		if !used[name] {
			t.Errorf("no form plays the move %q", name)
		}
	}
}

// A proxied play is one form against one fake proxy.
func proxyPlay(t *testing.T, id string) Play {
	t.Helper()
	f, ok := plan.Find(id)
	if !ok {
		t.Fatalf("no form %q", id)
	}
	token := plan.Token("ptaaaaaaaaaaaaaaaaaaaaaaaa")
	to, err := mail.ParseAddress(string(token) + "@probe.example")
	if err != nil {
		t.Fatal(err)
	}
	e, missing := f.Expand(plan.Facts{Addr: netip.MustParseAddr("203.0.113.10"), Front: plan.Front{
		Host: "mx.probe.example", Four: netip.MustParseAddr("192.0.2.66"), Six: netip.MustParseAddr("2001:db8::66"),
		Ports: map[uint16]uint16{25: 25, 443: 443, 465: 465, 587: 587},
	}}, token, to)
	if len(missing) > 0 {
		t.Fatal(missing)
	}
	return Play{Form: f, Envelope: e, Token: token, Message: Message{Token: token, From: to, Recipient: to, Form: id, Target: "203.0.113.10", Date: time.Now()}}
}

// What a fake proxy does once it has read the head of a request.
type after func(c net.Conn, r *bufio.Reader)

func says(text string) after {
	return func(c net.Conn, _ *bufio.Reader) { _, _ = io.WriteString(c, text) }
}

func silent(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) }

// then says something, and goes on.
func then(text string, next after) after {
	return func(c net.Conn, r *bufio.Reader) {
		_, _ = io.WriteString(c, text)
		next(c, r)
	}
}

// mailServer is what stands behind: it greets with banner and takes all.
func mailServer(banner string) after {
	return func(c net.Conn, r *bufio.Reader) {
		s := &script{banner: banner, replies: map[string]string{"RCPT": "250 ok", "DATA": "354 go on", ".": "250 2.0.0 taken"}}
		s.serve(readerConn{c, r})
	}
}

type readerConn struct {
	net.Conn
	r io.Reader
}

func (c readerConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// fakeSOCKS reads a greeting and a request of version 5, or a request of version 4.
func fakeSOCKS(method string, next after) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		r := bufio.NewReader(c)
		version, _ := r.ReadByte()
		if version == 4 {
			head := make([]byte, 7)
			_, _ = io.ReadFull(r, head)
			_, _ = r.ReadString(0)
			if head[3] == 0 && head[6] != 0 { // 4A: a name follows
				_, _ = r.ReadString(0)
			}
			next(c, r)
			return
		}
		n, _ := r.ReadByte()
		_, _ = r.Discard(int(n))
		_, _ = io.WriteString(c, method)
		if method != "\x05\x00" {
			silent(c, r)
			return
		}
		head := make([]byte, 4)
		_, _ = io.ReadFull(r, head)
		length := map[byte]int{1: 4, 4: 16}[head[3]]
		if head[3] == 3 {
			b, _ := r.ReadByte()
			length = int(b)
		}
		_, _ = r.Discard(length + 2)
		next(c, r)
	}
}

// fakeSOCKSOf is fakeSOCKS that takes nobody who offers fewer methods.
func fakeSOCKSOf(methods byte, next after) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		head, _ := r.Peek(2)
		method := "\x05\xff"
		if len(head) == 2 && head[1] >= methods {
			method = "\x05\x00"
		}
		fakeSOCKS(method, next)(readerConn{c, r})
	}
}

// fakeHTTP reads the head of a request.
func fakeHTTP(next after) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil || line == "\r\n" {
				break
			}
		}
		next(c, r)
	}
}

const (
	granted5 = "\x05\x00\x00\x01\xc0\x00\x02\x01\x00\x19"
	granted4 = "\x00\x5a\x00\x00\x00\x00\x00\x00"
	tunnel11 = "HTTP/1.1 200 Connection established\r\n\r\n"
	banner   = "220 probe.example ESMTP Postern collector n-abc [203.0.113.10]"
)

// A row for each thing that a proxy may do. None of them is open: that takes
// an arrival, which package verdict looks for.
func TestProxies(t *testing.T) {
	socks := func(n after) func(net.Conn) { return fakeSOCKS("\x05\x00", n) }
	for _, c := range []struct {
		name, form string
		proxy      func(net.Conn)
		outcome    verdict.Outcome
		stage      verdict.Stage
		answer     verdict.Answer
		nonce      string
	}{
		{"socks5 to a mail server", "socks5-ipv4", socks(then(granted5, mailServer(banner))), verdict.Taken, verdict.AtMessage, verdict.Granted, "n-abc"},
		{"socks5 by name", "socks5-name", socks(then(granted5, mailServer(banner))), verdict.Taken, verdict.AtMessage, verdict.Granted, "n-abc"},
		{"socks5 over IPv6", "socks5-ipv6", socks(then(granted5, mailServer(banner))), verdict.Taken, verdict.AtMessage, verdict.Granted, "n-abc"},
		{"socks4", "socks4", socks(then(granted4, mailServer(banner))), verdict.Taken, verdict.AtMessage, verdict.Granted, "n-abc"},
		{"socks4a", "socks4a", socks(then(granted4, mailServer("220 mx.other.example ESMTP"))), verdict.Taken, verdict.AtMessage, verdict.Granted, ""},
		{"socks5 to a port that is not for mail", "socks5-web", socks(then(granted5, mailServer(banner))), verdict.Taken, verdict.AtBanner, verdict.Granted, "n-abc"},
		{"socks5 says yes, and nothing", "socks5-ipv4", socks(then(granted5, silent)), verdict.Silent, verdict.AtBanner, verdict.Granted, ""},
		{"socks5 says yes, and hangs up", "socks5-ipv4", socks(says(granted5)), verdict.Dropped, verdict.AtBanner, verdict.Granted, ""},
		{"socks5 says yes, and talks of something else", "socks5-ipv4", socks(says(granted5 + "<html>log in</html>")), verdict.Denied, verdict.AtBanner, verdict.Granted, ""},
		{"socks5 leads to a server that refuses us", "socks5-ipv4", socks(then(granted5, mailServer("554 5.7.1 go away"))), verdict.Denied, verdict.AtBanner, verdict.Granted, ""},
		{"socks5 refuses by rule", "socks5-ipv4", socks(says("\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00")), verdict.Denied, verdict.AtProxy, verdict.Forbidden, ""},
		{"socks5 cannot reach it", "socks5-ipv4", socks(says("\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00")), verdict.Denied, verdict.AtProxy, verdict.Unreachable, ""},
		{"socks5 has no IPv6", "socks5-ipv6", socks(says("\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00")), verdict.NotOffered, verdict.AtProxy, verdict.Unsupported, ""},
		{"socks5 wants a login", "socks5-ipv4", fakeSOCKS("\x05\xff", nil), verdict.Denied, verdict.AtProxy, verdict.WantsLogin, ""},
		{"socks5 does not answer", "socks5-ipv4", socks(silent), verdict.Silent, verdict.AtProxy, "", ""},
		{"socks5 hangs up", "socks5-ipv4", socks(says("")), verdict.Dropped, verdict.AtProxy, "", ""},
		{"socks4 says no and not why", "socks4", socks(says("\x00\x5b\x00\x00\x00\x00\x00\x00")), verdict.Denied, verdict.AtProxy, verdict.Rejected, ""},
		{"socks5 binds", "socks5-bind", socks(says(granted5)), verdict.Taken, verdict.AtProxy, verdict.Granted, ""},
		{"socks5 relays UDP", "socks5-udp", socks(says(granted5)), verdict.Taken, verdict.AtProxy, verdict.Granted, ""},
		{"socks5 takes nobody who does not offer a login", "socks5-ipv4", fakeSOCKSOf(2, then(granted5, mailServer(banner))), verdict.Taken, verdict.AtMessage, verdict.Granted, "n-abc"},
		{"socks5 of which the answer is none", "socks5-ipv4", socks(says("\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00")), verdict.NotRun, verdict.AtProxy, "", ""},
		{"no SOCKS", "socks5-ipv4", func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); c.Close() }, verdict.NotOffered, verdict.AtProxy, verdict.Unsupported, ""},

		{"connect to a mail server", "connect-ipv4", fakeHTTP(then(tunnel11, mailServer(banner))), verdict.Taken, verdict.AtMessage, verdict.Granted, "n-abc"},
		{"connect with the greeting behind the answer", "connect-name", fakeHTTP(then(tunnel11+banner+"\r\n", mailServer(""))), verdict.Taken, verdict.AtMessage, verdict.Granted, "n-abc"},
		{"connect by HTTP/1.0", "connect-http10", fakeHTTP(then("HTTP/1.0 200 OK\r\n\r\n", mailServer(banner))), verdict.Taken, verdict.AtMessage, verdict.Granted, "n-abc"},
		{"connect says yes, and shows a page to log in", "connect-ipv4", fakeHTTP(says(tunnel11 + "<html><form>")), verdict.Denied, verdict.AtBanner, verdict.Granted, ""},
		{"a web server that says yes to everything, and sends an empty page", "connect-ipv4", fakeHTTP(then("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", silent)), verdict.Denied, verdict.AtProxy, verdict.NoProxy, ""},
		{"a proxy whose yes has a length, which it should not", "connect-ipv4", fakeHTTP(then("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", mailServer(banner))), verdict.Taken, verdict.AtMessage, verdict.Granted, "n-abc"},
		{"a proxy whose yes has a body before the greeting", "connect-ipv4", fakeHTTP(then("HTTP/1.0 200 OK\r\nContent-Length: 11\r\n\r\nestablished", mailServer(banner))), verdict.Taken, verdict.AtMessage, verdict.Granted, "n-abc"},
		{"a proxy whose yes has a line behind it", "connect-ipv4", fakeHTTP(then("HTTP/1.0 200 OK\r\n\r\nTunnel established\n", mailServer(banner))), verdict.Taken, verdict.AtMessage, verdict.Granted, "n-abc"},
		{"connect says yes, and shows a page without an end", "connect-ipv4", fakeHTTP(then(tunnel11+"<html><form>", silent)), verdict.Denied, verdict.AtBanner, verdict.Granted, ""},
		{"connect says yes, and leads to a server that refuses us", "connect-ipv4", fakeHTTP(then(tunnel11, mailServer("554 5.7.1 go away"))), verdict.Denied, verdict.AtBanner, verdict.Granted, ""},
		{"connect says yes, and nothing", "connect-ipv4", fakeHTTP(then(tunnel11, silent)), verdict.Silent, verdict.AtBanner, verdict.Granted, ""},
		{"connect wants a login", "connect-ipv4", fakeHTTP(says("HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic\r\n\r\n")), verdict.Denied, verdict.AtProxy, verdict.WantsLogin, ""},
		{"connect refuses by rule", "connect-ipv4", fakeHTTP(says("HTTP/1.1 403 Forbidden\r\n\r\n")), verdict.Denied, verdict.AtProxy, verdict.Forbidden, ""},
		{"connect cannot reach it", "connect-ipv4", fakeHTTP(says("HTTP/1.1 503 No route\r\n\r\n")), verdict.Denied, verdict.AtProxy, verdict.Unreachable, ""},
		{"a web server", "connect-ipv4", fakeHTTP(says("HTTP/1.1 405 Not Allowed\r\n\r\n")), verdict.Denied, verdict.AtProxy, verdict.NoProxy, ""},
		{"no HTTP", "connect-ipv4", func(c net.Conn) { _, _ = io.WriteString(c, "\x05\xff"); c.Close() }, verdict.NotOffered, verdict.AtProxy, verdict.Unsupported, ""},
		{"a post comes to a mail server that takes it", "post", fakeHTTP(says(banner + "\r\n500 what\r\n250 ok\r\n354 go on\r\n250 2.0.0 taken\r\n221 bye\r\n")), verdict.Taken, verdict.AtProxy, verdict.Granted, "n-abc"},
		{"a post comes to a mail server that hangs up", "post", fakeHTTP(says("220 mx.other.example\r\n421 this is no web server\r\n")), verdict.Denied, verdict.AtData, verdict.Granted, ""},
		{"a post comes to a web server", "put", fakeHTTP(says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")), verdict.Denied, verdict.AtProxy, verdict.NoProxy, ""},
		{"a post is refused", "post", fakeHTTP(says("HTTP/1.1 403 Forbidden\r\n\r\n")), verdict.Denied, verdict.AtProxy, verdict.Forbidden, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ended sync.WaitGroup
				p := Proxy{Addr: netip.MustParseAddrPort("203.0.113.10:1080"), Helo: "tester.example", Timeout: 10 * time.Second, Dial: func(context.Context) (net.Conn, error) {
					ours, theirs := net.Pipe()
					ended.Go(func() { c.proxy(theirs) })
					return eager(ours), nil
				}}
				play := proxyPlay(t, c.form)
				var x verdict.Exchange
				var err error
				if play.Form.Door == door.SOCKS {
					x, err = SOCKS{p}.Play(t.Context(), play)
				} else {
					x, err = Connect{p}.Play(t.Context(), play)
				}
				ended.Wait()
				if foreign := c.outcome == verdict.NotOffered && strings.HasPrefix(c.name, "no "); errors.Is(err, ErrForeign) != foreign || err != nil && !foreign {
					t.Errorf("error %v", err)
				}
				if x.Outcome != c.outcome || x.Stage != c.stage || x.Answer != c.answer || x.Nonce != c.nonce {
					t.Errorf("%s at %s, answer %q (%s), nonce %q; want %s at %s, %q, %q\n%s", x.Outcome, x.Stage, x.Answer, x.Said, x.Nonce, c.outcome, c.stage, c.answer, c.nonce, x.Transcript)
				}
				if x.Nonce != "" && x.Exit.String() != "203.0.113.10" {
					t.Errorf("came out at %s, which is not what the banner says", x.Exit)
				}
			})
		})
	}
}

// Where the banner comes in one packet with the proxy's answer, each octet is
// in the transcript once, and in the order in which it came.
func TestTranscriptOfATunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Proxy{Addr: netip.MustParseAddrPort("203.0.113.10:8080"), Helo: "tester.example", Dial: func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go fakeHTTP(then(tunnel11+banner+"\r\n", mailServer("")))(theirs)
			return eager(ours), nil
		}}
		x, err := Connect{p}.Play(t.Context(), proxyPlay(t, "connect-ipv4"))
		if err != nil || x.Outcome != verdict.Taken {
			t.Fatalf("%s, %v\n%s", x.Outcome, err, x.Transcript)
		}
		var got strings.Builder
		for _, e := range x.Transcript.Entries() {
			if e.Dir == transcript.Received {
				got.Write(e.Bytes)
			}
		}
		if want := tunnel11 + banner + "\r\n250"; !strings.HasPrefix(got.String(), want) || strings.Count(got.String(), banner) != 1 {
			t.Errorf("heard %q, want %q first", got.String(), want)
		}
	})
}

// eager takes what is written at once, as a kernel does.
func eager(c net.Conn) net.Conn { return &eagerConn{Conn: c, out: startWriter(c)} }

type eagerConn struct {
	net.Conn
	out chan<- []byte
}

func startWriter(c net.Conn) chan<- []byte {
	out := make(chan []byte, 100)
	go func() {
		for p := range out {
			_, _ = c.Write(p)
		}
		_ = c.Close()
	}()
	return out
}

func (e *eagerConn) Write(p []byte) (int, error) {
	e.out <- append([]byte(nil), p...)
	return len(p), nil
}

func (e *eagerConn) Close() error {
	if e.out != nil {
		close(e.out)
		e.out = nil
	}
	return nil
}
