package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// proxyPatience is for a header to arrive; a balancer sends it with the first
// segment.
const proxyPatience = 5 * time.Second

// Proxied wraps a listener whose clients come through balancers: the named
// ones must begin with a PROXY header, all others are closed without a word. A
// header that names nobody, or an address of this machine, closes too: it
// would make a stranger look like one of us. missing is told of a balancer that
// passed on a connection without a header, unless it only looked whether we
// listen; nil: nobody is told.
func Proxied(l net.Listener, from []netip.Prefix, own func(netip.Addr) bool, missing func(balancer netip.Addr)) net.Listener {
	return &proxied{missing: missing, Listener: &proxyproto.Listener{
		Listener:          seen{l},
		ReadHeaderTimeout: proxyPatience,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			a := addrOf(o.Upstream)
			if slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Contains(a) }) {
				return proxyproto.REQUIRE, nil
			}
			return proxyproto.REJECT, fmt.Errorf("%w: %s", proxyproto.ErrInvalidUpstream, a)
		},
		ValidateHeader: func(h *proxyproto.Header) error { return validHeader(h, own) },
	}}
}

// proxied sees what begins without a header.
type proxied struct {
	net.Listener
	missing func(netip.Addr)
}

// Accept returns the next connection.
func (l *proxied) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	p, ok := c.(*proxyproto.Conn)
	if err != nil || !ok || l.missing == nil {
		return c, err
	}
	return &headed{Conn: p, missing: l.missing}, nil
}

// headed is a connection that must begin with a header.
type headed struct {
	*proxyproto.Conn
	missing func(netip.Addr)
	told    atomic.Bool
}

// Read returns an error when there was no header.
func (c *headed) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.look(err)
	return n, err
}

// Write returns an error when there was no header.
func (c *headed) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.look(err)
	return n, err
}

// look tells of a missing header, once. Who said nothing has only looked
// whether we listen.
func (c *headed) look(err error) {
	if !errors.Is(err, proxyproto.ErrNoProxyProtocol) || c.told.Swap(true) {
		return
	}
	if raw, ok := c.Raw().(*seenConn); ok && raw.spoke.Load() {
		c.missing(addrOf(raw.RemoteAddr()))
	}
}

// seen is a listener of connections that know whether their client has spoken.
type seen struct{ net.Listener }

// Accept returns the next connection.
func (l seen) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &seenConn{Conn: c}, nil
}

type seenConn struct {
	net.Conn
	spoke atomic.Bool
}

// Read notes that something came.
func (c *seenConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.spoke.Store(true)
	}
	return n, err
}

var errHeader = errors.New("PROXY header")

func validHeader(h *proxyproto.Header, own func(netip.Addr) bool) error {
	if h.Command.IsLocal() || h.TransportProtocol != proxyproto.TCPv4 && h.TransportProtocol != proxyproto.TCPv6 {
		return fmt.Errorf("%w: it names no client", errHeader)
	}
	a := addrOf(h.SourceAddr)
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || own != nil && own(a) {
		return fmt.Errorf("%w: %s is no client's address", errHeader, a)
	}
	return nil
}

func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
