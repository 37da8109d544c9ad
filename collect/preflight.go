package collect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"time"

	"postern/plan"
	"postern/smtp"
)

// How long a preflight waits for one address, and for all.
const (
	preflightEach = 5 * time.Second
	preflightAll  = 20 * time.Second
	maxReach      = 8
)

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// Preflight connects to where mail for the domain goes, and sees whether it is
// this collector that answers there. The error says what would not be seen.
func (l *Local) Preflight(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, preflightAll)
	defer cancel()
	where, err := l.reach(ctx)
	if err != nil {
		return fmt.Errorf("mail for %s does not find its way to us: %w", l.Domain(), err)
	}
	return preflight(ctx, l.c.Dial, l.Domain(), where, l.Ours)
}

// Ours reports whether a banner, as it was read on whatever way, is one that
// this collector gave within the last hour.
func (l *Local) Ours(_ context.Context, banner string) (bool, error) {
	return l.keys.ours(banner, time.Now()), nil
}

// Front returns where a proxy can be led to: the addresses and the port at
// which mail reaches us.
func (l *Local) Front(ctx context.Context) (plan.Front, error) {
	where, err := l.reach(ctx)
	if err != nil {
		return plan.Front{}, err
	}
	return frontOf(ctx, l.c.Resolver, l.Domain(), where, l.c.Ports), nil
}

// frontOf makes a front of the places where mail arrives and of the further
// ports beside. Without a resolver there is no name that leads there.
func frontOf(ctx context.Context, r Resolver, domain string, where []netip.AddrPort, ports map[uint16]uint16) plan.Front {
	f := plan.Front{Ports: map[uint16]uint16{}}
	maps.Copy(f.Ports, ports)
	for _, a := range where {
		switch ip := a.Addr().Unmap(); {
		case f.Ports[25] != 0 && f.Ports[25] != a.Port():
			continue // one port for all: that of the best place
		case ip.Is4() && !f.Four.IsValid():
			f.Four = ip
		case ip.Is6() && !f.Six.IsValid():
			f.Six = ip
		}
		f.Ports[25] = a.Port()
	}
	if r != nil {
		f.Host = nameOf(ctx, r, domain, f)
	}
	return f
}

// nameOf returns an exchanger of the domain that has an address of the front.
func nameOf(ctx context.Context, r Resolver, domain string, f plan.Front) string {
	hosts, err := r.Exchangers(ctx, domain)
	if err != nil {
		return ""
	}
	for _, host := range hosts {
		addrs, err := r.Addresses(ctx, host)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if a = a.Unmap(); a == f.Four || a == f.Six {
				return strings.TrimSuffix(host, ".")
			}
		}
	}
	return ""
}

// reach returns the addresses that a relay would deliver to.
func (l *Local) reach(ctx context.Context) ([]netip.AddrPort, error) {
	if len(l.c.Reach) > 0 {
		return l.c.Reach, nil
	}
	if l.c.Resolver != nil {
		return exchangersOf(ctx, l.c.Resolver, l.Domain())
	}
	var list []netip.AddrPort
	for _, listener := range l.c.Listeners {
		a, err := netip.ParseAddrPort(listener.Addr().String())
		if err != nil {
			continue
		}
		switch a.Addr() { // listening everywhere, it listens on loopback
		case netip.IPv4Unspecified():
			a = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
		case netip.IPv6Unspecified():
			a = netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
		}
		list = append(list, a)
	}
	if len(list) == 0 {
		return nil, errors.New("the collector listens nowhere")
	}
	return list, nil
}

// exchangersOf returns port 25 of every address of a domain's exchangers, the
// best first.
func exchangersOf(ctx context.Context, r Resolver, domain string) ([]netip.AddrPort, error) {
	hosts, err := r.Exchangers(ctx, domain)
	if err != nil {
		return nil, err
	}
	var list []netip.AddrPort
	var failed error
	for _, host := range hosts {
		addrs, err := r.Addresses(ctx, host)
		failed = errors.Join(failed, err)
		for _, a := range addrs {
			if len(list) < maxReach {
				list = append(list, netip.AddrPortFrom(a, 25))
			}
		}
	}
	if len(list) == 0 {
		return nil, failed
	}
	return list, nil
}

// preflight asks every address. One that is ours is enough, since a relay
// tries the others of a host too; one where somebody else answers is too many.
func preflight(ctx context.Context, dial dialFunc, domain string, where []netip.AddrPort, isOurs func(context.Context, string) (bool, error)) error {
	found := false
	var silent, foreign error
	for _, a := range where {
		banner, err := bannerOf(ctx, dial, a)
		if err != nil {
			silent = errors.Join(silent, fmt.Errorf("%s: %w", a, err))
			continue
		}
		ok, err := isOurs(ctx, banner)
		switch {
		case err != nil:
			return fmt.Errorf("whether the collector answers at %s is not known: %w", a, err)
		case ok:
			found = true
		default:
			foreign = errors.Join(foreign, fmt.Errorf("%s: another server answers there: %.80q", a, banner))
		}
	}
	switch {
	case foreign != nil:
		return fmt.Errorf("mail for %s goes to others as well, and would not be seen: %w", domain, foreign)
	case !found:
		return fmt.Errorf("mail for %s cannot reach the collector from here, so no arrival would be seen; see that its port is open: %w", domain, silent)
	}
	return nil
}

// bannerOf returns the text of the banner at an address.
func bannerOf(ctx context.Context, dial dialFunc, a netip.AddrPort) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, preflightEach, fmt.Errorf("no answer within %s", preflightEach))
	defer cancel()
	conn, err := dial(ctx, "tcp", a.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	raw := smtp.NewRaw(conn, nil)
	r, err := raw.Reply(ctx)
	if err != nil {
		return "", err
	}
	// The answer is of no use, but a server that is left without QUIT logs it.
	_ = raw.Write(ctx, []byte("QUIT\r\n"))
	return strings.TrimSpace(r.String()), nil
}
