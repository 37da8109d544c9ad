package doctor

import (
	"fmt"
	"net/netip"
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
	"allow_percent_hack":             "yes",
	"swap_bangpath":                  "yes",
	"allow_untrusted_routing":        "no",
	"resolve_dequoted_address":       "yes",
	"resolve_null_domain":            "no",
	"append_at_myorigin":             "yes",
	"append_dot_mydomain":            "${{$compatibility_level} <level {1} ? {yes} : {no}}",
	"smtpd_null_access_lookup_key":   "<>",
	"smtpd_authorized_xclient_hosts": "",
	"smtpd_service_name":             "smtpd",
	"default_database_type":          "hash",
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

// styledNetworks is what mynetworks is when mynetworks_style makes it.
func (s *scope) styledNetworks() string {
	style := s.text("mynetworks_style")
	var list []string
	for _, i := range s.own {
		a := i.Prefix.Addr().Unmap()
		bits := a.BitLen()
		switch {
		case a.IsLoopback() && a.Is4():
			bits = 8
		case style == "subnet":
			bits = i.Prefix.Bits()
		case style == "class" && a.Is4():
			bits = classOf(a)
		}
		p, err := a.WithZone("").Prefix(bits)
		if err != nil {
			continue
		}
		if a.Is6() {
			list = append(list, fmt.Sprintf("[%s]/%d", p.Addr(), bits))
			continue
		}
		list = append(list, p.String())
	}
	return strings.Join(list, " ")
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
