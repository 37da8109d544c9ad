package deliver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/queue"
	"postern/internal/resolve"
	"postern/mail"
	"postern/policy"
)

// chance returns a number from 0 to 1: who waits together shall not come back
// together. Nobody gains who guesses it.
func chance() float64 { return rand.Float64() } //nolint:gosec // see above

func shuffle[T any](list []T) {
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] }) //nolint:gosec // as chance
}

// hosts returns the hosts of a route in the order in which they are tried. A
// trouble says why there is none.
func (d *Deliverer) hosts(ctx context.Context, way Route, domain string) ([]Host, *trouble) {
	if way.Kind != ToMX {
		list := slices.Clone(way.Hosts)
		shuffle(list)
		return list, nil
	}
	if literal, ok := strings.CutPrefix(domain, "["); ok {
		literal = strings.TrimPrefix(strings.ToLower(strings.TrimSuffix(literal, "]")), "ipv6:")
		return []Host{{Network: "tcp", Name: literal, Port: 25}}, nil
	}
	list, err := d.o.Resolver.MX(ctx, domain)
	switch {
	case errors.Is(err, resolve.ErrNullMX):
		return nil, fails(556, "5.1.10", domain+" says that it takes no mail (null MX)") // RFC 7505
	case errors.Is(err, resolve.ErrNoName):
		return nil, fails(550, "5.1.2", domain+" does not exist (NXDOMAIN)")
	case errors.Is(err, resolve.ErrNoData):
		list = []resolve.MX{{Host: domain}} // RFC 5321 section 5.1
	case errors.Is(err, resolve.ErrName):
		return nil, fails(550, "5.1.2", domain+" is not a name that the DNS can have")
	case err != nil:
		return nil, &trouble{note: "4.4.3 " + err.Error(), health: dead}
	}
	return order(list, d.o.Routes().Hostname.ASCII(), domain)
}

// order puts exchangers in the order in which they are tried: by preference,
// those of one preference by chance, and only those that are better than we
// are ourselves, or mail would go in circles (RFC 5321 section 5.1).
func order(list []resolve.MX, own, domain string) ([]Host, *trouble) {
	list = slices.Clone(list)
	shuffle(list)
	slices.SortStableFunc(list, func(a, b resolve.MX) int { return int(a.Preference) - int(b.Preference) })
	if i := slices.IndexFunc(list, func(m resolve.MX) bool { return strings.EqualFold(m.Host, own) }); i >= 0 {
		ours := list[i].Preference
		list = slices.DeleteFunc(list, func(m resolve.MX) bool { return m.Preference >= ours })
		if len(list) == 0 {
			return nil, fails(550, "5.4.6", fmt.Sprintf("the best exchanger of %s is this host, and %s is not one of its domains", domain, domain))
		}
	}
	hosts := make([]Host, len(list))
	for i, m := range list {
		hosts[i] = Host{Network: "tcp", Name: m.Host, Port: 25}
	}
	return hosts, nil
}

// fails is a trouble for good, in words that a server could have used.
func fails(code int, enhanced, text string) *trouble {
	return &trouble{state: queue.Failed, reply: mail.NewReply(code, enhanced, text), health: silent}
}

// addresses returns where a host is, or why mail may not go there.
func (d *Deliverer) addresses(ctx context.Context, way Route, h Host) ([]netip.Addr, *trouble) {
	list, err := d.o.Resolver.Addresses(ctx, h.Name)
	if len(list) == 0 {
		switch {
		case errors.Is(err, resolve.ErrNoName), errors.Is(err, resolve.ErrNoData), errors.Is(err, resolve.ErrName):
			if way.inside() {
				return nil, &trouble{note: fmt.Sprintf("4.4.4 %s: %v", h.Name, err), health: dead} // our own line, or a name that is not yet there
			}
			return nil, fails(550, "5.4.4", fmt.Sprintf("%s has no address: %v", h.Name, err))
		case err == nil:
			err = errors.New("no address")
		}
		return nil, &trouble{note: "4.4.3 " + err.Error(), health: dead}
	}
	if way.inside() {
		return interleave(list), nil
	}
	var kept []netip.Addr
	why := ""
	for _, a := range list {
		if w := policy.Inside(a, d.o.Own); w != "" {
			why = fmt.Sprintf("%s points to %s, %s, to which nobody's mail is delivered by name", h.Name, a, w)
			continue
		}
		kept = append(kept, a)
	}
	if len(kept) == 0 {
		return nil, fails(550, "5.4.4", why)
	}
	return interleave(kept), nil
}

// interleave lets the families take turns, IPv6 first (RFC 8305 section 4).
func interleave(list []netip.Addr) []netip.Addr {
	var six, four []netip.Addr
	for _, a := range list {
		if a.Unmap().Is4() {
			four = append(four, a.Unmap())
		} else {
			six = append(six, a)
		}
	}
	var out []netip.Addr
	for i := 0; i < max(len(six), len(four)); i++ {
		if i < len(six) {
			out = append(out, six[i])
		}
		if i < len(four) {
			out = append(out, four[i])
		}
	}
	return out
}
