package check

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"postern/plan"
)

// A NotOursError says that a target may not be tested without its owner's word.
type NotOursError struct {
	Target plan.Target
	Addr   netip.Addr
}

func (e *NotOursError) Error() string {
	return fmt.Sprintf("%s (%s) is not an address of this machine, and nothing proves that it is yours", e.Target.Given, e.Addr)
}

// allowed reports whether every address of the target may be tested: it is
// this machine's own, or the caller says or proves that it is theirs.
func (c *Checker) allowed(ctx context.Context, t plan.Target, w located) error {
	if c.o.Owned {
		return nil
	}
	for _, a := range w.addrs {
		if !isLocal(a) && !c.proved(ctx, t, a) {
			return &NotOursError{Target: t, Addr: a}
		}
	}
	return nil
}

// isLocal reports whether a is one of this machine's addresses.
func isLocal(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, own := range addrs {
		if n, ok := own.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a.Unmap() {
				return true
			}
		}
	}
	return false
}
