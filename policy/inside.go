package policy

import (
	"net/netip"
)

// Inside says why nothing is sent to an address that only the DNS or a client
// named, or "". Who writes an MX record of 127.0.0.1 would have us speak to
// ourselves, and of 10.0.0.1 to a neighbour that trusts us.
func Inside(a netip.Addr, own func(netip.Addr) bool) string {
	a = a.Unmap().WithZone("")
	if in := embedded(a); in.IsValid() {
		if why := Inside(in, own); why != "" {
			return why
		}
	}
	switch {
	case !a.IsValid() || a.IsUnspecified() || zeroNet.Contains(a):
		return "an address of no host"
	case a.IsLoopback():
		return "an address of this machine itself"
	case own != nil && own(a):
		return "an address of this machine"
	case a.IsPrivate() || sharedNet.Contains(a):
		return "a private address"
	case a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast():
		return "an address of the local link"
	case a.IsMulticast():
		return "an address of many hosts"
	case reservedNet.Contains(a) || siteLocal.Contains(a):
		return "a reserved address"
	}
	return ""
}

var (
	zeroNet     = netip.MustParsePrefix("0.0.0.0/8")
	sharedNet   = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	reservedNet = netip.MustParsePrefix("240.0.0.0/4")
	siteLocal   = netip.MustParsePrefix("fec0::/10")
	nat64       = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	ownNAT64    = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour   = netip.MustParsePrefix("2002::/16")      // RFC 3056
)

// embedded returns the IPv4 address to which an IPv6 address leads by translation.
func embedded(a netip.Addr) netip.Addr {
	b := a.As16()
	switch {
	case !a.Is6():
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case ownNAT64.Contains(a):
		// As all do it, with a prefix of 96 bits. With a shorter one it ends in
		// zeros (RFC 6052 section 2.2), and who it is is not known.
		if [3]byte(b[13:16]) == [3]byte{} {
			return netip.IPv4Unspecified()
		}
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return netip.Addr{}
}
