package config

import "strings"

// traps are words of other servers, and words that open a relay by accident.
// Each is told why it does not exist and what to write instead.
var traps = map[string][2]string{
	"mynetworks":                   {"mynetworks: a list of networks that may relay is how relays are opened by accident", `name each client: trusted_client "scanner" { address = "10.1.2.40", may_send_as = [...] }`},
	"relay_domains":                {"relay_domains: a domain that is relayed for is a domain with a next hop", `write domain "example.org" { deliver = "smtp:host:25" }`},
	"permit_mx_backup":             {"permit_mx_backup: who publishes our name as an MX must not decide what we relay", `name the domains: domain "example.org" { deliver = "smtp:host:25" }`},
	"xclient":                      {"xclient: Postern takes nobody's word for who the client is", "let the balancer speak PROXY, and name it with proxy_from"},
	"xclient_from":                 {"xclient_from: Postern takes nobody's word for who the client is", "let the balancer speak PROXY, and name it with proxy_from"},
	"proxy_protocol":               {"proxy_protocol: from anybody it would let strangers choose their address", `name the balancers: proxy_from = ["192.0.2.2"]`},
	"password":                     {"password: passwords do not belong in a file that others read", "postern user passwd NAME"},
	"role_flags":                   {"role_flags: a listener has one role", "give it a role"},
	"auth":                         {"auth: who logs in does so on port 465 or 587, and nobody on port 25", `write listener "submissions" { port = 465 }`},
	"smtpd_relay_restrictions":     {"smtpd_relay_restrictions: there is no list of restrictions; a recipient is granted for one of three reasons, or refused", "see docs/policy.md"},
	"smtpd_recipient_restrictions": {"smtpd_recipient_restrictions: there is no list of restrictions; a recipient is granted for one of three reasons, or refused", "see docs/policy.md"},
	"sender_access":                {"sender_access: a sender's address is what anybody can write, and grants nothing", "name users and trusted clients instead"},
	"percent_hack":                 {"percent_hack: an address is never read as a route", "leave it out"},
	"alert":                        {"alert is not built yet: a failed audit is in the log, and ends the relay", "leave it out"},
	"from_outside":                 {"from_outside is not built yet", "leave it out, and run postern check from elsewhere"},
	"disk_reserve":                 {"disk_reserve is not built yet", "leave it out"},
	"gateway":                      {"gateway is not built yet", "leave it out"},
	"blocklists":                   {"blocklists is not built yet", "leave it out"},
	"acme":                         {"acme is not built yet", "name the files of a certificate: tls { certificate = ..., key = ... }"},
	"console":                      {"console is not built yet", "leave it out"},
}

// trap says why a block does not know a word.
func trap(block, name string) (why, do string, known bool) {
	switch t, known := traps[name]; {
	case name == "password" && block == "route":
		return t[0], `write login = "provider.login": a file with user and password on two lines, readable for this user alone`, true
	case known:
		return t[0], t[1], true
	case strings.HasPrefix(name, "smtpd_"):
		return name + " is a word of Postfix; there is no list of restrictions here: a recipient is granted for one of three reasons, or refused", "see docs/configuration.md for the words that there are", true
	}
	return "", "", false
}
