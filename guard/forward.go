package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// proxyPatience is for a header to arrive; a balancer sends it with the first
// segment.
const proxyPatience = 5 * time.Second

// Proxied wraps a listener whose clients come through balancers: the named
// ones must begin with a PROXY header, all others are closed without a word. A
// header that names nobody, or an address of this machine, closes too: it
// would make a stranger look like one of us.
func Proxied(l net.Listener, from []netip.Prefix, own func(netip.Addr) bool) net.Listener {
	return &proxyproto.Listener{
		Listener:          l,
		ReadHeaderTimeout: proxyPatience,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			a := addrOf(o.Upstream)
			if slices.ContainsFunc(from, func(p netip.Prefix) bool { return p.Contains(a) }) {
				return proxyproto.REQUIRE, nil
			}
			return proxyproto.REJECT, fmt.Errorf("%w: %s", proxyproto.ErrInvalidUpstream, a)
		},
		ValidateHeader: func(h *proxyproto.Header) error { return validHeader(h, own) },
	}
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
