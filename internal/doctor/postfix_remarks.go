package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// remarks are what is no open door, but should be known or mended.
func (s *scope) remarks() []Finding {
	return slices.Concat(s.remarkLogin(), s.remarkCatchAll(), s.remarkForwarded(), s.remarkBareNewline(),
		s.remarkPrivate(), s.remarkDomains(), s.remarkEverybodys())
}

func (s *scope) remark(level Level, name, what, do string, forms ...string) []Finding {
	return []Finding{{Check: name, Level: level, At: s.pos(s.raw(name).at), What: what, Do: do, Forms: forms}}
}

func (s *scope) remarkLogin() []Finding {
	if !s.yes("smtpd_sasl_auth_enable") {
		return nil
	}
	var list []Finding
	if !s.yes("smtpd_tls_auth_only") && !s.demandsTLS() && !s.yes("smtpd_tls_wrappermode") {
		list = s.remark(Warning, "smtpd_tls_auth_only", "logins are offered without TLS, and passwords can be read on their way ("+s.service.name+")",
			"postconf -e 'smtpd_tls_auth_only = yes'\npostfix reload")
	}
	if !isWord(s.get("smtpd_sasl_security_options").words(), "noanonymous") {
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
			if strings.HasPrefix(e.key, "@") && e.test == nil {
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
	for _, a := range s.families() {
		if m := s.hasClient("smtpd_authorized_xclient_hosts", stranger(a)); m.doubt.undecided != "" {
			return s.remark(Note, "smtpd_authorized_xclient_hosts", "not decided: who may say with XCLIENT that they are another: "+m.doubt.undecided,
				"see that it answers nothing to a stranger's address")
		}
		if m := s.hasClient(name, stranger(a)); m.yes {
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
	if !s.isSet(name) || !s.is(name, "no") {
		return nil
	}
	return s.remark(Warning, name, "a message may end at a bare line feed: a second one can be smuggled inside it, past the next server's checks (CVE-2023-51764)",
		"postconf -e 'smtpd_forbid_bare_newline = normalize'\npostfix reload", "smuggle-lf-lf", "smuggle-lf-crlf", "smuggle-crlf-lf")
}

// remarkPrivate: whole private ranges hold the gateways of containers and of
// address translation, and then everybody who comes through them.
func (s *scope) remarkPrivate() []Finding {
	var list []Finding
	for _, w := range s.patterns(s.get("mynetworks")) {
		p, flaw := parseNetwork(w.text.text)
		if flaw != "" || w.not || !slices.ContainsFunc(privateNetworks, p.Overlaps) {
			continue
		}
		whole := map[string]bool{"10.0.0.0/8": true, "172.16.0.0/12": true, "192.168.0.0/16": true, "fc00::/7": true}
		if whole[p.String()] {
			list = append(list, Finding{
				Check: "mynetworks", Level: Warning, At: s.pos(w.text.place()),
				What: fmt.Sprintf("mynetworks holds the whole of %s: strangers relay as soon as they arrive through a container's gateway or address translation", w.text.text),
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
	rt := s.router()
	for _, name := range []string{"mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains"} {
		for _, p := range rt.patterns(rt.get(name)) {
			if p.table == nil {
				continue
			}
			if _, d := p.table.find(key{text: strangerDomain}, false); d.undecided != "" {
				list = append(list, Finding{
					Check: name, Level: Note, At: s.pos(p.text.place()),
					What: fmt.Sprintf("not decided: which domains are yours, since %s", d.undecided),
					Do:   "see that it answers nothing to a foreign domain: postmap -q far.example " + shellWord(p.table.name),
				})
			}
		}
	}
	return list
}

// remarkEverybodys: a list of domains for which mail is delivered here that
// holds every domain makes this server a sink of other people's mail.
func (s *scope) remarkEverybodys() []Finding {
	var list []Finding
	rt := s.router()
	for _, name := range []string{"mydestination", "virtual_alias_domains", "virtual_mailbox_domains"} {
		if m := rt.member(name, false, subject{strangerDomain, asText}); m.yes {
			list = append(list, Finding{
				Check: name, Level: Warning, At: s.pos(m.pattern.place()),
				What: fmt.Sprintf("%s makes every domain one of ours: mail for others that reaches this server ends here", m.pattern.text),
				Do:   "name your own domains in " + name + ", without wildcard",
			})
		}
	}
	return list
}
