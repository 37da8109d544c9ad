package deliver

import (
	"context"
	"net/netip"

	"postern/internal/queue"
)

// A Way is how mail for a domain would leave now, and why.
type Way struct {
	Route Route
	Hosts []WayHost // in the order in which they would be tried
	Why   string    // why it would not leave; "": it would
	Fails bool      // for good
}

// A WayHost is one host of it.
type WayHost struct {
	Host  Host
	Addrs []netip.Addr
	Why   string // why it cannot be used; "": it can, as far as the DNS says
	Via   *queue.Via
}

// Explain follows the way of a destination without sending anything. With
// connect it also opens a session with each host, and ends it.
func (d *Deliverer) Explain(ctx context.Context, destination string, connect bool) Way {
	w := Way{Route: d.o.Routes().For(destination)}
	switch w.Route.Kind {
	case ToNobody:
		w.Why = w.Route.Why
		return w
	case ToMaildir:
		return w
	case ToMX, ToSmarthost, ToHop:
	}
	hosts, t := d.hosts(ctx, w.Route, destination)
	if t != nil {
		w.Why, w.Fails = t.why(), t.state == queue.Failed
		return w
	}
	usable := false
	w.Fails = true
	for _, h := range hosts {
		e := WayHost{Host: h}
		if h.Network != "unix" {
			e.Addrs, t = d.addresses(ctx, w.Route, h)
			if t != nil {
				e.Why = t.why()
				w.Fails = w.Fails && t.state == queue.Failed
			}
		}
		if connect && e.Why == "" {
			l, t := d.connect(ctx, w.Route, h, true)
			if t != nil {
				e.Why = t.why()
				w.Fails = false
			} else {
				via := l.via(0)
				e.Via = &via
				_ = l.client.Quit(ctx) // it has told all that was asked
			}
		}
		usable = usable || e.Why == ""
		w.Hosts = append(w.Hosts, e)
	}
	if usable {
		w.Fails = false
	} else {
		w.Why = "none of its hosts can be used"
	}
	return w
}
