package config

import (
	"net/netip"
	"time"

	"postern/guard"
	"postern/mail"
	"postern/policy"
	"postern/serve"
)

// Ports of a relay that nobody has configured: no root is needed for them.
const (
	defaultMX         = 2525
	defaultSubmission = 2587
)

// Default is what holds without a configuration: loopback only, no domains,
// and what is sent waits.
func Default(host mail.Domain) serve.Settings {
	s := serve.Settings{
		Local: true, Hold: "outgoing mail waits: there is no configuration, so no route", Hops: map[string]serve.NextHop{},
		Guard: guard.DefaultLimits, Audit: serve.Audit{Every: 6 * time.Hour}, Log: serve.Log{Level: "info"},
		Policy: policy.Source{Hostname: host, Hash: "default"},
	}
	for _, l := range []struct {
		role policy.Role
		port uint16
	}{{policy.MX, defaultMX}, {policy.Submission, defaultSubmission}} {
		s.Policy.Listeners = append(s.Policy.Listeners, policy.Listener{Name: l.role.String(), Role: l.role, Port: l.port})
		s.Listeners = append(s.Listeners, serve.Listener{Name: l.role.String(), Role: l.role, Addrs: []netip.AddrPort{
			netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.port), netip.AddrPortFrom(netip.IPv6Loopback(), l.port),
		}})
	}
	return s
}
