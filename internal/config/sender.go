package config

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

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
		// The store keeps names in small letters: "Anna" here and "anna" there
		// are one user.
		u := policy.User{Name: strings.ToLower(s.label), MaySendAs: r.senders(s), At: s.at}
		if s.label == "" || strings.ContainsAny(s.label, reserved) || strings.ContainsFunc(s.label, unicode.IsControl) {
			r.stop(s.at, fmt.Sprintf("user %q is no name", s.label), "use letters, digits, dot and hyphen")
		}
		s.rate("limit", func(rate guard.Rate) { r.settings.Guard.Clients[u.Name] = rate })
		r.settings.Policy.Users = append(r.settings.Policy.Users, u)
	},
}

// reserved are characters that no user's name has.
const reserved = "/\"'`<>\\:,;()* "

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
		r.named(t)
		s.rate("limit", func(rate guard.Rate) { r.settings.Guard.Clients[s.label] = rate })
		r.settings.Policy.Trusted = append(r.settings.Policy.Trusted, t)
	},
}

// named refuses a trusted client whose name somebody else has: limits, logs and
// grants tell them apart by it. Users are read before.
func (r *reader) named(t policy.TrustedClient) {
	for _, other := range r.settings.Policy.Trusted {
		if other.Name == t.Name {
			r.stop(t.At, fmt.Sprintf("trusted_client %q stands twice, first in %s", t.Name, other.At), "join the two, or give one another name")
			return
		}
	}
	for _, u := range r.settings.Policy.Users {
		if u.Name == strings.ToLower(t.Name) {
			r.stop(t.At, fmt.Sprintf("trusted_client %q has the name of a user, in %s", t.Name, u.At), "give one of them another name")
			return
		}
	}
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
