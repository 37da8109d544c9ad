package connect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/forward"
)

// A host is a handler of the tests: what it connects to says a banner and
// keeps what it hears.
type host struct {
	refusal *Refusal
	r       Request
	peer    Peer
	n       forward.Count
	err     error
	ended   int
	heard   chan string
}

func (h *host) Connect(_ context.Context, _ *Peer, r Request) (net.Conn, *Refusal) {
	h.r = r
	if h.refusal != nil {
		return nil, h.refusal
	}
	near, far := net.Pipe()
	h.heard = make(chan string, 1)
	go func() {
		defer far.Close()
		said := make(chan struct{})
		go func() {
			defer close(said)
			_, _ = io.WriteString(far, banner)
		}()
		var all strings.Builder
		for b := make([]byte, 512); !strings.HasSuffix(all.String(), "QUIT\r\n"); {
			n, err := far.Read(b)
			all.Write(b[:n])
			if err != nil {
				break
			}
		}
		<-said
		h.heard <- all.String()
	}()
	return near, nil
}

func (h *host) Ended(p *Peer, r Request, n forward.Count, err error) {
	h.peer, h.n, h.err = *p, n, err
	h.ended++
}

const asks = "CONNECT mx.example:25 HTTP/1.1\r\nHost: mx.example:25\r\n"

var requests = []struct {
	name  string
	say   string
	code  string // "200" leads on
	to    string
	heard string // by the destination, of what follows "200"
}{
	{"CONNECT", asks + "\r\n", "200", "mx.example:25", "QUIT\r\n"},
	{"1.0", "CONNECT 192.0.2.1:25 HTTP/1.0\r\n\r\n", "200", "192.0.2.1:25", "QUIT\r\n"},
	{"IPv6", "CONNECT [2001:DB8::1]:25 HTTP/1.1\r\nhost: x\r\n\r\n", "200", "[2001:db8::1]:25", "QUIT\r\n"},
	{"an empty body", asks + "Content-Length: 0\r\n\r\n", "200", "mx.example:25", "QUIT\r\n"},
	{
		"POST", "POST http://mx.example:25/x?y HTTP/1.1\r\nHost: other.example\r\nContent-Length: 6\r\nProxy-Connection: keep-alive\r\nConnection: X-Hop\r\nX-Hop: a\r\nAccept: */*\r\n\r\n", "220", "mx.example:25",
		"POST /x?y HTTP/1.0\r\nHost: mx.example:25\r\nContent-Length: 6\r\nAccept: */*\r\n\r\nQUIT\r\n",
	},
	{"PUT, no port, no path", "PUT HTTP://mx.example HTTP/1.0\r\nContent-Length: 6\r\n\r\n", "220", "mx.example:80", "PUT / HTTP/1.0\r\nHost: mx.example:80\r\nContent-Length: 6\r\n\r\nQUIT\r\n"},

	{"no port", "CONNECT mx.example HTTP/1.1\r\nHost: x\r\n\r\n", "400", "", ""},
	{"an address in odd writing", "CONNECT 127.1:25 HTTP/1.1\r\nHost: x\r\n\r\n", "400", "", ""},
	{"a user in the target", "CONNECT u@mx.example:25 HTTP/1.1\r\nHost: x\r\n\r\n", "400", "", ""},
	{"a user in the URI", "POST http://u:p@mx.example/ HTTP/1.1\r\nHost: x\r\n\r\n", "400", "", ""},
	{"a fragment", "POST http://mx.example/#x HTTP/1.1\r\nHost: x\r\n\r\n", "400", "", ""},
	{"no proxy request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "400", "", ""},
	{"https", "POST https://mx.example/ HTTP/1.1\r\nHost: x\r\n\r\n", "400", "", ""},
	{"no Host", "CONNECT mx.example:25 HTTP/1.1\r\n\r\n", "400", "", ""},
	{"two Hosts", asks + "Host: y\r\n\r\n", "400", "", ""},
	{"a body", asks + "Content-Length: 5\r\n\r\n", "400", "", ""},
	{"chunks", asks + "Transfer-Encoding: chunked\r\n\r\n", "400", "", ""},
	{"chunks in a POST", "POST http://mx.example/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "400", "", ""},
	{"two lengths", "POST http://mx.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nContent-Length: 7\r\n\r\n", "400", "", ""},
	{"two lengths in one", "POST http://mx.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 6, 6\r\n\r\n", "400", "", ""},
	{"a signed length", "POST http://mx.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: +6\r\n\r\n", "400", "", ""},
	{"a huge length", "POST http://mx.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", "400", "", ""},
	{"a space before the colon", asks + "Content-Length : 0\r\n\r\n", "400", "", ""},
	{"a folded field", asks + "X: a\r\n b\r\n\r\n", "400", "", ""},
	{"bare LF", "CONNECT mx.example:25 HTTP/1.1\nHost: x\r\n\r\n", "400", "", ""},
	{"bare CR", asks + "X: a\rY: b\r\n\r\n", "400", "", ""},
	{"NUL", asks + "X: a\x00b\r\n\r\n", "400", "", ""},
	{"two spaces", "CONNECT  mx.example:25 HTTP/1.1\r\nHost: x\r\n\r\n", "400", "", ""},
	{"HTTP/2.0", "CONNECT mx.example:25 HTTP/2.0\r\nHost: x\r\n\r\n", "400", "", ""},
	{"HTTP/0.9", "CONNECT mx.example:25\r\n\r\n", "400", "", ""},
	{"a credential that is none", asks + "Proxy-Authorization: Basic !\r\n\r\n", "400", "", ""},
	{"two credentials", asks + "Proxy-Authorization: Basic dTpw\r\nProxy-Authorization: Basic dTpw\r\n\r\n", "400", "", ""},
	{"TLS", "\x16\x03\x01\x02\x00", "400", "", ""},
	{"SOCKS", "\x05\x01\x00", "400", "", ""},
	{"a long head", asks + "X: " + strings.Repeat("x", 9<<10) + "\r\n\r\n", "431", "", ""},
	{"too many fields", asks + strings.Repeat("X: y\r\n", 100) + "\r\n", "400", "", ""},
}

// Whatever the cut of what the client says: what leads on leads where it says,
// with every octet behind the blank line, and what could be read in two ways
// leads nowhere.
func TestRequestsInEveryCut(t *testing.T) {
	for _, c := range requests {
		step := 1 + len(c.say)/200
		for cut := 0; cut <= len(c.say); cut += step {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				h := &host{}
				done := make(chan error, 1)
				go func() { done <- (&Server{Handler: h, Absolute: true}).ServeConn(t.Context(), far) }()
				said := make(chan struct{})
				go func() {
					defer close(said)
					for _, part := range []string{c.say[:cut], c.say[cut:] + "QUIT\r\n" + "GET http://inside.example/ HTTP/1.1\r\n\r\n"} {
						if _, err := io.WriteString(near, part); err != nil {
							return
						}
					}
				}()
				var got bytes.Buffer
				_, _ = io.Copy(&got, near)
				near.Close()
				<-said
				err := <-done
				answer := got.String()
				if c.heard == "" {
					if !strings.HasPrefix(answer, "HTTP/1.1 "+c.code+" ") && !strings.HasPrefix(answer, "HTTP/1.0 "+c.code+" ") || err == nil || !h.r.To.IsZero() {
						t.Fatalf("%s, cut at %d: %q, %v, to %s", c.name, cut, answer, err, h.r.To)
					}
					return
				}
				heard := <-h.heard
				if c.code == "200" {
					heard, _, _ = strings.Cut(heard, "GET http://inside")
				}
				if heard != c.heard || h.r.To.String() != c.to || h.ended != 1 {
					t.Fatalf("%s, cut at %d: to %s, the destination heard %q, want %q (%v)", c.name, cut, h.r.To, heard, c.heard, err)
				}
				if want := banner; c.code == "220" && answer != want || c.code == "200" && (!strings.HasPrefix(answer, "HTTP/1.") || !strings.HasSuffix(answer, " 200 Connection established\r\n\r\n"+want)) {
					t.Fatalf("%s, cut at %d: heard %q", c.name, cut, answer)
				}
			})
		}
	}
}

// The handler sees the credential, and its refusal reaches the client.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		refusal Refusal
		auth    Auth
		want    string
	}{
		{Refusal{403, "port 25 is closed to strangers"}, Auth{}, "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 32\r\nConnection: close\r\n\r\nport 25 is closed to strangers\r\n"},
		{Refusal{407, "log in"}, Auth{User: "u", Password: "p"}, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 8\r\nConnection: close\r\nProxy-Authenticate: Basic realm=\"ours\", charset=\"UTF-8\"\r\n\r\nlog in\r\n"},
		{*RefusalOf(context.DeadlineExceeded), Auth{Token: "t"}, "HTTP/1.1 504 Gateway Timeout\r\n"},
		{*RefusalOf(errors.New("no route")), Auth{}, "HTTP/1.1 502 Bad Gateway\r\n"},
		{Refusal{403, "a\r\nX: y"}, Auth{}, "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 11\r\nConnection: close\r\n\r\nForbidden\r\n"},
	} {
		near, far := net.Pipe()
		h := &host{refusal: &c.refusal}
		done := make(chan error, 1)
		go func() { done <- (&Server{Handler: h, Realm: "ours"}).ServeConn(t.Context(), far) }()
		head := Request{To: to(t, "mx.example:25"), Auth: c.auth}.connectHead()
		if _, err := io.WriteString(near, head.before+head.secret+head.after); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(near)
		if err != nil || !strings.HasPrefix(string(got), c.want) {
			t.Errorf("%d: %q, %v", c.refusal.Status, got, err)
		}
		if err := <-done; !errors.Is(err, ErrRefused) || h.r.Auth != c.auth {
			t.Errorf("%d: %v, credential %#v", c.refusal.Status, err, h.r.Auth)
		}
	}
}

// An old-style request is not served by a server that was not asked to.
func TestConnectOnly(t *testing.T) {
	near, far := net.Pipe()
	h := &host{}
	go func() {
		_, _ = io.WriteString(near, "POST http://mx.example:25/ HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n")
	}()
	done := make(chan error, 1)
	go func() { done <- (&Server{Handler: h}).ServeConn(t.Context(), far) }()
	if got, _ := io.ReadAll(near); !strings.HasPrefix(string(got), "HTTP/1.1 405 ") {
		t.Errorf("%q", got)
	}
	if err := <-done; !errors.Is(err, ErrRefused) || h.r.Version != HTTP11 || !h.r.To.IsZero() {
		t.Errorf("%v, %+v", err, h.r)
	}
}

// A client that says its head too slowly is told so, to the nanosecond.
func TestSlowRequest(t *testing.T) {
	for _, c := range []struct{ said, want string }{{"", ""}, {asks, "HTTP/1.1 408 Request Timeout\r\n"}} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			start := time.Now()
			done := make(chan error, 1)
			go func() { done <- (&Server{Handler: &host{}}).ServeConn(t.Context(), far) }()
			go func() { _, _ = io.WriteString(near, c.said) }()
			got, _ := io.ReadAll(near)
			err := <-done
			if !errors.Is(err, forward.ErrTimeout) || time.Since(start) != 30*time.Second || !strings.HasPrefix(string(got), c.want) || c.want == "" && len(got) > 0 {
				t.Errorf("%q: %v after %v, %q", c.said, err, time.Since(start), got)
			}
		})
	}
}

// A refusal reaches a client that has said more than was read: over TCP a
// connection closed too soon takes its last words along.
func TestRefusalIsNotLost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- (&Server{Handler: &host{refusal: &Refusal{403, "no"}}}).Run(ctx, l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, asks+"\r\n"+strings.Repeat("x", 100<<10)); err != nil {
		t.Fatal(err)
	}
	half, ok := c.(*net.TCPConn)
	if !ok {
		t.Fatal("no TCP connection")
	}
	_ = half.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 403 ") {
		t.Errorf("%q, %v", got, err)
	}
	c.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What is wrong with a request is told without the credential in it, wherever
// the client has put that: the error gets into a log.
func TestErrorsHoldNoCredential(t *testing.T) {
	const basic = "YW5uYTpxdWlldC1vdHRlcg==" // anna:quiet-otter
	for _, text := range []string{
		asks + "Proxy-Authorization: Basic\r\n " + basic,
		asks + "Proxy-Authorization : Basic " + basic,
		asks + "Proxy-Authorization Basic " + basic,
		asks + "Proxy-Authorization: Basic " + basic + "!",
		asks + "Proxy-Authorization: Basic " + basic + "\r\nProxy-Authorization: Basic " + basic,
		"CONNECT anna:quiet-otter@mx.example:25 HTTP/1.1\r\nHost: mx.example",
		"GET http://anna:quiet-otter@mx.example/ HTTP/1.1\r\nHost: mx.example",
		"GET https://anna:quiet-otter@mx.example/ HTTP/1.1\r\nHost: mx.example",
		"GET http://anna:quiet-otter@mx.example/#a HTTP/1.1\r\nHost: mx.example",
		"GET http://anna:quiet-otter@mx.example/ a HTTP/1.1\r\nHost: mx.example",
	} {
		_, err := parseRequest([]byte(strings.TrimSuffix(text, "\r\n") + "\r\n\r\n"))
		if !errors.Is(err, errBad) || strings.Contains(err.Error(), basic[:4]) || strings.Contains(err.Error(), "quiet") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Our client and our server agree on what was asked, whatever it is.
func FuzzRequest(f *testing.F) {
	f.Add("mx.example", uint16(25), true, "u", "p:w", "", "User-Agent", "x")
	f.Add("2001:db8::1", uint16(443), false, "", "", "token", "X", "")
	f.Fuzz(func(t *testing.T, name string, port uint16, ten bool, user, password, token, field, value string) {
		a, err := forward.Named(name, port)
		if err != nil {
			return
		}
		r := Request{To: a, Auth: Auth{User: user, Password: password, Token: token}}
		if ten {
			r.Version = HTTP10
		}
		key := http.CanonicalHeaderKey(field)
		if value = strings.Trim(value, " \t"); field != "" {
			r.Header = http.Header{key: {value}}
		}
		switch key {
		case "Host", "Content-Length", "Transfer-Encoding", "Proxy-Authorization":
			return
		}
		if r.check() != nil || strings.Trim(token, " ") != token {
			return
		}
		h := r.connectHead()
		got, err := parseRequest([]byte(h.before + h.secret + h.after))
		if err != nil || got.method != "CONNECT" || !reflect.DeepEqual(got.Request, r) {
			t.Errorf("%+v reads as %+v, %v", r, got, err)
		}
	})
}

// FuzzHead says any octets to the server: it ends, within its bounds, and what
// leads on is a request that reads the same once it is written again.
func FuzzHead(f *testing.F) {
	for _, c := range requests {
		f.Add([]byte(c.say+"QUIT\r\n"), uint8(7))
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		c := &script{in: in, step: int(step) + 1}
		v := &visit{server: &Server{Handler: &host{}, Absolute: true}, conn: c, limits: forward.DefaultLimits}
		err := v.read(t.Context())
		if c.read > maxHead+2<<10 {
			t.Errorf("read %d octets", c.read)
		}
		if err != nil {
			return
		}
		head, _, _ := bytes.Cut(in[:c.read], []byte("\r\n\r\n"))
		if len(head)+4+len(v.rest) != c.read || !bytes.HasSuffix(in[:c.read], v.rest) {
			t.Errorf("%q: %d octets are left of %d", in, len(v.rest), c.read)
		}
		if v.asked.method == http.MethodConnect {
			return
		}
		again, err := parseRequest([]byte(strings.Replace(string(v.asked.onward()), v.asked.path, fmt.Sprintf("http://%s%s", v.asked.To, v.asked.path), 1)))
		if err != nil || again.To != v.asked.To || again.path != v.asked.path || again.length != v.asked.length || again.method != v.asked.method {
			t.Errorf("%q goes on as %q, which reads as %+v, %v", in, v.asked.onward(), again, err)
		}
	})
}

// A script is a connection that holds what will be read.
type script struct {
	net.Conn
	in   []byte
	step int
	read int
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := min(len(p), len(s.in), s.step)
	copy(p, s.in[:n])
	s.in, s.read = s.in[n:], s.read+n
	return n, nil
}

func (s *script) Write(p []byte) (int, error)     { return len(p), nil }
func (s *script) SetDeadline(time.Time) error     { return nil }
func (s *script) SetReadDeadline(time.Time) error { return nil }
