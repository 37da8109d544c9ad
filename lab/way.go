package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"postern/forward"
	"postern/open"
	"postern/socks"
)

// This is the lab's containment: nothing in it connects but by dial, which
// leads to loopback alone, and a proxy's way leads to the collector alone.

var errContained = errors.New("the lab hands on to loopback addresses only")

// dial connects from one loopback address to another.
func dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	if !to.Addr().IsLoopback() || from.IsValid() && !from.IsLoopback() {
		return nil, errContained
	}
	var d net.Dialer
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return d.DialContext(ctx, "tcp", to.String())
}

// way is where an open proxy leads: to the collector, whoever's mail server it
// is asked for, and to no other place of this machine.
func (w World) way(from netip.Addr) open.Dial {
	return func(ctx context.Context, to forward.Address) (net.Conn, error) {
		port, ok := w.leadsTo(to)
		if !ok {
			return nil, fmt.Errorf("%s: %w: %w", to, errContained, syscall.ENETUNREACH)
		}
		return dial(ctx, from, netip.AddrPortFrom(w.Collector.Addr(), port))
	}
}

func (w World) leadsTo(to forward.Address) (port uint16, ok bool) {
	if to.IP().IsLoopback() && to.IP() != w.Collector.Addr() {
		return 0, false
	}
	if to.Port() == 25 || to.Port() == w.Collector.Port() {
		return w.Collector.Port(), true
	}
	for stands, port := range w.Ports {
		if to.Port() == stands || to.Port() == port {
			return port, true
		}
	}
	return 0, false
}

// onward leads every connection to one place.
func onward(from netip.Addr, to netip.AddrPort) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return dial(ctx, from, to) }
}

// nowhere is a way that says yes and ends: what comes is swallowed, and
// nothing ever comes back.
func nowhere(context.Context, forward.Address) (net.Conn, error) {
	near, _ := net.Pipe()
	return abyss{near}, nil
}

// An abyss is one end of a pipe at whose other nobody is.
type abyss struct{ net.Conn }

// Write swallows.
func (abyss) Write(p []byte) (int, error) { return len(p), nil }

// mutilated is a way that loses what the far server says first, as proxies do
// that throw away what comes along with their own handshake.
func mutilated(way open.Dial) open.Dial {
	return func(ctx context.Context, to forward.Address) (net.Conn, error) {
		c, err := way(ctx, to)
		if err != nil {
			return nil, err
		}
		return &bannerless{Conn: c}, nil
	}
}

type bannerless struct {
	net.Conn
	lost bool
}

func (b *bannerless) Read(p []byte) (int, error) {
	if !b.lost {
		b.lost = true
		if _, err := b.Conn.Read(make([]byte, 4<<10)); err != nil {
			return 0, err
		}
	}
	return b.Conn.Read(p)
}

// greeting leads to a mail server, and greets in its place.
func greeting(name string, dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		if _, err := c.Read(make([]byte, 4<<10)); err != nil { // its own greeting, a line
			return nil, errors.Join(err, c.Close())
		}
		return forward.Unread(c, []byte("220 "+name+" ESMTP ready\r\n")), c.SetReadDeadline(time.Time{})
	}
}

// through is a way by another SOCKS proxy, which is reached from an address.
func through(from netip.Addr, second netip.AddrPort) open.Dial {
	return func(ctx context.Context, to forward.Address) (net.Conn, error) {
		c, err := dial(ctx, from, second)
		if err != nil {
			return nil, err
		}
		if _, err := (socks.Request{Version: 5, Command: socks.Connect, To: to}).Play(ctx, c, nil); err != nil {
			c.Close()
			return nil, err
		}
		return c, nil
	}
}

// A page answers every request of HTTP with 200 and the same page, CONNECT
// too, as the gates of hotels do.
type page string

// Run serves l until ctx ends.
func (p page) Run(ctx context.Context, l net.Listener) error {
	return each(ctx, l, func(c net.Conn) {
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 8<<10)); err != nil {
			return
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(p), string(p))
		forward.Linger(c)
	})
}

// patience is for a stranger's first words.
const patience = 30 * time.Second
