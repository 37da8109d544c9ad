package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/machine"
)

// ourName is what the kernel calls a relay that runs already.
const ourName = "postern"

// checkListeners: each address can be listened on, or is held by whom.
func checkListeners(ctx context.Context, s Server, m Machine) []Finding {
	var list []Finding
	for _, l := range s.Listeners {
		for _, a := range l.Addrs {
			list = append(list, checkListener(ctx, l, a, m))
		}
	}
	return list
}

func checkListener(ctx context.Context, l Listener, a netip.AddrPort, m Machine) Finding {
	head := fmt.Sprintf("listener %q, %s: ", l.Name, a)
	if held, ok := machine.Holder(m.Sockets, a); ok {
		switch {
		case held.Process == ourName:
			return Finding{Level: OK, What: head + fmt.Sprintf("postern listens there already (pid %d)", held.PID)}
		case held.Process == "":
			return Finding{
				Level: Problem, What: head + fmt.Sprintf("held by a process of another user (%s)", held.Addr),
				Do: "run postern doctor as root to see which, and stop it, or give the listener another port",
			}
		}
		return Finding{
			Level: Problem, What: head + fmt.Sprintf("held by %s (pid %d, %s)", held.Process, held.PID, held.Addr),
			Do: fmt.Sprintf("stop %s and keep it from starting, or give the listener another port", held.Process),
		}
	}
	if !m.Facts.Ports.May(a.Port()) {
		return Finding{
			Level: Problem, What: head + fmt.Sprintf("ports below %d need a capability that this process has not", m.Facts.Ports.First),
			Do: "start it from its systemd unit, which gives AmbientCapabilities=CAP_NET_BIND_SERVICE, or paste:\nsetcap cap_net_bind_service=+ep \"$(command -v postern)\"",
		}
	}
	opened, err := m.Listen(ctx, "tcp", a.String())
	if err != nil {
		return Finding{Level: Problem, What: head + err.Error(), Do: "listen on an address of this machine: " + m.ownInWords()}
	}
	opened.Close()
	return Finding{Level: OK, What: head + "free"}
}

func (m Machine) ownInWords() string {
	var words []string
	for _, i := range m.Facts.Own {
		words = append(words, i.Prefix.Addr().String())
	}
	return strings.Join(words, ", ")
}

// checkReach says what can be known from here of whether strangers reach the
// listeners, and how to know the rest.
func checkReach(_ context.Context, s Server, m Machine) []Finding {
	var list []Finding
	outside := false
	for _, l := range s.Listeners {
		loopback := len(l.Addrs) > 0 && !slices.ContainsFunc(l.Addrs, func(a netip.AddrPort) bool { return !a.Addr().IsLoopback() })
		outside = outside || !loopback
		if loopback && l.Role == "mx" {
			list = append(list, Finding{
				Level: Warning, What: fmt.Sprintf("listener %q listens on loopback only: no mail from elsewhere arrives", l.Name),
				Do: fmt.Sprintf("take addresses out of listener %q, or name an address of this machine", l.Name),
			})
		}
	}
	if !outside {
		return list
	}
	if len(m.publicAddrs()) == 0 {
		list = append(list, Finding{
			Level: Note, What: "this machine has no public address (" + m.ownInWords() + "): what comes from outside is passed on by something in front, which may hide who it came from",
			Do: "see that it keeps the client's address, or speaks PROXY and is named in proxy_from",
		})
	}
	if m.Facts.Container != "" {
		list = append(list, Finding{
			Level: Note, What: fmt.Sprintf("this is a container (%s): whether its ports are published, and whether clients' addresses come through, is set outside it", m.Facts.Container),
			Do: "publish the ports without a userland proxy, or use the host's network",
		})
	}
	return append(list, Finding{
		Level: Note, What: "not decided: whether a firewall or provider lets others reach the listeners cannot be seen from here",
		Do: "on another machine, paste:\npostern check --collector COLLECTOR " + s.Hostname.String(),
	})
}

// checkTrust: an address that strangers may seem to come from is trusted. A
// proxy that ends connections on this machine makes loopback such an address.
func checkTrust(_ context.Context, s Server, m Machine) []Finding {
	var list []Finding
	for _, p := range s.Trusted {
		for _, a := range m.Facts.Roads() {
			if !p.Contains(a) {
				continue
			}
			list = append(list, Finding{
				Level: Problem, What: fmt.Sprintf("trusted network %s holds %s %s: whoever comes through it would be trusted", p, m.roadInWords(a), a),
				Do: "name the single hosts that may send, none of which is this address",
			})
		}
		if p.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 1})) || p.Contains(netip.IPv6Loopback()) {
			for _, name := range m.Facts.Forwarders {
				list = append(list, Finding{
					Level: Warning, What: fmt.Sprintf("loopback (%s) is trusted, and %s runs here: what it passes on may come from loopback", p, name),
					Do: "see that it does not lead to a listener of Postern, or take loopback out of the trusted clients",
				})
			}
		}
	}
	if len(list) == 0 && len(s.Trusted) > 0 {
		list = append(list, Finding{Level: OK, What: fmt.Sprintf("no trusted network (%d) holds a gateway, a bridge or an address of this machine", len(s.Trusted))})
	}
	return list
}

func (m Machine) roadInWords(a netip.Addr) string {
	switch {
	case slices.Contains(m.Facts.Gateways, a):
		return "the default gateway"
	case slices.Contains(m.Facts.Bridges(), a):
		return "the bridge of containers"
	}
	return "this machine's own address"
}
