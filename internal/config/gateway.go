package config

import (
	"fmt"

	"postern/door"
	"postern/guard"
	"postern/policy"
	"postern/serve"
)

var gatewayBlock = block{
	name: "gateway", label: "connect", many: true, says: "a proxy that leads people whom we know to places that are named, and nobody else anywhere",
	words: []word{
		{"door", "socks, connect", "the name, where it is one of these", "SOCKS 4a and 5, or HTTP's CONNECT"},
		{"port", "number", "", "the TCP port"},
		{"addresses", "list", "all of IPv4 and IPv6", "addresses of this machine"},
		{"login", "true, false", "false", "users may log in"},
		{"clients", "list", "", "trusted clients that need no login"},
		{"to", "list", "", `where it leads: "mail.example.org:587", "192.0.2.7:25", or "*:443" for every host on one port; never port 25 of every host`},
		{"tls", "true, false", "false", "TLS from the first octet, with the host's certificate"},
		{"private", "list", "", "networks from which a password may come without TLS"},
		{"tunnels_per_user", "number", "200", "at once, of one user or trusted client, through all gateways"},
		{"new_tunnels", "rate", "600/m", "of one user or trusted client"},
	},
	read: readGateway,
}

var yesNo = []string{"true", "false"}

func readGateway(r *reader, s section) {
	d, err := door.Parse(s.label)
	s.one("door", []string{"socks", "connect"}, func(name string) { d, err = door.Parse(name) })
	if err != nil || d != door.SOCKS && d != door.Connect {
		r.stop(s.at, fmt.Sprintf("gateway %q does not say what it speaks", s.label), `write door = "socks" or "connect"`)
	}
	addrs := r.sockets(s)
	w := serve.Gateway{Name: s.label, Door: d, Addrs: addrs, Limits: guard.DefaultTunnelLimits, At: s.at}
	p := policy.Gateway{Name: s.label, At: s.at}
	s.one("login", yesNo, func(word string) { p.Login = word == "true" })
	s.one("tls", yesNo, func(word string) { w.TLS = word == "true" })
	s.number("tunnels_per_user", func(n int) { w.Limits.AtOnce = n })
	s.rate("new_tunnels", func(rate guard.Rate) { w.Limits.New = rate })
	for _, v := range s.texts("clients") {
		p.Clients = append(p.Clients, policy.Allowed{Client: v.text, At: v.at})
	}
	for _, v := range s.texts("to") {
		reach, err := policy.ParseReach(v.text)
		if err != nil {
			r.stop(v.at, fmt.Sprintf("to: %v", err), `write "mail.example.org:587", "192.0.2.7:25" or "*:443"`)
			continue
		}
		reach.At = v.at
		p.To = append(p.To, reach)
	}
	for _, v := range s.texts("private") {
		if n, ok := r.network(v, "private"); ok {
			w.Private = append(w.Private, n)
		}
	}
	if p.Login && !w.TLS && len(w.Private) == 0 {
		r.stop(s.at, fmt.Sprintf("gateway %q takes passwords that everybody on the way can read", s.label),
			`write tls = true, or name the networks that are private: private = ["10.1.2.0/24"]`)
	}
	r.shared(serve.Listener{Name: s.label, Addrs: addrs, At: s.at})
	r.settings.Gateways = append(r.settings.Gateways, w)
	r.settings.Policy.Gateways = append(r.settings.Policy.Gateways, p)
}
