package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"postern/internal/problem"
)

// mostPublic bounds how many public addresses all trusted clients together
// may hold: one /24. Cutting a large network into small ones must not help.
const mostPublic = 256

// private are networks that are somebody's own, as wide as the law allows.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"), // RFC 1918
	netip.MustParsePrefix("fc00::/7"), // RFC 4193
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

const ownAddresses = "name single hosts by their own addresses instead"

// The widest networks that may be named without more ado: what one office has.
const (
	widestIPv4 = 24
	widestIPv6 = 48
)

// width refuses a network that is too wide to be trusted, and returns how
// many public addresses it holds; an IPv6 /56 counts as one.
func (b *compiler) width(n Network, word string, acknowledged []netip.Prefix) (public int) {
	p := n.Prefix
	what := func(why string) string { return fmt.Sprintf("%s %s %s", word, p, why) }
	switch {
	case !p.IsValid():
		b.stop(n.At, word+": no network", "write an address, or a network such as 192.0.2.0/28")
		return 0
	case p.Masked() != p:
		b.stop(n.At, what("has bits behind its mask"), fmt.Sprintf("write %s, or %s for the one address", p.Masked(), p.Addr()))
		return 0
	case p.Bits() == 0:
		b.stop(n.At, what("trusts everybody"), "name single hosts instead")
		return 0
	}
	if within(loopback, p) {
		return 0
	}
	// What stands for all of a family is asked once the network is narrow.
	if over := specialOver(p); over.client != "" && over.network.Bits() > 0 {
		b.stop(n.At, what(over.client), ownAddresses)
		return 0
	}
	widest := widestIPv6
	if p.Addr().Is4() {
		widest = widestIPv4
	}
	inside := within(private, p)
	switch {
	case p.Bits() >= widest:
	case inside && slices.Contains(acknowledged, p):
		b.warn(n.At, what("trusts a whole private network"), "name single hosts, if you can")
	case inside:
		b.stop(n.At, what("is a whole private network: containers, guests and gateways are in it too"),
			fmt.Sprintf(`name single hosts, or write acknowledge = ["%s"] if all of it is meant`, p))
	default:
		b.stop(n.At, what(fmt.Sprintf("is too wide: the widest public network is a /%d", widest)), "name single hosts instead")
		return 0
	}
	if inside {
		return 0
	}
	if why := neverClient(p); why != "" {
		b.stop(n.At, what(why), ownAddresses)
		return 0
	}
	return publicAddresses(p)
}

// publicAddresses counts the addresses of a network that passed for narrow.
func publicAddresses(p netip.Prefix) int {
	bits := 56
	if p.Addr().Is4() {
		bits = 32
	}
	return 1 << max(0, bits-p.Bits())
}

func within(networks []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool {
		return n.Bits() <= p.Bits() && n.Contains(p.Addr())
	})
}

// road refuses to trust the address that everybody seems to come from: the
// default gateway, or a bridge behind which a proxy stands.
func (b *compiler) road(n Network, around Surroundings, acknowledged []netip.Prefix) {
	for _, place := range []struct {
		addrs []netip.Addr
		what  string
	}{{around.Gateways, "the default gateway"}, {around.Bridges, "the bridge address"}} {
		for _, a := range place.addrs {
			if !n.Prefix.IsValid() || !n.Prefix.Contains(a) {
				continue
			}
			if slices.Contains(acknowledged, netip.PrefixFrom(a, a.BitLen())) {
				b.warn(n.At, fmt.Sprintf("trusted_client %s holds %s %s, as you acknowledged: whoever seems to come from there is trusted", n.Prefix, place.what, a), "")
				continue
			}
			b.stop(n.At, fmt.Sprintf("trusted_client %s holds %s %s, so every stranger whose address is lost on the way is trusted", n.Prefix, place.what, a),
				fmt.Sprintf(`name single hosts instead, or write acknowledge = ["%s"] if that host alone sends through it`, a))
		}
	}
}

// balancer refuses to trust a machine that passes strangers on: what it passes
// on without their names would be trusted.
func (b *compiler) balancer(n Network, listeners []Listener, acknowledged []netip.Prefix) {
	for _, l := range listeners {
		for _, p := range l.ProxyFrom {
			if !n.Prefix.IsValid() || !p.Prefix.IsValid() || !n.Prefix.Overlaps(p.Prefix) {
				continue
			}
			what := fmt.Sprintf("trusted_client %s is a balancer of listener %q, %s in %s", n.Prefix, l.Name, p.Prefix, p.At)
			if slices.Contains(acknowledged, p.Prefix) || slices.Contains(acknowledged, n.Prefix) {
				b.warn(n.At, what+", as you acknowledged: a port that it passes on to a listener of role trusted makes everybody trusted", "")
				continue
			}
			b.stop(n.At, what+": whoever it passes on without a PROXY header is trusted",
				fmt.Sprintf(`take it out of one of the two, or write acknowledge = ["%s"] if it passes nothing on to a listener of role trusted`, n.Prefix))
		}
	}
}

// OnTheRoad returns the trusted networks that hold one of the addresses that
// everybody seems to come from, and are not acknowledged: what must not be
// trusted when the machine's surroundings have changed since Compile.
func (p *Policy) OnTheRoad(around Surroundings) []Network {
	var found []Network
	for _, t := range p.source.Trusted {
		for _, n := range t.Networks {
			var b compiler
			b.road(n, around, t.Acknowledged)
			if fatal, _ := problem.Split(joined(b.problems)); fatal != nil {
				found = append(found, n)
			}
		}
	}
	return found
}
