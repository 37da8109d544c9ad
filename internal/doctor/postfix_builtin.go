package doctor

import (
	"net/netip"
	"slices"
	"strings"
)

// builtIn are Postfix's own defaults (postconf -d) of what decides who may
// relay. What is not here is empty.
var builtIn = map[string]string{
	"compatibility_level":             "0",
	"mydestination":                   "$myhostname, localhost.$mydomain, localhost",
	"myorigin":                        "$myhostname",
	"mynetworks_style":                "${{$compatibility_level} <level {2} ? {subnet} : {host}}",
	"inet_interfaces":                 "all",
	"inet_protocols":                  "all",
	"relay_domains":                   "${{$compatibility_level} <level {2} ? {$mydestination} : {}}",
	"virtual_alias_domains":           "$virtual_alias_maps",
	"virtual_alias_maps":              "$virtual_maps",
	"virtual_mailbox_domains":         "$virtual_mailbox_maps",
	"local_recipient_maps":            "proxy:unix:passwd.byname $alias_maps",
	"smtpd_relay_restrictions":        "${{$compatibility_level} <level {1} ? {} : {permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination}}",
	"smtpd_delay_reject":              "yes",
	"smtpd_sasl_security_options":     "noanonymous",
	"smtpd_sasl_tls_security_options": "$smtpd_sasl_security_options",
	"parent_domain_matches_subdomains": "debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks," +
		"qmqpd_authorized_clients,relay_domains,smtpd_access_maps",
	"allow_percent_hack":              "yes",
	"swap_bangpath":                   "yes",
	"allow_untrusted_routing":         "no",
	"resolve_dequoted_address":        "yes",
	"resolve_null_domain":             "no",
	"append_at_myorigin":              "yes",
	"smtpd_reject_unlisted_recipient": "yes",
	"default_transport":               "smtp",
	"relay_transport":                 "relay",
	"rewrite_service_name":            "rewrite",
	"append_dot_mydomain":             "${{$compatibility_level} <level {1} ? {yes} : {no}}",
	"smtpd_null_access_lookup_key":    "<>",
	"smtpd_authorized_xclient_hosts":  "",
	"smtpd_service_name":              "smtpd",
	"default_database_type":           "hash",
}

// builtIn returns a default, some of which hang on the machine.
func (s *scope) builtIn(name string) string {
	switch name {
	case "myhostname":
		return s.hostname
	case "mydomain":
		if _, domain, ok := strings.Cut(s.text("myhostname"), "."); ok {
			return domain
		}
		return "localdomain"
	case "mynetworks":
		return s.styledNetworks()
	case "config_directory":
		return s.dir
	}
	return builtIn[name]
}

// styledNetworks is what mynetworks is when mynetworks_style makes it, of the
// addresses on which Postfix receives mail.
func (s *scope) styledNetworks() string {
	var list []string
	for _, i := range s.own {
		a := i.Prefix.Addr().Unmap()
		if !s.receives(a) || !s.speaks(a) {
			continue
		}
		bits := a.BitLen()
		switch {
		case a.IsLoopback() && a.Is4():
			bits = 8
		case s.is("mynetworks_style", "subnet"), s.is("mynetworks_style", "class") && a.Is6():
			bits = i.Prefix.Bits() // IPv6 has no classes
		case s.is("mynetworks_style", "class"):
			bits = classOf(a)
		}
		p, err := a.WithZone("").Prefix(bits)
		if err == nil && !slices.Contains(list, inBrackets(p)) {
			list = append(list, inBrackets(p))
		}
	}
	return strings.Join(list, " ")
}

// receives reports whether inet_interfaces has an address.
func (s *scope) receives(a netip.Addr) bool {
	interfaces := s.get("inet_interfaces").words()
	return isWord(interfaces, "all") || isWord(interfaces, "loopback-only") && a.IsLoopback() ||
		slices.ContainsFunc(interfaces, func(v value) bool { return strings.Trim(v.text, "[]") == a.String() })
}

// speaks reports whether inet_protocols has an address's family.
func (s *scope) speaks(a netip.Addr) bool {
	list := s.get("inet_protocols").words()
	return isWord(list, "all") || a.Is4() && isWord(list, "ipv4") || a.Is6() && isWord(list, "ipv6")
}

// classOf is the prefix length of the class that an address belonged to
// before RFC 1519.
func classOf(a netip.Addr) int {
	switch first := a.As4()[0]; {
	case first < 128:
		return 8
	case first < 192:
		return 16
	}
	return 24
}
