package verdict

import (
	"fmt"
	"net/netip"
	"strings"

	"postern/mail"
)

// proof returns the arrival that proves the port open: that of the first form
// in the battery's order, so that the plainest explanation is given.
func (j *Judgement) proof() *Proof {
	for _, f := range j.Forms {
		if f.State != Arrived {
			continue
		}
		p := &Proof{FormResult: f, Kind: KindSMTP, Egress: f.Arrival.Peer.Addr().Unmap(), EgressName: f.Arrival.PTR, Hops: f.Arrival.Hops()}
		if p.EgressName == "" {
			p.EgressName = f.Arrival.Helo
		}
		if len(p.Hops) > 0 {
			p.SeenFrom = p.Hops[0].IP
		}
		p.place(j.Addr.Addr().Unmap(), j.From.Unmap())
		return p
	}
	return nil
}

// place applies the address rule: where the first hop saw us come from (R)
// and where the message came out (E), against the tested address (X) and our
// own (T), tell a server that relays from one that has lost its clients'
// addresses and from a port that is forwarded to somebody else's server.
func (p *Proof) place(x, t netip.Addr) {
	note := func(format string, args ...any) { p.Notes = append(p.Notes, fmt.Sprintf(format, args...)) }
	r := p.SeenFrom
	switch {
	case t.IsLoopback() && x.IsLoopback():
		note("tested from the machine itself, which many servers trust: test once more from outside")
	case !r.IsValid():
		note("the first hop does not say where it saw us come from")
	case r == t:
	case r == x && p.Egress != x:
		p.Kind = KindForward
		note("the first hop saw %s, not us: it took the stranger for its customer", r)
		return
	case claimed(p.Envelope.MoveArg, p.Form.Hole, r):
		note("the server believed the address that the form claimed, %s", r)
	case r == x || r.IsLoopback() || r.IsPrivate() || r.IsLinkLocalUnicast():
		note("the server saw us come from %s, so it has lost its clients' addresses (container proxy, address translation or load balancer): mend the network, not the relay rules", r)
	default:
		note("the first hop saw us come from %s, not from %s: a translated address, or another machine took the message first", r, t)
	}
	if p.Egress != x {
		note("the message left through %s (%s), so that address will be put on blocklists", p.Egress, p.EgressName)
	}
}

// claimed reports whether the form itself made the server believe address r.
func claimed(arg, hole string, r netip.Addr) bool {
	switch hole {
	case "proxy-trust", "xclient-trust":
		return arg == "" && r.IsLoopback() || strings.Contains(arg, r.String()) || r.IsLoopback()
	}
	return false
}

// Path returns the way of the message, one text for each station.
func (p Proof) Path() []string {
	path := make([]string, 0, len(p.Hops)+1)
	for _, h := range p.Hops {
		path = append(path, station(h))
	}
	return append(path, fmt.Sprintf("collector, from %s", p.Egress))
}

func station(h mail.Received) string {
	by := h.By
	if by == "" {
		by = "a server without a name"
	}
	if h.IP.IsValid() {
		return fmt.Sprintf("%s, from %s", by, h.IP)
	}
	return by
}
