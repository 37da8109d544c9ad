package config

import (
	"fmt"
	"net/netip"
	"strings"

	"postern/guard"
	"postern/policy"
)

var userBlock = block{
	name: "user", label: "anna", many: true, says: "somebody who may log in; the password is kept in the state (postern user add)",
	words: []word{
		{"may_send_as", "list", "nobody", `addresses, "*@example.org", "*", or "<>" for notices`},
		{"limit", "rate", "limits.per_user", "messages in a time; beyond, they are held"},
	},
	read: func(r *reader, s section) {
		u := policy.User{Name: s.label, MaySendAs: r.senders(s), At: s.at}
		if s.label == "" || strings.ContainsAny(s.label, "/\x00\"<> ") {
			r.stop(s.at, fmt.Sprintf("user %q is no name", s.label), "use letters, digits, dot and hyphen")
		}
		s.rate("limit", func(rate guard.Rate) { r.settings.Guard.Clients[s.label] = rate })
		r.settings.Policy.Users = append(r.settings.Policy.Users, u)
	},
}

var trustedBlock = block{
	name: "trusted_client", label: "scanner", many: true, says: "a device that cannot log in, known by its address, on listeners of role trusted only",
	words: []word{
		{"address", "text", "", "its address, or a narrow network"},
		{"addresses", "list", "", "several of them"},
		{"may_send_as", "list", "nobody", `addresses, "*@example.org", or "<>" for notices`},
		{"limit", "rate", "limits.per_client", "recipients in a time; beyond, messages are held"},
		{"acknowledge", "list", "", "networks and addresses that are refused as too wide or as a gateway, and are meant all the same"},
	},
	read: func(r *reader, s section) {
		t := policy.TrustedClient{Name: s.label, MaySendAs: r.senders(s), At: s.at}
		for _, v := range append(s.texts("address"), s.texts("addresses")...) {
			if n, ok := r.network(v, "trusted_client"); ok {
				t.Networks = append(t.Networks, policy.Network{Prefix: n, At: v.at})
			}
		}
		for _, v := range s.texts("acknowledge") {
			if n, ok := r.network(v, "acknowledge"); ok {
				t.Acknowledged = append(t.Acknowledged, netip.PrefixFrom(n.Addr(), n.Bits()))
			}
		}
		s.rate("limit", func(rate guard.Rate) { r.settings.Guard.Clients[s.label] = rate })
		r.settings.Policy.Trusted = append(r.settings.Policy.Trusted, t)
	},
}

func (r *reader) senders(s section) []policy.Senders {
	var list []policy.Senders
	for _, v := range s.texts("may_send_as") {
		p, err := policy.ParseSenders(v.text)
		if err != nil {
			r.stop(v.at, fmt.Sprintf("may_send_as %q: %v", v.text, err), `write name@domain, *@domain, "*" or "<>"`)
			continue
		}
		p.At = v.at
		list = append(list, p)
	}
	return list
}
