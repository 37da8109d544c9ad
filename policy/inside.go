package policy

import (
	"net/netip"
)

// Inside says why nothing is sent to an address that only the DNS or a client
// named, or "". Whoever writes an MX record of 127.0.0.1 would have us speak to
// ourselves, of 10.0.0.1 to a neighbour that trusts us, and of the address at
// which a cloud hands out keys to what must not be told to anybody.
func Inside(a netip.Addr, own func(netip.Addr) bool) string {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return "an address of no host"
	}
	s := specialOf(a)
	if in := s.leadsTo(a); in.IsValid() {
		if why := Inside(in, own); why != "" {
			return why
		}
	}
	switch {
	case a.IsLoopback():
		return s.inside
	case own != nil && own(a):
		return "an address of this machine"
	}
	return s.inside
}

// leadsTo returns the IPv4 address to which an IPv6 address of this network
// leads, by translation or through a tunnel.
func (s special) leadsTo(a netip.Addr) netip.Addr {
	b := a.As16()
	switch {
	case !a.Is6():
		return netip.Addr{}
	case isISATAP(b):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case s.holds < 0:
		return netip.Addr{}
	case s.network == ownNAT64 && [3]byte(b[13:16]) == [3]byte{}:
		// All use a prefix of 96 bits. With a shorter one the address ends in
		// zeros (RFC 6052 section 2.2), and which host it is is not known.
		return netip.IPv4Unspecified()
	}
	return netip.AddrFrom4([4]byte(b[s.holds : s.holds+4]))
}

var ownNAT64 = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215

// isISATAP reports whether the last 64 bits are those of a tunnel to an IPv4
// address (RFC 5214 section 6.1), which any network may have.
func isISATAP(b [16]byte) bool {
	return b[8]&^0x03 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}
