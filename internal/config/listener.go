package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"postern/policy"
	"postern/serve"
)

var listenerBlock = block{
	name: "listener", label: "mx", many: true, says: "a way in; its role says for whom",
	words: []word{
		{"role", "mx, submission, submissions, trusted", "the name, where it is one of these", "mx takes mail for our domains from anybody; submission (STARTTLS) and submissions (TLS) are for those who log in; trusted is for trusted clients"},
		{"port", "number", "", "the TCP port; 0 takes one that is free"},
		{"addresses", "list", "all of IPv4 and IPv6", "addresses of this machine"},
		{"proxy_from", "list", "", "balancers that must begin with a PROXY header; nobody else is served then"},
	},
	read: readListener,
}

func roleNames() []string {
	var all []string
	for _, r := range policy.Roles() {
		all = append(all, r.String())
	}
	return all
}

func readListener(r *reader, s section) {
	role, _ := policy.ParseRole(s.label) // Compile says what is missing
	s.one("role", roleNames(), func(name string) { role, _ = policy.ParseRole(name) })
	l := serve.Listener{Name: s.label, Role: role, At: s.at, Addrs: r.sockets(s)}
	p := policy.Listener{Name: s.label, Role: role, At: s.at}
	if len(l.Addrs) > 0 {
		p.Port = l.Addrs[0].Port()
	}
	for _, v := range s.texts("proxy_from") {
		p.Port = 0 // clients reach the balancer, at a port of its own
		if n, ok := r.network(v, "proxy_from"); ok {
			l.Proxy = append(l.Proxy, n)
			p.ProxyFrom = append(p.ProxyFrom, policy.Network{Prefix: n, At: v.at})
		}
	}
	r.shared(l)
	r.settings.Listeners = append(r.settings.Listeners, l)
	r.settings.Policy.Listeners = append(r.settings.Policy.Listeners, p)
}

// sockets reads where a listener or a gateway listens.
func (r *reader) sockets(s section) (addrs []netip.AddrPort) {
	v, given := s.text("port")
	port, err := strconv.ParseUint(v.text, 10, 16)
	switch {
	case s.body.Attributes["port"] == nil:
		r.stop(s.at, fmt.Sprintf("%s %q has no port", s.block.name, s.label), "write port = 25")
	case given && err != nil:
		r.stop(v.at, fmt.Sprintf("port %s is no port", v.text), "a port is a number from 1 to 65535; 0 takes one that is free")
	}
	addresses := s.texts("addresses")
	for _, v := range addresses {
		a, err := netip.ParseAddr(v.text)
		if err != nil {
			r.stop(v.at, fmt.Sprintf("addresses: %q is no address", v.text), "write 192.0.2.7 or 2001:db8::7")
			continue
		}
		addrs = append(addrs, netip.AddrPortFrom(a.Unmap(), uint16(port)))
	}
	if s.body.Attributes["addresses"] == nil {
		addrs = []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port)), netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port))}
	}
	if s.body.Attributes["addresses"] != nil && len(addresses) == 0 {
		r.stop(s.at, fmt.Sprintf("%s %q listens nowhere", s.block.name, s.label), "leave addresses out for all of this machine, or name one")
	}
	return addrs
}

// shared refuses a name or a socket that another has already: the relay could
// not start with both.
func (r *reader) shared(l serve.Listener) {
	if l.Name == serve.MetricsSocket {
		r.stop(l.At, fmt.Sprintf("a listener or gateway cannot be called %q: the block metrics has a socket of that name", l.Name), "give it another name")
	}
	r.taken(l)
}

func (r *reader) taken(l serve.Listener) {
	for _, other := range r.settings.Ports() {
		for _, a := range l.Addrs {
			for _, b := range other.Addrs {
				same := a.Addr().Is4() == b.Addr().Is4() && (a.Addr() == b.Addr() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified())
				if same && a.Port() == b.Port() && a.Port() != 0 {
					r.stop(l.At, fmt.Sprintf("%s takes %s, which %s of %s has already", l.Called(), a, other.Called(), other.At), "give one of them another port, or addresses of its own")
					return
				}
			}
		}
	}
}

// hostPort reads HOST:PORT.
func (r *reader) hostPort(v value, text, name string) (string, bool) {
	host, port, err := net.SplitHostPort(text)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 || host == "" {
		r.stop(v.at, fmt.Sprintf("%s: %q is no host and port", name, text), "write mail.example.org:25, 192.0.2.7:25 or [2001:db8::7]:25")
		return "", false
	}
	return text, true
}
