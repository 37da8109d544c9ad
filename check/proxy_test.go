package check_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"postern/check"
	"postern/collect"
	"postern/connect"
	"postern/door"
	"postern/forward"
	"postern/mail"
	"postern/open"
	"postern/plan"
	"postern/report"
	"postern/smtp"
	"postern/verdict"
)

// A city is a network in memory: hosts that listen, connections that have
// addresses, and a collector as it is in earnest.
type city struct {
	t         *testing.T
	collector *collect.Local
	hosts     map[string]func(context.Context, net.Conn)
	serving   sync.WaitGroup

	mu    sync.Mutex
	asked []string // where proxies were led to
	dials []string // where the tester connected to
	took  time.Duration
}

const (
	testerAt    = "192.0.2.66"
	targetAt    = "203.0.113.10"
	providerAt  = "198.51.100.4"
	elsewhereAt = "198.51.100.99"
	collectorAt = "198.51.100.25"
)

func newCity(t *testing.T) *city { return newNamedCity(t, nil) }

// newNamedCity is one in which the collector has the name that the DNS knows.
func newNamedCity(t *testing.T, names collect.Resolver) *city {
	c := &city{t: t, hosts: map[string]func(context.Context, net.Conn){}}
	local, err := collect.NewLocal(collect.Config{
		Domain: domain(t, "probe.example"), Secret: []byte("a secret of the tests"),
		Reach: []netip.AddrPort{netip.MustParseAddrPort(collectorAt + ":25")}, Ports: map[uint16]uint16{443: 443},
		Dial: c.from(testerAt), Resolver: names,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.collector = local
	for _, port := range []string{":25", ":443"} {
		c.hosts[collectorAt+port] = func(ctx context.Context, conn net.Conn) { _ = local.ServeConn(ctx, conn) }
	}
	return c
}

// from returns how a host connects.
func (c *city) from(host string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		serve := c.hosts[address]
		c.mu.Lock()
		if host == testerAt {
			c.dials = append(c.dials, address)
		}
		c.mu.Unlock()
		if serve == nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		near, far := net.Pipe()
		here, there := netip.AddrPortFrom(netip.MustParseAddr(host), 40000), netip.MustParseAddrPort(address)
		c.serving.Go(func() { serve(context.WithoutCancel(ctx), newKernel(far, there, here)) })
		return newKernel(near, here, there), nil
	}
}

// leads is a proxy's way out, seen by others as coming from host.
func (c *city) leads(host string) open.Dial {
	return func(ctx context.Context, to forward.Address) (net.Conn, error) {
		c.mu.Lock()
		c.asked = append(c.asked, to.String())
		c.mu.Unlock()
		return c.from(host)(ctx, "tcp", to.String())
	}
}

// A kernel connection takes what is written at once, has addresses, and may be
// closed twice.
type kernel struct {
	net.Conn
	local, remote netip.AddrPort
	mu            sync.Mutex
	out           chan []byte
}

func newKernel(conn net.Conn, local, remote netip.AddrPort) *kernel {
	k := &kernel{Conn: conn, local: local, remote: remote, out: make(chan []byte, 1000)}
	out := k.out
	go func() {
		for p := range out {
			_, _ = conn.Write(p)
		}
		_ = conn.Close()
	}()
	return k
}

func (k *kernel) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.out == nil {
		return 0, net.ErrClosed
	}
	k.out <- bytes.Clone(p)
	return len(p), nil
}

func (k *kernel) closed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.out == nil
}

func (k *kernel) Read(p []byte) (int, error) {
	if k.closed() {
		return 0, net.ErrClosed
	}
	n, err := k.Conn.Read(p)
	if k.closed() {
		return 0, net.ErrClosed
	}
	return n, err
}

func (k *kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.out != nil {
		close(k.out)
		k.out = nil
		_ = k.Conn.SetReadDeadline(time.Unix(1, 0)) // for who reads now
		_ = k.Conn.SetReadDeadline(time.Time{})
		go func() { _, _ = io.Copy(io.Discard, k.Conn) }() // nobody reads what the other side still writes
	}
	return nil
}

// What is written is taken at once, so there is nothing to be late for; TLS
// ends its writing by a deadline, which what was taken before must outlive.
func (k *kernel) SetDeadline(t time.Time) error      { return k.SetReadDeadline(t) }
func (k *kernel) SetWriteDeadline(_ time.Time) error { return nil }

func (k *kernel) SetReadDeadline(t time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.out == nil {
		return net.ErrClosed
	}
	return k.Conn.SetReadDeadline(t)
}

func (k *kernel) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(k.local) }
func (k *kernel) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(k.remote) }

// check runs a check of the target and returns its doors.
func (c *city) check(o check.Options) report.Address {
	c.t.Helper()
	o.Collector, o.Dial, o.Owned, o.Helo = c.collector, c.from(testerAt), true, "tester.example"
	if o.Wait == 0 {
		o.Wait = time.Minute
	}
	target, err := plan.ParseTarget(targetAt)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := check.Run(c.t.Context(), target, o)
	if err != nil {
		c.t.Fatal(err)
	}
	c.took = r.Took
	c.serving.Wait()
	return r.Addresses[0]
}

type connServer interface {
	ServeConn(ctx context.Context, c net.Conn) error
}

func serves(s connServer) func(context.Context, net.Conn) {
	return func(ctx context.Context, c net.Conn) { _ = s.ServeConn(ctx, c) }
}

// reads takes the head of an HTTP request, and then does what follows.
func reads(after func(net.Conn)) func(context.Context, net.Conn) {
	return func(_ context.Context, c net.Conn) {
		defer c.Close()
		b := make([]byte, 4096)
		if n, err := c.Read(b); err != nil || bytes.HasPrefix(b[:n], []byte{5}) {
			return
		}
		after(c)
	}
}

const yes = "HTTP/1.1 200 Connection established\r\n\r\n"

// Every proxy gets the verdict that it deserves, and no decoy is called open.
func TestProxies(t *testing.T) {
	for _, c := range []struct {
		name  string
		port  string
		serve func(*city) func(context.Context, net.Conn)
		o     check.Options
		want  verdict.Verdict
		form  string // that proves it
		kind  verdict.Kind
		exit  string
		why   string
	}{
		{"SOCKS for anybody", "1080", func(c *city) func(context.Context, net.Conn) { return serves(open.SOCKS{Dial: c.leads(targetAt)}) }, check.Options{}, verdict.Open, "socks5-ipv4", verdict.KindSOCKS, targetAt, "port 25"},
		{"SOCKS for anybody, at a port that nobody knows", "4145", func(c *city) func(context.Context, net.Conn) { return serves(open.SOCKS{Dial: c.leads(targetAt)}) }, check.Options{Ports: []uint16{4145}}, verdict.Open, "socks5-ipv4", verdict.KindSOCKS, targetAt, "port 25"},
		{"SOCKS 4 alone", "1080", func(c *city) func(context.Context, net.Conn) {
			return serves(open.SOCKS{Dial: c.leads(targetAt), Version: 4})
		}, check.Options{}, verdict.Open, "socks4", verdict.KindSOCKS, targetAt, "port 25"},
		{"SOCKS that leaves elsewhere", "1080", func(c *city) func(context.Context, net.Conn) { return serves(open.SOCKS{Dial: c.leads(elsewhereAt)}) }, check.Options{}, verdict.Open, "socks5-ipv4", verdict.KindSOCKS, elsewhereAt, "port 25"},
		{"SOCKS that takes any login, which we do not try", "1080", func(c *city) func(context.Context, net.Conn) {
			return serves(open.SOCKS{Dial: c.leads(targetAt), AnyLogin: true})
		}, check.Options{}, verdict.Closed, "", "", "", "without a login"},
		{"SOCKS that takes any login, tried", "1080", func(c *city) func(context.Context, net.Conn) {
			return serves(open.SOCKS{Dial: c.leads(targetAt), AnyLogin: true})
		}, check.Options{TryLogins: true}, verdict.Open, "socks5-login", verdict.KindSOCKS, targetAt, "any user with any password"},
		{"SOCKS with a login that anybody could guess", "1080", func(c *city) func(context.Context, net.Conn) {
			return serves(open.SOCKS{Dial: c.leads(targetAt), Users: map[string]string{"admin": "admin"}})
		}, check.Options{TryLogins: true}, verdict.Open, "socks5-guess", verdict.KindSOCKS, targetAt, "login that anybody could guess"},
		{"SOCKS with a login that nobody could guess", "1080", func(c *city) func(context.Context, net.Conn) {
			return serves(open.SOCKS{Dial: c.leads(targetAt), Users: map[string]string{"admin": "4-Zx!"}})
		}, check.Options{TryLogins: true}, verdict.Closed, "", "", "", "without a login"},
		{"CONNECT with a login that anybody could guess", "3128", func(c *city) func(context.Context, net.Conn) {
			return serves(open.Connect{Dial: c.leads(targetAt), Users: map[string]string{"test": "test"}})
		}, check.Options{TryLogins: true}, verdict.Open, "connect-guess", verdict.KindConnect, targetAt, "login that anybody could guess"},
		{"CONNECT for anybody", "3128", func(c *city) func(context.Context, net.Conn) { return serves(open.Connect{Dial: c.leads(targetAt)}) }, check.Options{}, verdict.Open, "connect-ipv4", verdict.KindConnect, targetAt, "port 25"},
		{"CONNECT by one that hangs up on all else", "8080", func(c *city) func(context.Context, net.Conn) {
			return onlyTunnels(serves(open.Connect{Dial: c.leads(targetAt)}))
		}, check.Options{}, verdict.Open, "connect-ipv4", verdict.KindConnect, targetAt, "port 25"},
		{"CONNECT at a port of SOCKS", "1080", func(c *city) func(context.Context, net.Conn) { return serves(open.Connect{Dial: c.leads(targetAt)}) }, check.Options{}, verdict.Open, "connect-ipv4", verdict.KindConnect, targetAt, "port 25"},
		{"CONNECT to the web alone", "8080", func(c *city) func(context.Context, net.Conn) {
			return serves(open.Connect{Dial: c.leads(targetAt), Ports: []uint16{443}})
		}, check.Options{}, verdict.Closed, "", "", "", "an open proxy, but no way out for mail"},
		{"requests with a body alone", "8080", func(c *city) func(context.Context, net.Conn) {
			return serves(open.Connect{Dial: c.leads(targetAt), Absolute: true, Only: true})
		}, check.Options{}, verdict.Open, "post", verdict.KindConnect, targetAt, "request's body"},
		{"CONNECT that takes any login, which we do not try", "8080", func(c *city) func(context.Context, net.Conn) {
			return serves(open.Connect{Dial: c.leads(targetAt), AnyLogin: true})
		}, check.Options{}, verdict.Closed, "", "", "", "without a login"},
		{"a proxy that can reach nobody", "8080", func(c *city) func(context.Context, net.Conn) {
			return serves(open.Connect{Dial: func(context.Context, forward.Address) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}
			}})
		}, check.Options{}, verdict.Inconclusive, "", "", "", "could not"},
		{"yes, and nothing behind it", "8080", func(*city) func(context.Context, net.Conn) {
			return reads(func(c net.Conn) { _, _ = io.WriteString(c, yes); _, _ = io.Copy(io.Discard, c) })
		}, check.Options{}, verdict.Inconclusive, "", "", "", "nothing came back"},
		{"yes, and hangs up", "8080", func(*city) func(context.Context, net.Conn) {
			return reads(func(c net.Conn) { _, _ = io.WriteString(c, yes) })
		}, check.Options{}, verdict.Inconclusive, "", "", "", "hung up"},
		{"yes, and a page to log in", "8080", func(*city) func(context.Context, net.Conn) {
			return reads(func(c net.Conn) { _, _ = io.WriteString(c, yes+"<html><form>who are you?</form></html>\r\n") })
		}, check.Options{}, verdict.Closed, "", "", "", "says yes"},
		{"leads everybody to itself, where nobody's mail is taken", "8080", func(*city) func(context.Context, net.Conn) {
			return reads(func(c net.Conn) {
				_, _ = io.WriteString(c, yes)
				_ = open.SMTP{Name: "mx.victim.example", Rule: postmasterOnly, Limits: limits()}.ServeConn(context.Background(), c)
			})
		}, check.Options{}, verdict.Closed, "", "", "", "says yes"},
		{"leads everybody to itself, where all is taken and thrown away", "8080", func(*city) func(context.Context, net.Conn) {
			return reads(func(c net.Conn) {
				_, _ = io.WriteString(c, yes)
				_ = open.SMTP{Name: "mx.victim.example", Sink: nowhere{}, Limits: limits()}.ServeConn(context.Background(), c)
			})
		}, check.Options{}, verdict.Accepts, "", "", "", "nothing arrived"},
		{"SOCKS that hangs up on who offers one method alone", "1080", func(c *city) func(context.Context, net.Conn) {
			return offered(2, serves(open.SOCKS{Dial: c.leads(targetAt)}))
		}, check.Options{}, verdict.Open, "socks5-ipv4", verdict.KindSOCKS, targetAt, "port 25"},
		{"CONNECT by one that answers nothing else", "8080", func(c *city) func(context.Context, net.Conn) {
			return silentBut("CONNECT", serves(open.Connect{Dial: c.leads(targetAt)}))
		}, check.Options{}, verdict.Open, "connect-ipv4", verdict.KindConnect, targetAt, "port 25"},
		{"CONNECT for browsers alone", "8080", func(c *city) func(context.Context, net.Conn) {
			return wants("User-Agent: Mozilla/5.0", serves(open.Connect{Dial: c.leads(targetAt)}))
		}, check.Options{}, verdict.Open, "connect-ipv4", verdict.KindConnect, targetAt, "port 25"},
		{"CONNECT for who says Proxy-Connection", "8080", func(c *city) func(context.Context, net.Conn) {
			return wants("Proxy-Connection: ", serves(open.Connect{Dial: c.leads(targetAt)}))
		}, check.Options{}, verdict.Open, "connect-ipv4", verdict.KindConnect, targetAt, "port 25"},
		{"a reverse proxy whose server is down", "8080", func(*city) func(context.Context, net.Conn) {
			return reads(func(c net.Conn) {
				_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
			})
		}, check.Options{}, verdict.Closed, "", "", "", "web server"},
		{"a web server", "80", func(*city) func(context.Context, net.Conn) {
			return reads(func(c net.Conn) {
				_, _ = io.WriteString(c, "HTTP/1.1 405 Not Allowed\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n")
			})
		}, check.Options{}, verdict.Closed, "", "", "", "web server"},
		{"something else at a port of proxies", "8080", func(*city) func(context.Context, net.Conn) {
			return func(_ context.Context, c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n"); c.Close() }
		}, check.Options{}, verdict.NotTested, "", "", "", "SSH-2.0"},
		{"a mail server at a port of proxies", "8080", func(c *city) func(context.Context, net.Conn) {
			return serves(open.SMTP{Name: "mx.victim.example", Sink: c.sink(targetAt), Limits: limits()})
		}, check.Options{}, verdict.Open, "plain", verdict.KindSMTP, targetAt, "relays for anyone"},
		{"hangs up on every word", "1080", func(*city) func(context.Context, net.Conn) { return hangsUp }, check.Options{}, verdict.NotTested, "", "", "", "hangs up on our first word"},
		{"hangs up on every word, and is said to be a proxy", "1080", func(*city) func(context.Context, net.Conn) { return hangsUp }, check.Options{Doors: []door.Door{door.SOCKS}}, verdict.Inconclusive, "", "", "", "hangs up on our first word"},
		{"hangs up on every word, and is said to be a web proxy", "8080", func(*city) func(context.Context, net.Conn) { return hangsUp }, check.Options{Doors: []door.Door{door.Connect}}, verdict.Inconclusive, "", "", "", "hangs up on our first word"},
		{"hangs up before a word", "3128", func(*city) func(context.Context, net.Conn) {
			return func(_ context.Context, c net.Conn) { c.Close() }
		}, check.Options{}, verdict.NotTested, "", "", "", "hangs up on our first word"},
		{"nothing but silence", "8080", func(*city) func(context.Context, net.Conn) {
			return func(_ context.Context, c net.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() }
		}, check.Options{}, verdict.NotTested, "", "", "", "neither SOCKS nor HTTP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCity(t)
				w.hosts[targetAt+":"+c.port] = c.serve(w)
				a := w.check(c.o)
				if len(a.Doors) == 0 {
					t.Fatalf("no door was found; shut %v", a.Shut)
				}
				d := a.Worst()
				if d.Verdict != c.want || !strings.Contains(d.Why, c.why) {
					t.Errorf("%s (%s), want %s with %q\n%s", d.Verdict, d.Why, c.want, c.why, outcomes(d.Judgement))
				}
				w.stayedHome()
				if p := d.Proof; p != nil && (p.Form.ID != c.form || p.Kind != c.kind || p.Egress.String() != c.exit || p.Guilty.String() != targetAt || p.Listed.String() != c.exit) {
					t.Errorf("proved by %s as %s from %s (guilty %s, listed %s), want %s, %s, %s", p.Form.ID, p.Kind, p.Egress, p.Guilty, p.Listed, c.form, c.kind, c.exit)
				}
			})
		})
	}
}

// onlyTunnels hangs up on whoever asks for no tunnel.
func onlyTunnels(next func(context.Context, net.Conn)) func(context.Context, net.Conn) {
	return func(ctx context.Context, c net.Conn) {
		r := bufio.NewReader(c)
		if word, _ := r.Peek(len("CONNECT")); string(word) != "CONNECT" {
			c.Close()
			return
		}
		head, _ := r.Peek(r.Buffered())
		next(ctx, forward.Unread(c, head))
	}
}

// peek looks at the first octets, and hands all on to next if they are liked.
func peek(likes func(head string) bool, next func(context.Context, net.Conn), otherwise func(net.Conn)) func(context.Context, net.Conn) {
	return func(ctx context.Context, c net.Conn) {
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil || !likes(string(b[:n])) {
			otherwise(c)
			c.Close()
			return
		}
		next(ctx, forward.Unread(c, b[:n]))
	}
}

// offered hangs up on who offers fewer methods of SOCKS 5.
func offered(methods byte, next func(context.Context, net.Conn)) func(context.Context, net.Conn) {
	return peek(func(head string) bool { return len(head) > 1 && head[0] == 5 && head[1] >= methods }, next, func(net.Conn) {})
}

// silentBut answers nothing but one kind of request.
func silentBut(method string, next func(context.Context, net.Conn)) func(context.Context, net.Conn) {
	return peek(func(head string) bool { return strings.HasPrefix(head, method+" ") }, next, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
}

// wants refuses tunnels to whoever does not send a field.
func wants(field string, next func(context.Context, net.Conn)) func(context.Context, net.Conn) {
	return peek(func(head string) bool { return !strings.HasPrefix(head, "CONNECT") || strings.Contains(head, field) }, next, func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
	})
}

// hangsUp takes the connection, and no word.
func hangsUp(_ context.Context, c net.Conn) {
	_, _ = c.Read(make([]byte, 1))
	c.Close()
}

func outcomes(j verdict.Judgement) string {
	var b strings.Builder
	for _, f := range j.Forms {
		b.WriteString(strings.Join([]string{f.Form.ID, string(f.State), string(f.Outcome), string(f.Stage), string(f.Answer), f.Said, f.Reason}, " | ") + "\n")
	}
	return b.String()
}

// stayedHome fails when a proxy was led to anybody but the collector, or the
// tester knocked at anybody but the target and the collector.
func (c *city) stayedHome() {
	c.t.Helper()
	for _, to := range c.asked {
		if !strings.HasPrefix(to, collectorAt+":") && to != "0.0.0.0:0" { // no place, by which version 4 of SOCKS is recognised
			c.t.Errorf("a proxy was led to %s", to)
		}
	}
	for _, to := range c.dials {
		if !strings.HasPrefix(to, targetAt+":") && !strings.HasPrefix(to, collectorAt+":") {
			c.t.Errorf("the tester knocked at %s", to)
		}
	}
}

type nowhere struct{}

func (nowhere) Take(context.Context, open.Message) error { return nil }

// A citySink hands on to the collector from one address, as a server with a
// queue does.
type citySink struct {
	c     *city
	from  string
	strip bool // take the trace fields out
}

func (c *city) sink(from string) citySink { return citySink{c: c, from: from} }

func (s citySink) Take(ctx context.Context, m open.Message) error {
	if len(m.To) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	s.c.serving.Go(func() {
		conn, err := s.c.from(s.from)(ctx, "tcp", collectorAt+":25")
		if err != nil {
			return
		}
		defer conn.Close()
		client, err := smtp.NewClient(ctx, conn, smtp.ClientOptions{})
		if err != nil || client.Hello(ctx, "smtp.provider.example") != nil {
			return
		}
		e := mail.Envelope{From: m.From}
		for _, a := range m.To {
			e.To = append(e.To, mail.Recipient{Path: mail.ForwardTo(a)})
		}
		body := string(m.Body)
		if s.strip {
			_, body, _ = strings.Cut(body, "From: Postern")
			body = "From: Postern" + body
		}
		_, _, _ = client.Send(ctx, e, strings.NewReader(body))
		_ = client.Quit(ctx)
	})
	return nil
}

// The third kind: the target's port 25 is its provider's server, which trusts
// the target, and has never heard of us.
func TestForwardedPort(t *testing.T) {
	customers := func(_ context.Context, a open.Asked) open.Answer {
		if a.Client.Addr.String() == targetAt {
			return open.Answer{Reply: mail.NewReply(250, "2.1.5", "ok"), Next: a.To.Address()}
		}
		return open.Answer{Reply: mail.NewReply(550, "5.7.1", "relaying denied")}
	}
	for _, c := range []struct {
		name  string
		strip bool
		names check.Resolver // what the DNS knows
		tls   bool           // the provider's server has a certificate with its name
		sure  verdict.Sure
		sign  string
	}{
		{"with trace fields", false, providerDNS{}, false, verdict.Certain, "seen-as-target"},
		{"with the trace fields taken out", true, providerDNS{}, false, verdict.Likely, "banner-leads-to-egress"},
		{"with nothing but the names that it gives itself", true, nil, true, verdict.Guess, "certificate-of-egress"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCity(t)
				sink := w.sink(providerAt)
				sink.strip = c.strip
				provider := open.SMTP{Name: "smtp.provider.example", Rule: customers, Sink: sink, Limits: limits()}
				if c.tls {
					provider.TLS = certificate(t, "smtp.provider.example")
				}
				w.hosts[providerAt+":25"] = serves(provider)
				w.hosts[targetAt+":25"] = serves(open.Forward{Dial: func(ctx context.Context) (net.Conn, error) {
					return w.from(targetAt)(ctx, "tcp", providerAt+":25")
				}})
				a := w.check(check.Options{Quick: true, Doors: []door.Door{door.Forward}, Domain: domain(t, "victim.example"), Resolver: c.names})
				d := a.Worst()
				if d.Verdict != verdict.Open || d.Proof.Kind != verdict.KindForward || d.Proof.Sure != c.sure || d.Proof.Egress.String() != providerAt || d.Proof.Guilty.String() != targetAt {
					t.Fatalf("%s (%s): %+v", d.Verdict, d.Why, d.Proof)
				}
				if !slices.ContainsFunc(d.Proof.Signs, func(s verdict.Sign) bool { return s.Name == c.sign }) {
					t.Errorf("signs %+v, want %s among them", d.Proof.Signs, c.sign)
				}
				w.stayedHome()
			})
		})
	}
}

// certificate is one that its owner has signed.
func certificate(t *testing.T, name string) *tls.Config {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}}
}

// providerDNS knows the provider's server.
type providerDNS struct{}

func (providerDNS) Addresses(_ context.Context, name string) ([]netip.Addr, error) {
	if name == "smtp.provider.example" {
		return []netip.Addr{netip.MustParseAddr(providerAt)}, nil
	}
	return nil, errors.New("NXDOMAIN")
}
func (providerDNS) Exchangers(context.Context, string) ([]string, error) { return nil, nil }
func (providerDNS) Names(context.Context, netip.Addr) ([]string, error) {
	return []string{"client20.isp.example"}, nil
}

// collectorDNS knows the collector.
type collectorDNS struct{}

func (collectorDNS) Addresses(_ context.Context, name string) ([]netip.Addr, error) {
	if name == "mx.probe.example" {
		return []netip.Addr{netip.MustParseAddr(collectorAt)}, nil
	}
	return nil, errors.New("NXDOMAIN")
}

func (collectorDNS) Exchangers(context.Context, string) ([]string, error) {
	return []string{"mx.probe.example"}, nil
}
func (collectorDNS) Names(context.Context, netip.Addr) ([]string, error) { return nil, nil }

// loginFor is a proxy that wants a login for one port, and none for others.
type loginFor struct {
	port uint16
	way  open.Dial
}

func (l loginFor) Connect(ctx context.Context, _ *connect.Peer, r connect.Request) (net.Conn, *connect.Refusal) {
	if r.To.Port() == l.port {
		return nil, &connect.Refusal{Status: http.StatusProxyAuthRequired, Text: "log in"}
	}
	conn, err := l.way(ctx, r.To)
	if err != nil {
		return nil, connect.RefusalOf(err)
	}
	return conn, nil
}
func (loginFor) Ended(*connect.Peer, connect.Request, forward.Count, error) {}

// A web proxy that wants a login for port 25 may want none for others: that it
// asked for one says nothing of a place that it was not asked for.
func TestLoginForPort25Alone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNamedCity(t, collectorDNS{})
		w.hosts[targetAt+":8080"] = serves(&connect.Server{Handler: loginFor{25, w.leads(targetAt)}})
		d := w.check(check.Options{Ports: []uint16{8080}}).Worst()
		if d.Verdict != verdict.Closed || d.Elsewhere == nil {
			t.Errorf("%s (%s), elsewhere %+v\n%s", d.Verdict, d.Why, d.Elsewhere, outcomes(d.Judgement))
		}
	})
}

// A port with two doors is tested as both, and the worst is the answer.
func TestAPortOfTwoDoors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newCity(t)
		w.hosts[targetAt+":8080"] = multiplex(serves(open.SOCKS{Dial: w.leads(targetAt)}), serves(open.Connect{Dial: w.leads(targetAt), Ports: []uint16{443}}), 0, 0)
		a := w.check(check.Options{Ports: []uint16{8080}})
		var found []string
		for _, d := range a.Doors {
			found = append(found, d.Door.String()+" "+string(d.Verdict))
		}
		if !slices.Equal(found, []string{"connect closed", "socks open"}) || a.Worst().Door != door.SOCKS {
			t.Errorf("doors %q, the worst %s", found, a.Worst().Door)
		}
		w.stayedHome()
	})
}

// multiplex serves SOCKS and HTTP at one port: it tells them by the first
// octet, and answers after a while.
func multiplex(socks, http func(context.Context, net.Conn), socksAfter, httpAfter time.Duration) func(context.Context, net.Conn) {
	return func(ctx context.Context, c net.Conn) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil {
			c.Close()
			return
		}
		c = forward.Unread(c, first)
		if first[0] == 4 || first[0] == 5 {
			time.Sleep(socksAfter)
			socks(ctx, c)
			return
		}
		time.Sleep(httpAfter)
		http(ctx, c)
	}
}

// When one door is recognised, the others are not waited for as long as if
// nothing had answered; a port that is two doors is found to be both.
func TestWaitingForTheOtherDoor(t *testing.T) {
	silent := func(_ context.Context, c net.Conn) { _, _ = io.Copy(io.Discard, c); c.Close() }
	for _, c := range []struct {
		name            string
		socks           bool
		socksAt, httpAt time.Duration
		doors           string
		atLeast, atMost time.Duration // of all that was waited
	}{
		{"HTTP alone, and no answer to SOCKS", false, 0, 0, "connect", time.Second, time.Second},
		{"HTTP alone, slow", false, 0, 2 * time.Second, "connect", 10 * time.Second, 10 * time.Second},
		{"HTTP alone, slower than it is waited for", false, 0, 9 * time.Second, "", 12 * time.Second, 12 * time.Second},
		{"both at once", true, 0, 0, "connect socks", 0, 0},
		{"SOCKS a little later", true, 900 * time.Millisecond, 0, "connect socks", 0, 10 * time.Second},
		{"both slow", true, 5 * time.Second, 2 * time.Second, "connect socks", 0, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCity(t)
				socks := silent
				if c.socks {
					socks = serves(open.SOCKS{Dial: w.leads(targetAt)})
				}
				w.hosts[targetAt+":8080"] = multiplex(socks, serves(open.Connect{Dial: w.leads(targetAt)}), c.socksAt, c.httpAt)
				a := w.check(check.Options{Ports: []uint16{8080}, Forms: []string{"connect-465", "socks5-465"}})
				var found []string
				for _, d := range a.Doors {
					if d.NotTested == "" {
						found = append(found, d.Door.String())
					}
				}
				if got := strings.Join(found, " "); got != c.doors || w.took < c.atLeast || w.took > c.atMost {
					t.Errorf("doors %q in %s, want %q in %s to %s", got, w.took, c.doors, c.atLeast, c.atMost)
				}
			})
		})
	}
}

// A proxy whose network drops what goes to port 25 costs the whole patience
// for the first forms, and less for those that ask for the same once more. It
// is closed for mail all the same when it leads to another port.
func TestSilenceIsWaitedForOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      check.Options
		serve  func(*city) serve
		want   verdict.Verdict
		atMost time.Duration
	}{
		{"the way to port 25 is dropped", check.Options{Ports: []uint16{8080}}, func(w *city) serve {
			return serves(open.Connect{Dial: dropsMail(w.leads(targetAt))})
		}, verdict.Closed, 80 * time.Second},
		{"yes, and nothing behind it", check.Options{Ports: []uint16{8080}}, func(*city) serve {
			return reads(func(c net.Conn) { _, _ = io.WriteString(c, yes); _, _ = io.Copy(io.Discard, c) })
		}, verdict.Inconclusive, 75 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCity(t)
				w.hosts[targetAt+":"+strconv.Itoa(int(c.o.Ports[0]))] = c.serve(w)
				d := w.check(c.o).Worst()
				if d.Verdict != c.want || w.took > c.atMost {
					t.Errorf("%s (%s) in %s, want %s in %s\n%s", d.Verdict, d.Why, w.took, c.want, c.atMost, outcomes(d.Judgement))
				}
			})
		})
	}
}

// dropsMail never gets to port 25, and is not told so.
func dropsMail(dial open.Dial) open.Dial {
	return func(ctx context.Context, to forward.Address) (net.Conn, error) {
		if to.Port() == 25 {
			time.Sleep(5 * time.Minute)
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ETIMEDOUT}
		}
		return dial(ctx, to)
	}
}

// What is asked for is what is played.
func TestDoorsAndForms(t *testing.T) {
	for _, c := range []struct {
		name string
		o    check.Options
		want []string // ports that were knocked at
	}{
		{"one door", check.Options{Doors: []door.Door{door.SOCKS}}, []string{"1080", "10808", "1081", "9050"}},
		{"a forwarded port", check.Options{Doors: []door.Door{door.Forward}}, []string{"25", "2525", "465", "587"}},
		{"one form", check.Options{Forms: []string{"connect-ipv4"}}, []string{"3128", "443", "80", "8080", "8118", "8443", "8888"}},
		{"all", check.Options{}, []string{"1080", "10808", "1081", "25", "2525", "3128", "443", "465", "587", "80", "8080", "8118", "8443", "8888", "9050"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newCity(t)
			a := w.check(c.o)
			var got []string
			for _, to := range w.dials {
				if host, port, _ := net.SplitHostPort(to); host == targetAt {
					got = append(got, port)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) || len(a.Shut) != len(c.want) {
				t.Errorf("%s: knocked at %v, %d shut; want %v once each", c.name, got, len(a.Shut), c.want)
			}
		})
	}
}

// Without a collector a proxy is recognised and asked for nothing, and a web
// server makes nobody doubt.
func TestProxyWithoutACollector(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(*city) func(context.Context, net.Conn)
		want  verdict.Verdict
		why   string
	}{
		{"SOCKS for anybody", func(w *city) func(context.Context, net.Conn) { return serves(open.SOCKS{Dial: w.leads(targetAt)}) }, verdict.Inconclusive, "needs a collector"},
		{"SOCKS with a login", func(w *city) func(context.Context, net.Conn) {
			return serves(open.SOCKS{Dial: w.leads(targetAt), AnyLogin: true})
		}, verdict.Closed, "without a login"},
		{"HTTP", func(w *city) func(context.Context, net.Conn) { return serves(open.Connect{Dial: w.leads(targetAt)}) }, verdict.NotTested, "whether it is a proxy"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newCity(t)
			w.hosts[targetAt+":1080"] = c.serve(w)
			target, err := plan.ParseTarget(targetAt)
			if err != nil {
				t.Fatal(err)
			}
			r, err := check.Run(t.Context(), target, check.Options{Dial: w.from(testerAt), Owned: true, Ports: []uint16{1080}})
			if err != nil {
				t.Fatal(err)
			}
			w.serving.Wait()
			d := r.Addresses[0].Doors[0]
			if d.Verdict != c.want || !strings.Contains(d.Why, c.why) || len(w.asked) > 0 {
				t.Errorf("%s: %s (%s), led to %v; want %s with %q", c.name, d.Verdict, d.Why, w.asked, c.want, c.why)
			}
		})
	}
}

// A mailbox is a collector at somebody else's server: nobody may be led there.
type mailbox struct{ check.Collector }

// With a mailbox mail servers are tested, and of proxies the report says what
// it lacks: nothing is called closed that was not asked.
func TestProxiesWithAMailbox(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(*city) serve
		want  verdict.Verdict
		exit  int
		text  []string
	}{
		{"SOCKS for anybody", func(w *city) serve { return serves(open.SOCKS{Dial: w.leads(targetAt)}) }, verdict.Inconclusive, 2, []string{
			"DOUBTFUL inconclusive: it is a proxy, and nothing could be asked of it", "left out 10 forms need a collector that a proxy can be led to", "do       give the check a collector", "--collector-url",
		}},
		{"SOCKS with a login", func(w *city) serve { return serves(open.SOCKS{Dial: w.leads(targetAt), AnyLogin: true}) }, verdict.Closed, 0, []string{"CLOSED", "nobody gets anywhere without a login"}},
		{"HTTP", func(w *city) serve { return serves(open.Connect{Dial: w.leads(targetAt)}) }, verdict.NotTested, 3, []string{
			"NOT TESTED", "whether it is a proxy could not be seen", "do       give the check a collector",
		}},
		{"a proxy inside TLS", func(w *city) serve {
			return wrapping{alpn: []string{"h2"}}.around(t, serves(open.Connect{Dial: w.leads(targetAt)}))
		}, verdict.NotTested, 3, []string{"whether it is a proxy could not be seen"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newCity(t)
				w.hosts[targetAt+":1080"] = c.serve(w)
				target, err := plan.ParseTarget(targetAt)
				if err != nil {
					t.Fatal(err)
				}
				r, err := check.Run(t.Context(), target, check.Options{Collector: mailbox{w.collector}, Dial: w.from(testerAt), Owned: true, Ports: []uint16{1080}})
				if err != nil {
					t.Fatal(err)
				}
				w.serving.Wait()
				var text bytes.Buffer
				if err := report.WriteText(&text, r, report.TextOptions{}); err != nil {
					t.Fatal(err)
				}
				if r.Verdict() != c.want || r.ExitCode() != c.exit || len(w.asked) > 0 {
					t.Errorf("%s, exit code %d, led to %v; want %s, %d, nowhere", r.Verdict(), r.ExitCode(), w.asked, c.want, c.exit)
				}
				whole := strings.Join(strings.Fields(text.String()), " ")
				for _, words := range c.text {
					if !strings.Contains(whole, strings.Join(strings.Fields(words), " ")) {
						t.Errorf("the report does not say %q\n%s", words, &text)
					}
				}
			})
		})
	}
}

// A proxy that leads to its own machine is asked for that by its owner alone.
func TestInside(t *testing.T) {
	for _, inside := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newCity(t)
			w.hosts["127.0.0.1:25"] = serves(open.SMTP{Name: "mx.victim.example", Sink: w.sink(targetAt), Limits: limits()})
			w.hosts[targetAt+":1080"] = serves(open.SOCKS{Dial: func(ctx context.Context, to forward.Address) (net.Conn, error) {
				if to.Host() == collectorAt {
					return nil, &net.OpError{Op: "dial", Err: syscall.EACCES}
				}
				return w.leads("127.0.0.1")(ctx, to)
			}})
			a := w.check(check.Options{Ports: []uint16{1080}, Inside: inside})
			d := a.Worst()
			if inside != (d.Verdict == verdict.Open) {
				t.Fatalf("inside %v: %s (%s)\n%s", inside, d.Verdict, d.Why, outcomes(d.Judgement))
			}
			if inside && d.Proof.Form.ID != "socks5-inside" {
				t.Errorf("proved by %s", d.Proof.Form.ID)
			}
			if !inside && len(w.asked) > 0 {
				t.Errorf("asked for %v without being told to", w.asked)
			}
		})
	}
}
