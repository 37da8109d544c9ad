package machine

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"net/netip"
	"strconv"
)

// Flags of a route, include/uapi/linux/route.h.
const (
	routeUp      = 0x1
	routeGateway = 0x2
)

// A link is a network that is reached without a gateway.
type link struct {
	name    string
	network netip.Prefix
}

// parseRoutes reads /proc/net/route: the gateways of default routes, and the
// networks at the machine's own wires. A half of all addresses counts as a
// default route, since tunnels set two halves to win over it.
func parseRoutes(b []byte) (gateways []netip.Addr, linked []link) {
	for w := range fields(b) {
		if len(w) < 8 {
			continue
		}
		destination, ok1 := hex4(w[1])
		gateway, ok2 := hex4(w[2])
		mask, ok3 := hex4(w[7])
		flags, err := strconv.ParseUint(w[3], 16, 32)
		if !ok1 || !ok2 || !ok3 || err != nil || flags&routeUp == 0 {
			continue
		}
		m := mask.As4()
		n := bits.LeadingZeros32(^binary.BigEndian.Uint32(m[:]))
		switch {
		case flags&routeGateway == 0:
			linked = append(linked, link{w[0], netip.PrefixFrom(destination, n).Masked()})
		case n <= 1 && !gateway.IsUnspecified():
			gateways = append(gateways, gateway)
		}
	}
	return gateways, linked
}

// hex4 reads an address as the kernel prints it: a number in the machine's own
// order of bytes.
func hex4(s string) (netip.Addr, bool) {
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil || len(s) != 8 {
		return netip.Addr{}, false
	}
	var a [4]byte
	binary.NativeEndian.PutUint32(a[:], uint32(n))
	return netip.AddrFrom4(a), true
}

// parseRoutes6 reads the gateways of /proc/net/ipv6_route. The whole of
// 2000::/3 is a default route too: the internet has no other addresses.
func parseRoutes6(b []byte) []netip.Addr {
	var gateways []netip.Addr
	for w := range fields(b) {
		if len(w) < 10 {
			continue
		}
		length, err := strconv.ParseUint(w[1], 16, 8)
		gateway, ok := hex16(w[4])
		flags, err2 := strconv.ParseUint(w[8], 16, 32)
		if err != nil || err2 != nil || !ok || length > 3 || gateway.IsUnspecified() {
			continue
		}
		if flags&(routeUp|routeGateway) == routeUp|routeGateway {
			gateways = append(gateways, gateway)
		}
	}
	return gateways
}

// hex16 reads 32 hexadecimal digits in the network's order of bytes.
func hex16(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(b)), true
}
