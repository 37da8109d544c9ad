package deliver

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"postern/connect"
	"postern/forward"
	"postern/socks"
)

// A Proxy is what the connections of a route go through, where the only way
// out of a network is one. It is asked for addresses that we looked up and
// judged ourselves, never for names.
type Proxy struct {
	SOCKS bool // SOCKS 5 (RFC 1928); else HTTP's CONNECT
	Host  Host // the zero Host: there is no proxy
	User  string
	Pass  Secret
}

// reachThrough connects to an address through a proxy.
func (d *Deliverer) reachThrough(ctx context.Context, p Proxy, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	list, err := d.o.Resolver.Addresses(ctx, p.Host.Name)
	if len(list) == 0 {
		return nil, fmt.Errorf("proxy %s: %w", p.Host, err)
	}
	conn, err := d.o.Dial(ctx, from, "tcp", netip.AddrPortFrom(list[0], p.Host.Port).String())
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", p.Host, err)
	}
	if p.SOCKS {
		_, err = socks.Request{Version: 5, Command: socks.Connect, To: forward.At(to), User: p.User, Password: string(p.Pass)}.Play(ctx, conn, nil)
	} else {
		var tunnel net.Conn
		tunnel, _, err = connect.Request{To: forward.At(to), Auth: connect.Auth{User: p.User, Password: string(p.Pass)}}.Connect(ctx, conn, nil)
		if err == nil {
			conn = tunnel
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("proxy %s: %w", p.Host, err)
	}
	return through{conn, net.TCPAddrFromAddrPort(to)}, nil
}

// through is a tunnel, whose far end is not the proxy.
type through struct {
	net.Conn
	to net.Addr
}

// RemoteAddr returns where the tunnel leads.
func (t through) RemoteAddr() net.Addr { return t.to }
