package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// remarks are what is no open door, but should be known or mended.
func (s *scope) remarks() []Finding {
	return slices.Concat(s.remarkLogin(), s.remarkCatchAll(), s.remarkForwarded(), s.remarkBareNewline(),
		s.remarkPrivate(), s.remarkDomains(), s.remarkNoRefusal())
}

func (s *scope) remark(level Level, name, what, do string, forms ...string) []Finding {
	return []Finding{{Check: name, Level: level, At: s.pos(s.raw(name).at), What: what, Do: do, Forms: forms}}
}

func (s *scope) remarkLogin() []Finding {
	if !s.yes("smtpd_sasl_auth_enable") {
		return nil
	}
	var list []Finding
	level := s.text("smtpd_tls_security_level")
	if !s.yes("smtpd_tls_auth_only") && level != "encrypt" && !s.yes("smtpd_tls_wrappermode") && !s.yes("smtpd_enforce_tls") {
		list = s.remark(Warning, "smtpd_tls_auth_only", "logins are offered without TLS, and passwords can be read on their way ("+s.service.name+")",
			"postconf -e 'smtpd_tls_auth_only = yes'\npostfix reload")
	}
	options := s.get("smtpd_sasl_security_options").words()
	if !slices.ContainsFunc(options, func(v value) bool { return v.text == "noanonymous" }) {
		list = append(list, s.remark(Problem, "smtpd_sasl_security_options", "without noanonymous a login needs neither name nor password, where the mechanism ANONYMOUS is offered",
			"postconf -e 'smtpd_sasl_security_options = noanonymous'\npostfix reload")...)
	}
	return list
}

// remarkCatchAll: what takes every recipient of ours is a sink, or sends
// notices to forged senders.
func (s *scope) remarkCatchAll() []Finding {
	var list []Finding
	if s.text("local_recipient_maps") == "" {
		if s.text("luser_relay") != "" {
			list = s.remark(Note, "luser_relay", "mail for every name at your domains is taken: a catch-all draws spam", "")
		} else {
			list = s.remark(Warning, "local_recipient_maps", "it is empty: mail for unknown users is taken and returned to senders that may be forged (backscatter)",
				"postconf -e 'local_recipient_maps = proxy:unix:passwd.byname $alias_maps'\npostfix reload", "dsn-reflect")
		}
	}
	for _, w := range s.get("virtual_alias_maps").words() {
		if !isTable(w.text) {
			continue
		}
		for _, e := range s.table(w).entries {
			if strings.HasPrefix(e.key, "@") {
				list = append(list, Finding{
					Check: "virtual_alias_maps", Level: Note, At: s.pos(e.at),
					What: fmt.Sprintf("%s takes mail for every name there: a catch-all draws spam", e.key),
				})
			}
		}
	}
	return list
}

// remarkForwarded: XFORWARD grants nothing, but lets strangers write the log.
func (s *scope) remarkForwarded() []Finding {
	const name = "smtpd_authorized_xforward_hosts"
	stranger := client{addr: s.families()[0], name: "unknown"}
	if m := s.matchClient(s.get("smtpd_authorized_xclient_hosts"), stranger, 0); m.undecided != "" {
		return s.remark(Note, "smtpd_authorized_xclient_hosts", "not decided: who may say with XCLIENT that they are another: "+m.undecided,
			"see that it answers nothing to a stranger's address")
	}
	for _, a := range s.families() {
		if m := s.matchClient(s.get(name), client{addr: a, name: "unknown"}, 0); m.yes {
			return []Finding{{
				Check: name, Level: Warning, At: s.pos(m.pattern.place()),
				What: strangers(m.pattern.text) + " may say with XFORWARD what the log has of them; it opens no relay",
				Do:   "postconf -e 'smtpd_authorized_xforward_hosts ='\npostfix reload",
			}}
		}
	}
	return nil
}

func (s *scope) remarkBareNewline() []Finding {
	const name = "smtpd_forbid_bare_newline"
	if v := s.text(name); !s.isSet(name) || v != "no" {
		return nil
	}
	return s.remark(Warning, name, "a message may end at a bare line feed: a second one can be smuggled inside it, past the next server's checks (CVE-2023-51764)",
		"postconf -e 'smtpd_forbid_bare_newline = normalize'\npostfix reload", "smuggle-lf-lf", "smuggle-lf-crlf", "smuggle-crlf-lf")
}

// remarkPrivate: whole private ranges hold the gateways of containers and of
// address translation, and then everybody who comes through them.
func (s *scope) remarkPrivate() []Finding {
	var list []Finding
	for _, w := range s.get("mynetworks").words() {
		p, ok := parseNetwork(w.text)
		if !ok || !slices.ContainsFunc(privateNetworks, p.Masked().Overlaps) {
			continue
		}
		whole := map[string]bool{"10.0.0.0/8": true, "172.16.0.0/12": true, "192.168.0.0/16": true, "fc00::/7": true}
		if whole[p.Masked().String()] {
			list = append(list, Finding{
				Check: "mynetworks", Level: Warning, At: s.pos(w.place()),
				What: fmt.Sprintf("mynetworks holds the whole of %s: strangers relay as soon as they arrive through a container's gateway or address translation", w.text),
				Do:   "name the single hosts that send through this server",
			})
		}
	}
	return list
}

// remarkDomains: where a list of own domains is in a database, nobody can say
// from the text which domains it holds.
func (s *scope) remarkDomains() []Finding {
	var list []Finding
	for _, name := range []string{"mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains"} {
		for _, w := range s.get(name).words() {
			if !isTable(w.text) {
				continue
			}
			if t := s.table(w); t.unread != "" {
				list = append(list, Finding{
					Check: name, Level: Note, At: s.pos(w.place()),
					What: fmt.Sprintf("not decided: which domains are yours, since %s says so and %s", t.name, t.unread),
					Do:   "see that it answers nothing to a foreign domain: postmap -q far.example " + shellWord(t.name),
				})
			}
		}
	}
	return list
}

// remarkNoRefusal: Postfix answers 451 to all when no list refuses foreign
// recipients.
func (s *scope) remarkNoRefusal() []Finding {
	for _, name := range []string{"smtpd_relay_restrictions", "smtpd_recipient_restrictions"} {
		if slices.ContainsFunc(restrictions("recipient", s.get(name)), refuses) {
			return nil
		}
	}
	return s.remark(Warning, "smtpd_relay_restrictions", "neither this nor smtpd_recipient_restrictions refuses foreign recipients: Postfix answers 451 to everybody until one does",
		"postconf -e 'smtpd_relay_restrictions = "+safeRelay+"'\npostfix reload")
}
