package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

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
	v, given := s.text("port")
	port, err := strconv.ParseUint(v.text, 10, 16)
	switch {
	case s.body.Attributes["port"] == nil:
		r.stop(s.at, fmt.Sprintf("listener %q has no port", s.label), "write port = 25")
	case given && err != nil:
		r.stop(v.at, fmt.Sprintf("port %s is no port", v.text), "a port is a number from 1 to 65535; 0 takes one that is free")
	}
	l := serve.Listener{Name: s.label, Role: role, At: s.at}
	p := policy.Listener{Name: s.label, Role: role, At: s.at}
	for _, v := range s.texts("proxy_from") {
		if n, ok := r.network(v, "proxy_from"); ok {
			l.Proxy = append(l.Proxy, n)
			p.ProxyFrom = append(p.ProxyFrom, policy.Network{Prefix: n, At: v.at})
		}
	}
	for _, v := range s.texts("addresses") {
		a, err := netip.ParseAddr(v.text)
		if err != nil {
			r.stop(v.at, fmt.Sprintf("addresses: %q is no address", v.text), "write 192.0.2.7 or 2001:db8::7")
			continue
		}
		l.Addrs = append(l.Addrs, netip.AddrPortFrom(a.Unmap(), uint16(port)))
	}
	if s.body.Attributes["addresses"] == nil {
		l.Addrs = []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port)), netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port))}
	}
	r.settings.Listeners = append(r.settings.Listeners, l)
	r.settings.Policy.Listeners = append(r.settings.Policy.Listeners, p)
}

// hostPort reads HOST:PORT.
func (r *reader) hostPort(v value, text, name string) (string, bool) {
	i := strings.LastIndexByte(text, ':')
	if i <= 0 || i == len(text)-1 || strings.Trim(text[i+1:], "0123456789") != "" {
		r.stop(v.at, fmt.Sprintf("%s: %q is no host and port", name, text), "write mail.example.org:25")
		return "", false
	}
	return text, true
}
