package connect

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/forward"
	"postern/transcript"
)

func to(t testing.TB, s string) forward.Address {
	t.Helper()
	a, err := forward.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const banner = "220 mx.far.example ESMTP\r\n"

// answers reads one head from c, says answer in two writes cut at cut, and
// returns the head.
func answers(c net.Conn, answer string, cut int) string {
	var head strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(head.String(), "\r\n\r\n"); {
		if _, err := c.Read(b); err != nil {
			return head.String() + err.Error()
		}
		head.Write(b)
	}
	for _, part := range []string{answer[:cut], answer[cut:]} {
		if part == "" {
			continue
		}
		if _, err := io.WriteString(c, part); err != nil {
			break
		}
	}
	return head.String()
}

var exchanges = []struct {
	name   string
	ask    Request
	answer string // the banner follows a yes
	status int
	want   error // beside *StatusError
}{
	{"yes", Request{}, "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n", 200, nil},
	{"yes, 1.0", Request{Version: HTTP10}, "HTTP/1.0 200 OK\r\n\r\n", 200, nil},
	{"a length that means nothing", Request{}, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n", 200, nil},
	{"bare LF", Request{}, "HTTP/1.1 200 OK\nVia: x\n\n", 200, nil},
	{"no reason", Request{}, "HTTP/1.1 204\r\n\r\n", 204, nil},
	{"after 100", Request{}, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200, nil},
	{"forbidden", Request{}, "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnever", 403, nil},
	{"login wanted", Request{}, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", 407, ErrAuth},
	{"moved", Request{}, "HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n", 302, nil},
	{"a mail server", Request{}, "500 5.5.2 what\r\n", 0, ErrNotHTTP},
	{"no number", Request{}, "HTTP/1.1 OK\r\n\r\n", 0, ErrNotHTTP},
	{"no end of 100", Request{}, strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), 0, ErrTooLong},
	{"no end of the head", Request{}, "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 20<<10), 0, ErrTooLong},
}

// Whatever the cut of the stream, the answer is the same and what follows it
// is still there, to its last octet.
func TestConnectInEveryCut(t *testing.T) {
	for _, e := range exchanges {
		full := e.answer
		if e.status/100 == 2 {
			full += banner
		}
		for cut := range min(len(full), 100) + 1 {
			near, far := net.Pipe()
			heard := make(chan string, 1)
			go func() { heard <- answers(far, full, cut) }()
			e.ask.To = to(t, "mx.far.example:25")
			var rec transcript.Transcript
			tunnel, res, err := e.ask.Connect(t.Context(), near, &rec)
			var refused *StatusError
			switch {
			case res.Status != e.status, e.want != nil && !errors.Is(err, e.want),
				e.status != 0 && e.status/100 != 2 && !errors.As(err, &refused), e.status/100 == 2 && err != nil:
				t.Fatalf("%s, cut at %d: %+v, %v", e.name, cut, res, err)
			}
			if err == nil {
				rest := make([]byte, len(banner))
				if _, err := io.ReadFull(tunnel, rest); err != nil || string(rest) != banner {
					t.Fatalf("%s, cut at %d: the banner came as %q, %v", e.name, cut, rest, err)
				}
				if got := received(&rec); got != e.answer {
					t.Fatalf("%s, cut at %d: the transcript has %q of the answer, and the tunnel's reader records the rest", e.name, cut, got)
				}
			}
			near.Close()
			want := fmt.Sprintf("CONNECT mx.far.example:25 %s\r\nHost: mx.far.example:25\r\n\r\n", e.ask.Version)
			if got := <-heard; got != want {
				t.Fatalf("%s: asked %q, want %q", e.name, got, want)
			}
		}
	}
}

func received(rec *transcript.Transcript) string {
	var b strings.Builder
	for _, e := range rec.Entries() {
		if e.Dir == transcript.Received {
			b.Write(e.Bytes)
		}
	}
	return b.String()
}

func TestHeadsAndTranscript(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  Request
		want string // of the head behind Host
		rec  string
	}{
		{"basic", Request{Auth: Auth{User: "u", Password: "p:w"}}, "Proxy-Authorization: Basic dTpwOnc=\r\n\r\n", " -> Proxy-Authorization: (hidden)\n"},
		{"bearer", Request{Auth: Auth{Token: "tok"}}, "Proxy-Authorization: Bearer tok\r\n\r\n", " -> Proxy-Authorization: (hidden)\n"},
		{"fields", Request{Header: http.Header{"User-Agent": {"x"}}}, "User-Agent: x\r\n\r\n", " -> User-Agent: x\n"},
		{"IPv6", Request{To: to(t, "[2001:db8::1]:25")}, "\r\n", " -> Host: [2001:db8::1]:25\n"},
	} {
		near, far := net.Pipe()
		heard := make(chan string, 1)
		go func() { heard <- answers(far, "HTTP/1.1 403 No\r\n\r\n", 0) }()
		if c.ask.To.IsZero() {
			c.ask.To = to(t, "mx.far.example:25")
		}
		var rec transcript.Transcript
		_, _, err := c.ask.Connect(t.Context(), near, &rec)
		head := <-heard
		if want := fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\n", c.ask.To, c.ask.To) + c.want; head != want {
			t.Errorf("%s: %q, want %q", c.name, head, want)
		}
		if !strings.Contains(rec.String(), c.rec) || !strings.HasSuffix(rec.String(), "<-  HTTP/1.1 403 No\n<-  \n") {
			t.Errorf("%s: transcript\n%s", c.name, rec.String())
		}
		if all := fmt.Sprint(err, rec.String(), c.ask, fmt.Sprintf("%+v %#v", c.ask, c.ask)); strings.Contains(all, "dTpw") || strings.Contains(all, "p:w") || strings.Contains(all, "tok") {
			t.Errorf("%s: the credential is in %s", c.name, all)
		}
		near.Close()
	}
}

// A silent proxy costs what the context says, and the error gives its cause.
func TestConnectEndsWithItsContext(t *testing.T) {
	patience := errors.New("the patience of the test")
	for _, version := range []Version{HTTP11, HTTP2} {
		for _, say := range []string{"", "HTTP/1.1 200 O"} {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				done := make(chan struct{})
				go func() {
					defer close(done)
					if version == HTTP11 {
						answers(far, say, 0)
					}
					_, _ = io.Copy(io.Discard, far)
				}()
				start := time.Now()
				ctx, cancel := context.WithTimeoutCause(t.Context(), 7*time.Second, patience)
				defer cancel()
				_, _, err := Request{To: to(t, "mx.far.example:25"), Version: version}.Connect(ctx, near, nil)
				if !errors.Is(err, forward.ErrTimeout) || !errors.Is(err, patience) || time.Since(start) != 7*time.Second {
					t.Errorf("%s, %q: %v in %v", version, say, err, time.Since(start))
				}
				near.Close()
				<-done
			})
		}
	}
}

func TestWhatCannotBeSaid(t *testing.T) {
	good := to(t, "192.0.2.1:25")
	for _, r := range []Request{
		{},
		{To: good, Version: 9},
		{To: good, Auth: Auth{User: "a:b"}},
		{To: good, Auth: Auth{User: "a", Token: "b"}},
		{To: good, Auth: Auth{Token: "a\r\nX: y"}},
		{To: good, Header: http.Header{"X": {"a\r\nY: z"}}},
		{To: good, Header: http.Header{"X: y\r\nZ": {"a"}}},
	} {
		if _, _, err := r.Connect(t.Context(), nil, nil); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, err := (Request{To: good}).Post(t.Context(), nil, "GET", nil, nil); !errors.Is(err, ErrRequest) {
		t.Errorf("Post as GET: %v", err)
	}
}

// A proxy hands the body on as it is, and the far server's words back.
func TestPost(t *testing.T) {
	const body = "EHLO c.example\r\nQUIT\r\n"
	for _, c := range []struct {
		name, method, answer string
		status               int
		text                 string
		want                 error
	}{
		{"words as they are", "POST", banner + "250 mx\r\n", 0, banner + "250 mx\r\n", nil},
		{"behind a head", "PUT", "HTTP/1.0 200 OK\r\n\r\n" + banner, 200, banner, nil},
		{"refused", "POST", "HTTP/1.1 403 Forbidden\r\n\r\nno", 403, "no", nil},
		{"hung up", "POST", "", 0, "", forward.ErrClosed},
	} {
		near, far := net.Pipe()
		heard := make(chan string, 1)
		go func() {
			head := answers(far, "", 0)
			_, _ = io.WriteString(far, c.answer) // speaks first
			b := make([]byte, len(body))
			n, _ := io.ReadFull(far, b)
			far.Close()
			heard <- head + string(b[:n])
		}()
		res, err := Request{To: to(t, "mx.far.example:25")}.Post(t.Context(), near, c.method, []byte(body), nil)
		if res.Status != c.status || string(res.Text) != c.text || !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v", c.name, res, err)
		}
		want := c.method + " http://mx.far.example:25/ HTTP/1.1\r\nHost: mx.far.example:25\r\nContent-Type: text/plain\r\nContent-Length: 22\r\nConnection: close\r\n\r\n" + body
		if got := <-heard; got != want {
			t.Errorf("%s: sent %q, want %q", c.name, got, want)
		}
		near.Close()
	}
}

// What came before the time was over is not lost.
func TestPostKeepsWhatCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			answers(far, banner, 0)
			_, _ = io.Copy(io.Discard, far)
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		res, err := Request{To: to(t, "mx.far.example:25")}.Post(ctx, near, "POST", []byte("QUIT\r\n"), nil)
		if string(res.Text) != banner || !errors.Is(err, forward.ErrTimeout) {
			t.Errorf("%+v, %v", res, err)
		}
		near.Close()
		<-done
	})
}

// A proxy that keeps the connection behind its answer is not waited for.
func TestPostToOneThatKeepsTheConnection(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 407 Login\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nlogin",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 405 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nlogin\r\n0\r\n\r\n",
		"HTTP/1.1 204 None\r\n\r\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				answers(far, answer, 0)
				_, _ = io.Copy(io.Discard, far)
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			began := time.Now()
			res, err := Request{To: to(t, "mx.far.example:25")}.Post(ctx, near, "POST", []byte("QUIT\r\n"), nil)
			if took := time.Since(began); res.Status == 0 || err != nil || took != kept {
				t.Errorf("%q: %+v, %v after %s, want %s", answer, res, err, took, kept)
			}
			near.Close()
			<-done
		})
	}
}

// proxy2 is a proxy of HTTP/2 from the standard library: it says status, and
// after a yes its banner, and then repeats what it hears.
func proxy2(t *testing.T, status int, cfg *tls.Config) (addr string, asked chan *http.Request) {
	t.Helper()
	asked = make(chan *http.Request, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Protocols: protocols, TLSConfig: cfg, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		w.WriteHeader(status)
		if status/100 != 2 {
			_, _ = io.WriteString(w, "never")
			return
		}
		c := http.NewResponseController(w)
		_, _ = io.WriteString(w, banner)
		_ = c.Flush()
		for b := make([]byte, 1<<10); ; {
			n, err := r.Body.Read(b)
			_, _ = w.Write(b[:n])
			_ = c.Flush()
			if err != nil {
				return
			}
		}
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if cfg != nil {
			_ = s.ServeTLS(l, "", "")
		} else {
			_ = s.Serve(l)
		}
	}()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return l.Addr().String(), asked
}

func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"proxy.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}}, pool
}

func TestHTTP2(t *testing.T) {
	server, pool := certificate(t)
	for _, c := range []struct {
		name   string
		tls    *tls.Config
		status int
	}{{"prior knowledge", nil, 200}, {"TLS", server, 200}, {"refused", nil, 403}, {"login wanted, TLS", server, 407}} {
		t.Run(c.name, func(t *testing.T) {
			at, asked := proxy2(t, c.status, c.tls)
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			version := HTTP2
			if c.tls != nil {
				if conn, version, err = Handshake(t.Context(), conn, &tls.Config{RootCAs: pool, ServerName: "proxy.example"}); err != nil || version != HTTP2 {
					t.Fatal(version, err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			ask := Request{To: to(t, "mx.far.example:25"), Version: version, Auth: Auth{User: "u", Password: "p"}}
			var rec transcript.Transcript
			tunnel, res, err := ask.Connect(ctx, conn, &rec)
			cancel() // bounds the answer, not the tunnel
			if r := <-asked; r.Method != http.MethodConnect || r.Host != "mx.far.example:25" || r.Header.Get("Proxy-Authorization") != "Basic dTpw" || r.Header.Get("User-Agent") != "" {
				t.Errorf("asked %s %s %v", r.Method, r.Host, r.Header)
			}
			if res.Status != c.status || strings.Contains(rec.String(), "dTpw") {
				t.Errorf("%+v\n%s", res, rec.String())
			}
			var refused *StatusError
			if c.status != 200 {
				if !errors.As(err, &refused) || string(res.Text) != "never" || errors.Is(err, ErrAuth) != (c.status == 407) {
					t.Errorf("%+v, %v", res, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tunnel.RemoteAddr().String() != at {
				t.Errorf("the tunnel's peer is %s", tunnel.RemoteAddr())
			}
			// A deadline ends a read and harms nothing.
			b := make([]byte, len(banner))
			if _, err := io.ReadFull(tunnel, b); err != nil || string(b) != banner {
				t.Fatalf("%q, %v", b, err)
			}
			tunnel.SetReadDeadline(time.Unix(1, 0))
			if _, err := tunnel.Read(b); !isTimeout(err) {
				t.Errorf("a read behind its deadline: %v", err)
			}
			tunnel.SetReadDeadline(time.Time{})
			long := strings.Repeat("0123456789", 20_000)
			go func() {
				_, _ = io.WriteString(tunnel, long)
				if half, ok := tunnel.(interface{ CloseWrite() error }); ok {
					_ = half.CloseWrite()
				}
			}()
			if all, err := io.ReadAll(tunnel); err != nil || string(all) != long {
				t.Errorf("%d octets of %d came back, %v", len(all), len(long), err)
			}
			if err := tunnel.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// FuzzAnswer gives the reader any octets in any cut: an answer and what is
// left behind it do not hang on the cut, and together they are all that came.
func FuzzAnswer(f *testing.F) {
	for _, e := range exchanges {
		f.Add([]byte(e.answer+banner), uint16(5))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		whole := answerReader{rest: append([]byte(nil), in...)}
		r1, done1, err1 := whole.next()
		at := min(int(cut), len(in))
		var parts answerReader
		parts.rest = append(parts.rest, in[:at]...)
		r2, done2, err2 := parts.next()
		if done2 || err2 != nil {
			parts.rest = append(parts.rest, in[at:]...)
		} else {
			parts.rest = append(parts.rest, in[at:]...)
			r2, done2, err2 = parts.next()
		}
		if done1 && (!done2 || err2 != nil || r1.Status != r2.Status || string(whole.rest) != string(parts.rest)) {
			t.Errorf("%q cut at %d: %+v, %v, %v and %+v, %v, %v", in, at, r1, done1, err1, r2, done2, err2)
		}
		if done1 && (!strings.HasSuffix(string(in), string(whole.rest)) || r1.Status < 200 || len(r1.Header) > maxAnswerHead) {
			t.Errorf("%q: %+v, rest %q", in, r1, whole.rest)
		}
	})
}
