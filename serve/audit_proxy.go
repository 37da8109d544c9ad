package serve

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// A caller is who connects in a self-audit.
type caller struct {
	addr  netip.Addr // where the connection comes from
	named netip.Addr // who it is said to be by the balancer at addr; zero: nobody is named
	says  []byte     // the header in which that is said
}

// who is the stranger of whom a breach tells.
func (c caller) who() netip.Addr {
	if c.named.IsValid() {
		return c.named
	}
	return c.addr
}

// callers are all who connect to a listener: from an address of every class
// and, where a balancer names them, as an address of every class, in both
// versions of the header, and as nobody.
func (l Listener) callers(witnesses []netip.Addr) (list []caller) {
	for _, a := range witnesses {
		list = append(list, caller{addr: a})
	}
	for _, p := range l.Proxy {
		balancer := p.Addr()
		for _, a := range witnesses {
			list = append(list, caller{balancer, a, headerV1(a)}, caller{balancer, a, headerV2(a)})
		}
		for _, nobody := range []string{
			"PROXY UNKNOWN\r\n",
			"PROXY UNKNOWN ffff::1 ffff::2 40000 25\r\n",
			// LOCAL, without an address and from loopback; then UNSPEC
			signatureV2 + "\x20\x00\x00\x00",
			signatureV2 + "\x20\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x9c\x40\x00\x19",
			signatureV2 + "\x21\x00\x00\x00",
		} {
			list = append(list, caller{addr: balancer, says: []byte(nobody)})
		}
	}
	return list
}

// headerV1 says that a client comes from an address (PROXY protocol 2.1).
func headerV1(a netip.Addr) []byte {
	if a.Is4() {
		return fmt.Appendf(nil, "PROXY TCP4 %s 192.0.2.1 40000 25\r\n", a)
	}
	return fmt.Appendf(nil, "PROXY TCP6 %s 2001:db8::1 40000 25\r\n", a.WithZone(""))
}

const signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"

// headerV2 says the same (section 2.2).
func headerV2(a netip.Addr) []byte {
	family, to := byte(0x21), netip.MustParseAddr("2001:db8::1")
	if a.Is4() {
		family, to = 0x11, netip.MustParseAddr("192.0.2.1")
	}
	ends := binary.BigEndian.AppendUint32(append(a.AsSlice(), to.AsSlice()...), 40000<<16|25)
	h := append([]byte(signatureV2), 0x21, family, 0, byte(len(ends)))
	return append(h, ends...)
}
