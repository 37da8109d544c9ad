package serve

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/connect"
	"postern/door"
	"postern/forward"
	"postern/internal/identity"
	"postern/internal/netop"
	"postern/internal/problem"
	"postern/policy"
	"postern/socks"
)

// withGateways adds one of each door, which lead to one place.
func withGateways(s Settings, to string, private bool) Settings {
	at := problem.Pos{File: "postern.hcl", Line: 20, Column: 1}
	for _, d := range []door.Door{door.SOCKS, door.Connect} {
		w := Gateway{Name: d.String(), Door: d, Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, TLS: !private, At: at}
		if private {
			w.Private = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		s.Gateways = append(s.Gateways, w)
		s.Policy.Gateways = append(s.Policy.Gateways, policy.Gateway{Name: w.Name, Login: true, To: []policy.Reach{must(policy.ParseReach(to))}, At: at})
	}
	return s
}

// greeter is a server that speaks first, and says how often it was reached.
func greeter(t *testing.T) (address string, reached chan struct{}) {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	reached = make(chan struct{}, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			reached <- struct{}{}
			_, _ = c.Write([]byte("220 inner\r\n"))
			line, _ := bufio.NewReader(c).ReadString('\n')
			_, _ = c.Write([]byte("echo " + line))
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String(), reached
}

// through asks a gateway for a place and talks to what is there. The gateway
// "connect" is asked over HTTP/1.1, "h2" is the same over HTTP/2.
func (r *running) through(gateway string, secure bool, to, user, pass string) (string, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	name, version, protocols := gateway, connect.HTTP11, []string{"http/1.1"}
	if gateway == "h2" {
		name, version, protocols = "connect", connect.HTTP2, []string{"h2", "http/1.1"}
	}
	conn := must(net.Dial("tcp", r.sockets.Load().addrs(name)[0]))
	defer conn.Close()
	if secure {
		t, chosen, err := connect.Handshake(ctx, conn, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
		if err != nil {
			return "", err
		}
		if spoken := t.ConnectionState().NegotiatedProtocol; chosen != version || (name == "socks") != (spoken == "") {
			r.t.Errorf("%s: the handshake chose %s (%q)", gateway, chosen, spoken)
		}
		conn = t
	}
	address := must(forward.ParseAddress(to))
	var err error
	if gateway == "socks" {
		_, err = socks.Request{Version: 5, Command: socks.Connect, To: address, User: user, Password: pass}.Play(ctx, conn, nil)
	} else {
		var tunnel net.Conn
		tunnel, _, err = connect.Request{To: address, Version: version, Auth: connect.Auth{User: user, Password: pass}}.Connect(ctx, conn, nil)
		if err == nil {
			conn = tunnel
		}
	}
	if err != nil {
		return "", err
	}
	in := bufio.NewReader(conn)
	banner, err := in.ReadString('\n')
	if err != nil {
		return banner, err
	}
	if _, err := conn.Write([]byte("hello\r\n")); err != nil {
		return banner, err
	}
	answer, err := in.ReadString('\n')
	return banner + answer, err
}

func TestGatewaysOfARelay(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		inner, reached := greeter(t)
		r := run(t, withGateways(only(loopback(ordinary()), "mx"), inner, !secure))
		if err := r.users.Add(identity.NewUser{Name: "ben", Password: password, MaySendAs: []string{"ben@example.org"}}); err != nil {
			t.Fatal(err)
		}
		mail := must(r.users.AddToken("ben", identity.NewToken{Name: "shop"}))
		proxy := must(r.users.AddToken("ben", identity.NewToken{Name: "proxy", Gateway: true}))
		if err := Dial(r.state).UsersChanged(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, gateway := range []string{"socks", "connect", "h2"} {
			got, err := r.through(gateway, secure, inner, "ben", password)
			if err != nil || got != "220 inner\r\necho hello\r\n" {
				t.Errorf("%s: %q, %v", gateway, got, err)
			}
			<-reached
			if got, err := r.through(gateway, secure, inner, "ben/proxy", string(proxy)); err != nil || got != "220 inner\r\necho hello\r\n" {
				t.Errorf("%s, a token for gateways too: %q, %v", gateway, got, err)
			}
			<-reached
			for _, c := range []struct{ name, to, user, pass string }{
				{"a stranger", inner, "", ""},
				{"a guess", inner, "ben", "not-this"},
				{"a token for mail", inner, "ben/shop", string(mail)},
				{"another place", "127.0.0.1:25", "ben", password},
				{"another name for it", "localhost:" + inner[strings.LastIndexByte(inner, ':')+1:], "ben", password},
			} {
				if got, err := r.through(gateway, secure, c.to, c.user, c.pass); err == nil {
					t.Errorf("%s, %s: %q", gateway, c.name, got)
				}
			}
			select {
			case <-reached:
				t.Errorf("%s: somebody came through", gateway)
			default:
			}
		}
		status := r.Status()
		if last := status.Listeners[len(status.Listeners)-1]; last.Role != "gateway" || len(last.Addrs) != 1 || status.Audited.Listeners != 3 {
			t.Errorf("status: %+v, audited %+v", status.Listeners, status.Audited)
		}
	}
}

// A tunnel outlives a reload, and does not outlive its user.
func TestTunnelsAreDecidedAgain(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	r := run(t, withGateways(only(loopback(ordinary()), "mx"), l.Addr().String(), true))
	if err := r.users.Add(identity.NewUser{Name: "ben", Password: password, MaySendAs: []string{"ben@example.org"}}); err != nil {
		t.Fatal(err)
	}
	r.waitFor("ben", true)
	place := must(forward.ParseAddress(l.Addr().String()))
	type ends struct {
		door      string
		conn, far net.Conn
	}
	var open []ends
	for _, gateway := range []string{"socks", "connect"} {
		conn := must(net.Dial("tcp", r.sockets.Load().addrs(gateway)[0]))
		defer conn.Close()
		var err error
		if gateway == "socks" {
			_, err = socks.Request{Version: 5, Command: socks.Connect, To: place, User: "ben", Password: password}.Play(t.Context(), conn, nil)
		} else {
			ask := connect.Request{To: place, Version: connect.HTTP2, Auth: connect.Auth{User: "ben", Password: password}}
			conn, _, err = ask.Connect(t.Context(), conn, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		far := must(l.Accept())
		defer far.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_ = far.SetDeadline(time.Now().Add(20 * time.Second))
		open = append(open, ends{gateway, conn, far})
	}
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range open {
		if _, err := e.conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := e.far.Read(make([]byte, 1)); err != nil {
			t.Fatalf("%s: the reload cut the tunnel: %v", e.door, err)
		}
	}
	if err := r.users.Disable("ben"); err != nil {
		t.Fatal(err)
	}
	for _, e := range open {
		if _, err := e.far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the tunnel of a user that is disabled ended with %v", e.door, err)
		}
		if _, err := e.conn.Read(make([]byte, 1)); err == nil || netop.IsTimeout(err) {
			t.Errorf("%s: its client was told %v", e.door, err)
		}
	}
}

func TestSelfAuditOfGateways(t *testing.T) {
	s := withGateways(ordinary(), "203.0.113.25:25", true)
	s.Policy.Gateways[0].To = append(s.Policy.Gateways[0].To, must(policy.ParseReach("*:443")))
	g := proved(t, s)
	a, err := g.audit(t.Context())
	if err != nil || !a.Closed() {
		t.Fatalf("%+v, %v", a, err)
	}
	one, err := g.gatewayAudit(t.Context(), s.Gateways[0], netip.MustParseAddr("198.51.100.7"))
	if err != nil || one.Played < 30 {
		t.Errorf("%+v, %v", one, err)
	}
	// It must see an open one: a client that the policy lets pass, and that the
	// audit takes for a stranger.
	for i := range s.Policy.Gateways {
		s.Policy.Gateways[i].Clients = []policy.Allowed{{Client: "scanner"}}
	}
	open := proved(t, s)
	open.settings.Policy.Gateways = nil
	for _, w := range s.Gateways {
		one, err := open.gatewayAudit(t.Context(), w, netip.MustParseAddr("10.1.2.40"))
		if err != nil {
			t.Fatal(err)
		}
		var breach Breach
		if one.Closed() || !errors.As(one.Breaches[0], &breach) || !strings.HasPrefix(breach.Error(), "postern.hcl:20:1: self-audit: a stranger at 10.1.2.40") {
			t.Errorf("%s: %+v", w.Name, one)
		}
	}
}
