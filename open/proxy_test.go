package open

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"postern/connect"
	"postern/forward"
	"postern/socks"
)

const banner = "220 mx.far.example ESMTP\r\n"

// greets is a Dial that leads to one place alone, where a server greets.
func greets(t *testing.T, place string, asked *[]string) Dial {
	return func(_ context.Context, to forward.Address) (net.Conn, error) {
		*asked = append(*asked, to.String())
		if to.String() != place {
			return nil, errors.New("contained")
		}
		near, far := net.Pipe()
		var both sync.WaitGroup
		both.Go(func() { _, _ = io.WriteString(far, banner) })
		both.Go(func() { _, _ = io.Copy(io.Discard, far); far.Close() })
		t.Cleanup(func() { far.Close(); both.Wait() })
		return near, nil
	}
}

func address(t *testing.T, s string) forward.Address {
	t.Helper()
	a, err := forward.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Each careless proxy leads a stranger to the banner, by the mistake that it
// is made of and by no other, and nowhere that its Dial does not lead.
func TestOpenProxies(t *testing.T) {
	const mx, inside = "192.0.2.1:25", "10.0.0.1:25"
	for _, c := range []struct {
		name  string
		serve func(Dial) func(context.Context, net.Conn) error
		ask   func(context.Context, net.Conn, forward.Address) (net.Conn, error)
		to    string
		open  bool
	}{
		{"SOCKS5", socksServer(SOCKS{}), socksAsk(socks.Request{Version: 5}), mx, true},
		{"SOCKS4", socksServer(SOCKS{Version: 4}), socksAsk(socks.Request{Version: 4}), mx, true},
		{"SOCKS5 at a server of SOCKS4", socksServer(SOCKS{Version: 4}), socksAsk(socks.Request{Version: 5}), mx, false},
		{"a login that anybody has", socksServer(SOCKS{AnyLogin: true}), socksAsk(socks.Request{Version: 5, User: "x", Password: "y"}), mx, true},
		{"no login", socksServer(SOCKS{AnyLogin: true}), socksAsk(socks.Request{Version: 5}), mx, false},
		{"SOCKS4 where a login is wanted", socksServer(SOCKS{AnyLogin: true}), socksAsk(socks.Request{Version: 4}), mx, false},
		{"SOCKS5 to where Dial does not lead", socksServer(SOCKS{}), socksAsk(socks.Request{Version: 5}), inside, false},
		{"CONNECT", connectServer(Connect{}), connectAsk(connect.Request{}), mx, true},
		{"CONNECT to the web alone", connectServer(Connect{Ports: []uint16{443}}), connectAsk(connect.Request{}), mx, false},
		{"CONNECT without a login", connectServer(Connect{AnyLogin: true}), connectAsk(connect.Request{}), mx, false},
		{"CONNECT with any", connectServer(Connect{AnyLogin: true}), connectAsk(connect.Request{Auth: connect.Auth{User: "x"}}), mx, true},
		{"CONNECT where POST alone is served", connectServer(Connect{Absolute: true, Only: true}), connectAsk(connect.Request{}), mx, false},
		{"POST", connectServer(Connect{Absolute: true, Only: true}), post, mx, true},
		{"POST where CONNECT alone is served", connectServer(Connect{}), post, mx, false},
		{"CONNECT to where Dial does not lead", connectServer(Connect{}), connectAsk(connect.Request{}), inside, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			var asked []string
			done := make(chan error, 1)
			go func() { done <- c.serve(greets(t, mx, &asked))(t.Context(), far) }()
			way, err := c.ask(t.Context(), near, address(t, c.to))
			if c.open {
				if err != nil {
					t.Fatal(err)
				}
				b := make([]byte, len(banner))
				if _, err := io.ReadFull(way, b); err != nil || string(b) != banner {
					t.Errorf("%q, %v", b, err)
				}
			} else if err == nil {
				t.Error("it let us through")
			}
			near.Close()
			if err := <-done; !c.open && err == nil || c.open && err != nil && !errors.Is(err, forward.ErrHalf) {
				t.Errorf("the server ended with %v", err)
			}
			for _, a := range asked {
				if a != c.to {
					t.Errorf("asked its way to %s", a)
				}
			}
		})
	}
}

// brief: a pipe has no half to close, and nobody waits for the other.
var brief = forward.Limits{Half: 1}

func socksServer(s SOCKS) func(Dial) func(context.Context, net.Conn) error {
	return func(d Dial) func(context.Context, net.Conn) error { s.Dial, s.Limits = d, brief; return s.ServeConn }
}

func connectServer(s Connect) func(Dial) func(context.Context, net.Conn) error {
	return func(d Dial) func(context.Context, net.Conn) error { s.Dial, s.Limits = d, brief; return s.ServeConn }
}

type ask = func(context.Context, net.Conn, forward.Address) (net.Conn, error)

func socksAsk(r socks.Request) ask {
	return func(ctx context.Context, c net.Conn, to forward.Address) (net.Conn, error) {
		r.Command, r.To = socks.Connect, to
		_, err := r.Play(ctx, c, nil)
		return c, err
	}
}

func connectAsk(r connect.Request) ask {
	return func(ctx context.Context, c net.Conn, to forward.Address) (net.Conn, error) {
		r.To = to
		way, _, err := r.Connect(ctx, c, nil)
		return way, err
	}
}

// post is led to the banner when it comes back for a request's body.
func post(_ context.Context, c net.Conn, to forward.Address) (net.Conn, error) {
	head := "POST http://" + to.String() + "/ HTTP/1.0\r\nContent-Length: 6\r\n\r\nQUIT\r\n"
	go func() { _, _ = io.WriteString(c, head) }()
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	if string(b) == "HTTP" {
		return nil, http.ErrNotSupported
	}
	return forward.Unread(c, b), nil
}

// A port passed on shows the far server the forwarder alone, or with a header
// the client.
func TestOpenForward(t *testing.T) {
	for _, c := range []struct {
		header forward.Header
		want   string
	}{{forward.NoHeader, "EHLO c\r\n"}, {forward.HeaderV1, "PROXY UNKNOWN\r\nEHLO c\r\n"}} { // a pipe has no address
		near, far := net.Pipe()
		back, server := net.Pipe()
		f := Forward{Header: c.header, Limits: brief, Dial: func(context.Context) (net.Conn, error) { return back, nil }}
		done := make(chan error, 1)
		go func() { done <- f.ServeConn(t.Context(), far) }()
		go func() { _, _ = io.WriteString(near, "EHLO c\r\n") }()
		b := make([]byte, len(c.want))
		if _, err := io.ReadFull(server, b); err != nil || string(b) != c.want {
			t.Errorf("header %d: %q, %v", c.header, b, err)
		}
		near.Close()
		server.Close()
		if err := <-done; err != nil && !errors.Is(err, forward.ErrHalf) {
			t.Errorf("header %d: the forwarder ended with %v", c.header, err)
		}
	}
}
