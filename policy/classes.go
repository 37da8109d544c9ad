package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"postern/internal/problem"
)

// A Class is an interval of addresses between which no rule of the policy can
// tell a difference. The classes of a policy cover both families without gap
// or overlap, so a statement about every class is one about every address.
type Class struct {
	First, Last netip.Addr
	Who         string      // whose addresses they are, for a person
	Trusted     string      // the trusted client that they belong to, or ""
	At          problem.Pos // the line that made it a class; zero for the rest
}

// Contains reports whether a belongs to the class. A mapped address is judged
// as the IPv4 address that it is.
func (c Class) Contains(a netip.Addr) bool {
	a = a.Unmap()
	return a.Is4() == c.First.Is4() && c.First.Compare(a) <= 0 && a.Compare(c.Last) <= 0
}

// A cut is one network at whose ends the address space is cut.
type cut struct {
	prefix netip.Prefix
	who    string
	at     problem.Pos
}

// cuts returns every network that the policy or a person distinguishes, the
// narrowest last.
func (p *Policy) cuts() []cut {
	list := []cut{{loopback[0], "this machine", problem.Pos{}}, {loopback[1], "this machine", problem.Pos{}}}
	for _, n := range private {
		list = append(list, cut{n, "private networks", problem.Pos{}})
	}
	for _, l := range p.source.Listeners {
		for _, n := range l.ProxyFrom {
			list = append(list, cut{n.Prefix, fmt.Sprintf("proxy of listener %q", l.Name), n.At})
		}
	}
	for _, t := range p.source.Trusted {
		for _, n := range t.Networks {
			list = append(list, cut{n.Prefix, fmt.Sprintf("trusted client %q", t.Name), n.At})
		}
	}
	for _, g := range []struct {
		addrs []netip.Addr
		who   string
	}{{p.source.Around.Own, "this machine"}, {p.source.Around.Bridges, "a bridge of this machine"}, {p.source.Around.Gateways, "the default gateway"}} {
		for _, a := range g.addrs {
			a = a.Unmap().WithZone("")
			list = append(list, cut{netip.PrefixFrom(a, a.BitLen()), g.who, problem.Pos{}})
		}
	}
	list = slices.DeleteFunc(list, func(c cut) bool { return !c.prefix.IsValid() })
	slices.SortStableFunc(list, func(a, b cut) int { return a.prefix.Bits() - b.prefix.Bits() })
	return list
}

// Classes cuts both families at the ends of every network that matters: n
// networks give at most 2n+1 classes of a family.
func (p *Policy) Classes() []Class {
	cuts := p.cuts()
	var all []Class
	for _, zero := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		starts := []netip.Addr{zero}
		for _, c := range cuts {
			if c.prefix.Addr().Is4() != zero.Is4() {
				continue
			}
			starts = append(starts, c.prefix.Masked().Addr())
			if next := last(c.prefix).Next(); next.IsValid() {
				starts = append(starts, next)
			}
		}
		slices.SortFunc(starts, netip.Addr.Compare)
		starts = slices.Compact(starts)
		for i, first := range starts {
			end := last(netip.PrefixFrom(zero, 0))
			if i+1 < len(starts) {
				end = starts[i+1].Prev()
			}
			all = append(all, p.class(first, end, cuts))
		}
	}
	return all
}

func (p *Policy) class(first, end netip.Addr, cuts []cut) Class {
	c := Class{First: first, Last: end, Who: "everybody else"}
	for _, cut := range cuts { // the narrowest is last and names the class
		if cut.prefix.Contains(first) {
			c.Who, c.At = cut.who, cut.at
		}
	}
	if t, n := p.trustedBy(first); t != nil {
		c.Trusted, c.Who, c.At = t.name, fmt.Sprintf("trusted client %q", t.name), n.At
	}
	return c
}

// ClassOf returns the class of an address.
func (p *Policy) ClassOf(a netip.Addr) Class {
	for _, c := range p.Classes() {
		if c.Contains(a) {
			return c
		}
	}
	return Class{}
}

// last returns the last address of a network.
func last(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(raw) // it has the length of an address
	return a
}

// Witnesses returns the addresses whose treatment on the wire shows that of
// everybody: of every class that the configuration made, the first and last
// address and both neighbours; of the rest, one each.
func (p *Policy) Witnesses() []netip.Addr {
	var all []netip.Addr
	add := func(a netip.Addr) {
		if a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	for _, c := range p.Classes() {
		if c.At.IsZero() {
			add(inside(c))
			continue
		}
		add(c.First)
		add(c.Last)
		add(c.First.Prev())
		add(c.Last.Next())
	}
	return all
}

// inside picks an address of a class that nobody has: a documentation address
// where one is in it (RFC 5737, RFC 3849), else the first.
func inside(c Class) netip.Addr {
	for _, text := range []string{"198.51.100.66", "203.0.113.66", "192.0.2.66", "127.0.0.1", "10.66.0.66", "172.16.66.66", "192.168.66.66", "2001:db8:66::66", "fd66::66", "::1"} {
		if a := netip.MustParseAddr(text); c.Contains(a) {
			return a
		}
	}
	return c.First
}
