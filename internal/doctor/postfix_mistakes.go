package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// switches are the parameters that must be yes or no, or Postfix's smtpd (or
// the service that rewrites addresses for it) ends when it reads them.
var switches = strings.Fields(`smtpd_helo_required smtpd_delay_reject strict_rfc821_envelopes disable_vrfy_command
	allow_untrusted_routing smtpd_sasl_auth_enable smtpd_sasl_authenticated_header broken_sasl_auth_clients
	show_user_unknown_table_name smtpd_reject_unlisted_sender smtpd_reject_unlisted_recipient smtpd_use_tls
	smtpd_enforce_tls smtpd_tls_wrappermode smtpd_tls_auth_only smtpd_tls_ask_ccert smtpd_tls_req_ccert
	smtpd_tls_received_header smtpd_peername_lookup smtpd_delay_open smtpd_client_port_logging
	smtpd_relay_before_recipient_restrictions smtputf8_enable soft_bounce disable_dns_lookups owner_request_special`)

var rewriteSwitches = strings.Fields(`swap_bangpath append_at_myorigin allow_percent_hack resolve_dequoted_address
	resolve_null_domain resolve_numeric_domain allow_min_user append_dot_mydomain`)

// fatal are the mistakes with which nobody is served at all.
func (s *scope) fatal() []Finding {
	var list []Finding
	check := func(s *scope, names []string) {
		for _, name := range names {
			if !s.isSet(name) || s.yes(name) || s.is(name, "no") {
				continue
			}
			list = append(list, s.remark(Warning, name, fmt.Sprintf("%s is neither yes nor no: Postfix serves nobody with it", name),
				fmt.Sprintf("postconf -e %s\npostfix reload", shellWord(name+" = no")))...)
		}
	}
	for _, name := range clientLists {
		list = append(list, s.fatalPatterns(name)...)
	}
	for _, name := range ownLists {
		list = append(list, s.router().fatalPatterns(name)...)
	}
	check(s, switches)
	list = append(list, s.unexpanded()...)
	check(s.router(), rewriteSwitches)
	if !s.serves() {
		list = append(list, s.remark(Warning, "smtpd_relay_restrictions",
			"neither this nor smtpd_recipient_restrictions refuses foreign recipients: Postfix serves nobody until one does",
			"postconf -e 'smtpd_relay_restrictions = "+safeRelay+"'\npostfix reload")...)
	}
	for _, name := range s.get("smtpd_restriction_classes").words() {
		if s.text(name.text) == "" {
			list = append(list, Finding{
				Check: "smtpd_restriction_classes", Level: Warning, At: s.pos(name.place()),
				What: fmt.Sprintf("the class %s has no definition: Postfix serves nobody without one", name.text),
				Do:   "set " + name.text + ", or take it out of smtpd_restriction_classes",
			})
		}
	}
	return list
}

// clientLists are lists of hosts and networks, ownLists those of domains.
var (
	clientLists = []string{"mynetworks", "smtpd_authorized_xclient_hosts", "smtpd_authorized_xforward_hosts", "permit_mx_backup_networks"}
	ownLists    = []string{"mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains"}
)

// unexpanded are the values in which a dollar sign is followed by no name, as
// where an expression stands in a line: Postfix wants two of them there.
func (s *scope) unexpanded() []Finding {
	names := slices.Concat(clientLists, []string{"smtpd_restriction_classes"})
	for _, stage := range stages {
		names = append(names, stage.list)
	}
	for _, class := range s.get("smtpd_restriction_classes").words() {
		names = append(names, class.text)
	}
	var list []Finding
	add := func(s *scope, names []string) {
		for _, name := range names {
			if s.get(name); s.broken[name] {
				list = append(list, s.remark(Warning, name, name+" has a dollar sign without a name: Postfix serves nobody with it",
					"write $$ for a dollar sign, then postfix reload")...)
			}
		}
	}
	add(s, names)
	add(s.router(), ownLists)
	return list
}

// fatalPatterns are the words of a list with which Postfix ends.
func (s *scope) fatalPatterns(name string) []Finding {
	var list []Finding
	for _, p := range s.patterns(s.get(name)) {
		if p.table != nil && !p.table.fatal || p.table == nil && p.doubt.flaw == "" {
			continue
		}
		flaw := p.doubt.flaw
		if p.table != nil {
			flaw = p.table.doubt.flaw
		}
		list = append(list, Finding{
			Check: name, Level: Warning, At: s.pos(p.text.place()),
			What: fmt.Sprintf("%s in %s %s: Postfix serves nobody with it", p.text.text, name, flaw),
			Do:   "mend it, then postfix reload",
		})
	}
	return list
}

// mistakes are what Postfix does not take: with some it serves nobody, to some
// it answers 451, some it passes over without more than a line in its log.
func (s *scope) mistakes() []Finding {
	list := s.fatal()
	rt := s.router()
	for _, name := range clientLists {
		list = append(list, s.listMistakes(name, true)...)
	}
	for _, name := range ownLists {
		list = append(list, rt.listMistakes(name, false)...)
	}
	seen := map[string]bool{}
	for _, stage := range stages {
		list = append(list, s.restrictionMistakes(stage.subject, s.get(stage.list), seen)...)
	}
	for _, name := range s.get("smtpd_restriction_classes").words() {
		list = append(list, s.restrictionMistakes("recipient", s.get(name.text), seen)...)
	}
	return list
}

func (s *scope) listMistakes(name string, clients bool) []Finding {
	var list []Finding
	for _, p := range s.patterns(s.get(name)) {
		flaw, whom := "", "everybody"
		if p.table != nil {
			list = append(list, s.tableMistakes(p.table)...)
			if !p.table.fatal {
				flaw = p.table.doubt.flaw
			}
		} else if text := p.text.text; clients && p.doubt.flaw == "" && isNetwork(text) {
			_, flaw = parseNetwork(text)
			whom = "every IPv4 client"
			if strings.Contains(text, ":") {
				whom = "every IPv6 client"
			}
		}
		if flaw == "" {
			continue
		}
		list = append(list, Finding{
			Check: name, Level: Warning, At: s.pos(p.text.place()),
			What: fmt.Sprintf("%s %s: Postfix answers 451 to %s that no word in front of it decides on", p.text.text, flaw, whom),
			Do:   "mend it in " + name + ", then postfix reload",
		})
	}
	return list
}

func (s *scope) tableMistakes(t *table) []Finding {
	var list []Finding
	for _, leaf := range t.leaves() {
		for _, line := range leaf.skipped {
			list = append(list, Finding{
				Check: leaf.name, Level: Warning, At: s.pos(line.place()),
				What: fmt.Sprintf("this line %s: Postfix passes over it", line.text), Do: "mend it, then postfix reload",
			})
		}
	}
	return list
}

// restrictionMistakes are the words to which smtpd answers 451 when it comes to
// them.
func (s *scope) restrictionMistakes(subject string, restricted value, seen map[string]bool) []Finding {
	var list []Finding
	add := func(at value, flaw string) {
		list = append(list, Finding{
			Check: at.text, Level: Warning, At: s.pos(at.place()),
			What: flaw + ": Postfix answers 451 to everybody who comes so far", Do: "mend it, then postfix reload",
		})
	}
	for _, r := range restrictions(subject, restricted) {
		word := strings.ToLower(r.word.text)
		_, known := words[word]
		switch {
		case !known && !s.isRestrictionClass(r.word.text):
			add(r.word, r.word.text+" is no restriction that Postfix knows, and no class of smtpd_restriction_classes")
		case word == "sleep" && strings.Trim(r.argument.text, "0123456789") != "":
			add(r.word, "sleep is not followed by a number")
		case word == "check_policy_service" && !strings.Contains(r.argument.text, ":"):
			add(r.word, "check_policy_service is not followed by type:name")
		case !strings.HasPrefix(word, "check_") || word == "check_policy_service":
		case !isTable(r.argument.text) || word != "check_ccert_access" && r.argument.text[0] == '{':
			add(r.word, word+" is not followed by type:name")
		default:
			who := strings.TrimSuffix(strings.TrimPrefix(word, "check_"), "_access")
			t := s.table(tableOf(r.argument))
			if seen[who+t.name] {
				continue
			}
			seen[who+t.name] = true
			if t.doubt.flaw != "" {
				add(r.argument, t.name+" "+t.doubt.flaw)
			}
			list = append(list, s.tableMistakes(t)...)
			list = append(list, s.entryMistakes(who, subject, t)...)
		}
	}
	return list
}

// entryMistakes are answers of an access table that Postfix cannot take.
func (s *scope) entryMistakes(who, subject string, t *table) []Finding {
	var list []Finding
	h := &hearing{scope: s, subject: subject}
	for _, leaf := range t.leaves() {
		for i := range leaf.entries {
			e := &leaf.entries[i]
			if e.test != nil && (e.test.opens || e.test.closes) {
				continue
			}
			o, why := h.action(e)
			flaw := why.flaw
			if o == permit && !mayPermit(who) {
				flaw = "check_" + who + "_access answers OK to " + e.key + ", which Postfix does not take"
			}
			if flaw == "" || len(list) > 20 {
				continue
			}
			list = append(list, Finding{
				Check: leaf.name, Level: Warning, At: s.pos(e.at),
				What: flaw + ": it answers 451 to whom this entry means", Do: "mend it, then postfix reload",
			})
		}
	}
	return list
}
