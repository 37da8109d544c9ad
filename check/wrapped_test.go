package check_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/check"
	"postern/forward"
	"postern/open"
	"postern/verdict"
)

type serve = func(context.Context, net.Conn)

// A wrapping is a server of TLS: what it chooses, whom it serves, and what it
// says to words in the clear.
type wrapping struct {
	alpn      []string
	name      string // that it demands; "": none
	clients   bool   // let in with a certificate alone
	complaint string // to words in the clear; "": it hangs up
	version   uint16 // the highest
}

func (o wrapping) around(t *testing.T, inner serve) serve {
	cfg := certificate(t, "proxy.example")
	cfg.NextProtos, cfg.MaxVersion = o.alpn, o.version
	if o.clients {
		cfg.ClientAuth = tls.RequireAnyClientCert
	}
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName != o.name && o.name != "" {
			return nil, errors.New("no such name here") // the client gets an alert
		}
		return nil, nil
	}
	return func(ctx context.Context, c net.Conn) {
		secure := tls.Server(c, cfg)
		err := secure.HandshakeContext(ctx)
		var clear tls.RecordHeaderError
		if errors.As(err, &clear) {
			_, _ = io.WriteString(c, o.complaint)
		}
		if err != nil {
			_ = c.Close()
			return
		}
		inner(ctx, secure)
	}
}

// versions serves HTTP/2 or HTTP/1.1, whichever was chosen: to each version it
// says a status, and where that is a yes it leads by dial.
func versions(dial open.Dial, status map[int]int) serve {
	return func(_ context.Context, c net.Conn) {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(true)
		protocols.SetHTTP2(true)
		l := &oneListener{conn: c, ended: make(chan struct{})}
		s := &http.Server{Protocols: protocols, ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				_ = l.Close()
			}
		}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n := status[r.ProtoMajor]; n != http.StatusOK || r.Method != http.MethodConnect {
				w.WriteHeader(max(n, http.StatusBadRequest))
				return
			}
			to, err := forward.ParseAddress(r.Host)
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			far, err := dial(r.Context(), to)
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			defer far.Close()
			flush := http.NewResponseController(w).Flush
			_ = flush()
			var carrying sync.WaitGroup
			carrying.Go(func() {
				_, _ = io.Copy(far, r.Body)
				far.Close()
			})
			for b := make([]byte, 1<<10); err == nil; {
				var n int
				n, err = far.Read(b)
				_, _ = w.Write(b[:n])
				_ = flush()
			}
			_ = r.Body.Close()
			carrying.Wait()
		})}
		_ = s.Serve(l)
	}
}

// A oneListener accepts one connection.
type oneListener struct {
	conn  net.Conn
	ended chan struct{}
	once  sync.Once
}

func (l *oneListener) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.ended
	return nil, net.ErrClosed
}

func (l *oneListener) Close() error {
	l.once.Do(func() { close(l.ended) })
	return nil
}

func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{} }

// Proxies that are reached inside TLS are found and judged as others are.
func TestProxiesInsideTLS(t *testing.T) {
	connects := func(c *city) serve { return serves(open.Connect{Dial: c.leads(targetAt)}) }
	webServer := func(c *city) serve {
		return versions(nil, map[int]int{1: http.StatusMethodNotAllowed, 2: http.StatusMethodNotAllowed})
	}
	const alert = "\x15\x03\x01\x00\x02\x02\x46"
	const page = "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>The plain HTTP request was sent to HTTPS port"
	for _, c := range []struct {
		name  string
		port  string
		o     check.Options
		tls   wrapping
		serve func(*city) serve
		want  verdict.Verdict
		form  string // that proves it
		kind  verdict.Kind
		why   string
		dials int // at most
	}{
		{"CONNECT for anybody, at the port of https", "443", check.Options{}, wrapping{alpn: []string{"http/1.1"}}, connects, verdict.Open, "connect-ipv4", verdict.KindConnect, "port 25", 20},
		{"... that chooses no protocol", "8443", check.Options{}, wrapping{}, connects, verdict.Open, "connect-ipv4", verdict.KindConnect, "port 25", 20},
		{"... at a port of others, with an alert to words in the clear", "3128", check.Options{}, wrapping{complaint: alert}, connects, verdict.Open, "connect-ipv4", verdict.KindConnect, "port 25", 20},
		{"... with an answer in the clear", "8080", check.Options{}, wrapping{alpn: []string{"http/1.1"}, complaint: page}, connects, verdict.Open, "connect-ipv4", verdict.KindConnect, "port 25", 20},
		{"... that hangs up on words in the clear", "8080", check.Options{}, wrapping{}, connects, verdict.Open, "connect-ipv4", verdict.KindConnect, "port 25", 20},
		{"... at a port that nobody knows", "8444", check.Options{Ports: []uint16{8444}}, wrapping{}, connects, verdict.Open, "connect-ipv4", verdict.KindConnect, "port 25", 20},
		{"... of old TLS", "443", check.Options{}, wrapping{version: tls.VersionTLS12}, connects, verdict.Open, "connect-ipv4", verdict.KindConnect, "port 25", 20},
		{"... that wants its name", "443", check.Options{Host: domain(t, "proxy.example")}, wrapping{name: "proxy.example"}, connects, verdict.Open, "connect-ipv4", verdict.KindConnect, "port 25", 20},
		{"... that does not serve the name that it has", "443", check.Options{Host: domain(t, "proxy.example")}, wrapping{name: "-"}, connects, verdict.NotTested, "", "", "it speaks TLS, and ends the handshake: tls: internal error", 2},
		{"HTTP/2 alone", "443", check.Options{}, wrapping{alpn: []string{"h2"}}, func(c *city) serve { return versions(c.leads(targetAt), map[int]int{2: 200}) }, verdict.Open, "connect-h2", verdict.KindConnect, "port 25", 20},
		{"HTTP/2 alone, closed", "443", check.Options{}, wrapping{alpn: []string{"h2"}}, func(*city) serve { return versions(nil, map[int]int{2: 403}) }, verdict.Closed, "", "", "every form was refused", 20},
		{"rules for HTTP/1 alone", "443", check.Options{}, wrapping{alpn: []string{"h2", "http/1.1"}}, func(c *city) serve { return versions(c.leads(targetAt), map[int]int{1: 403, 2: 200}) }, verdict.Open, "connect-h2", verdict.KindConnect, "port 25", 20},
		{"a login for both", "443", check.Options{}, wrapping{alpn: []string{"h2", "http/1.1"}}, func(*city) serve { return versions(nil, map[int]int{1: 407, 2: 407}) }, verdict.Closed, "", "", "without a login", 20},
		{"HTTP for those with a certificate", "443", check.Options{}, wrapping{clients: true, alpn: []string{"h2", "http/1.1"}}, connects, verdict.Closed, "", "", "without a login", 20},
		{"SOCKS for those with a certificate", "1080", check.Options{}, wrapping{clients: true}, connects, verdict.NotTested, "", "", "it speaks TLS, and ends the handshake: tls: certificate required", 4},
		{"... of old TLS", "1080", check.Options{}, wrapping{clients: true, version: tls.VersionTLS12}, connects, verdict.NotTested, "", "", "it speaks TLS, and ends the handshake", 4},
		{"a web server", "443", check.Options{}, wrapping{alpn: []string{"h2", "http/1.1"}, complaint: page}, webServer, verdict.Closed, "", "", "web server", 7},
		{"a web server that chooses no protocol", "443", check.Options{}, wrapping{complaint: page}, webServer, verdict.Closed, "", "", "web server", 9},
		{"SOCKS for anybody", "1080", check.Options{}, wrapping{}, func(c *city) serve { return serves(open.SOCKS{Dial: c.leads(targetAt)}) }, verdict.Open, "socks5-ipv4", verdict.KindSOCKS, "port 25", 20},
		{"SOCKS for anybody, at the port of https", "443", check.Options{}, wrapping{}, func(c *city) serve { return serves(open.SOCKS{Dial: c.leads(targetAt)}) }, verdict.Open, "socks5-ipv4", verdict.KindSOCKS, "port 25", 20},
		{"a mail server at a port of proxies", "8443", check.Options{}, wrapping{}, mailServerOf, verdict.Open, "plain", verdict.KindSMTP, "relays for anyone", 0},
		{"a mail server at a port that nobody knows", "1465", check.Options{Ports: []uint16{1465}}, wrapping{complaint: alert}, mailServerOf, verdict.Open, "plain", verdict.KindSMTP, "relays for anyone", 0},
		{"a mail server that refuses protocols other than its own", "1465", check.Options{Ports: []uint16{1465}}, wrapping{alpn: []string{"smtp"}, complaint: alert}, mailServerOf, verdict.Open, "plain", verdict.KindSMTP, "relays for anyone", 0},
		{"something else", "443", check.Options{}, wrapping{}, func(*city) serve {
			return func(_ context.Context, c net.Conn) { _, _ = io.WriteString(c, "* OK IMAP4rev1 ready\r\n"); c.Close() }
		}, verdict.NotTested, "", "", "inside TLS it said", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCity(t)
				w.hosts[targetAt+":"+c.port] = c.tls.around(t, c.serve(w))
				a := w.check(c.o)
				if len(a.Doors) != 1 {
					t.Fatalf("doors %+v; shut %v", a.Doors, a.Shut)
				}
				d := a.Doors[0]
				if d.Verdict != c.want || !strings.Contains(d.Why, c.why) || d.Session.TLS == "" && c.want != verdict.NotTested {
					t.Errorf("%s (%s), TLS %q, want %s with %q\n%s", d.Verdict, d.Why, d.Session.TLS, c.want, c.why, outcomes(d.Judgement))
				}
				if p := d.Proof; p != nil && (p.Form.ID != c.form || p.Kind != c.kind || p.Egress.String() != targetAt) {
					t.Errorf("proved by %s as %s from %s, want %s, %s, %s", p.Form.ID, p.Kind, p.Egress, c.form, c.kind, targetAt)
				}
				if p := d.Proof; p != nil && c.kind != verdict.KindSMTP && !strings.Contains(p.Transcript.String(), "*** TLS 1.") {
					t.Errorf("the transcript does not say that all is inside TLS\n%s", p.Transcript)
				}
				n := 0
				for _, to := range w.dials {
					if to == targetAt+":"+c.port {
						n++
					}
				}
				if c.dials > 0 && n > c.dials {
					t.Errorf("%d connections, want %d at most", n, c.dials)
				}
				if c.want == verdict.Closed && w.took > 7*time.Second { // five are for what a body may have brought
					t.Errorf("it took %s, and every answer came at once", w.took)
				}
				w.stayedHome()
			})
		})
	}
}

func mailServerOf(c *city) serve {
	return serves(open.SMTP{Name: "mx.victim.example", Sink: c.sink(targetAt), Limits: limits()})
}
