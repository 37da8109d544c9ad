package doctor

import (
	"net/netip"
	"slices"
	"strings"
)

// A client is who knocks, as smtpd sees it.
type client struct {
	addr       netip.Addr
	name       string // verified by DNS in both directions; "unknown" of a stranger
	unverified string // what its PTR record claims
	helo       string
	login      bool // XCLIENT may claim one
	cert       bool // it shows a certificate
}

// An attempt is one stranger's try: a client, a sender, a recipient.
type attempt struct {
	from   netip.Addr // where the stranger really is
	form   string     // of package plan; "" is a try of the tables' own keys
	client client
	sender string
	to     resolved
	mx     bool // the recipient's domain names this server as an MX of its own
	many   bool // more recipients than this one: at DATA nobody sees it any more
}

// An outcome is what one restriction says.
type outcome int

const (
	dunno outcome = iota
	permit
	refuse
	unknown // it depends on what is no text
)

// A restriction is one word of a list, with its argument.
type restriction struct {
	word, argument value
}

func (r restriction) text() string { return strings.TrimSpace(r.word.text + " " + r.argument.text) }

// A reason says which restriction answered, and on what ground.
type reason struct {
	rule      restriction
	ground    value  // the pattern, entry or parameter that decided; empty: the restriction itself
	key       string // of an entry
	undecided string // what it depends on
}

// A hearing is one attempt before the lists of one service. When bold is set,
// what cannot be known is taken to permit; else to say nothing.
type hearing struct {
	*scope
	attempt
	bold bool
	late bool // the recipient is no longer seen
	deep int
}

// takesArgument are the restrictions that are followed by one.
func takesArgument(word string) bool {
	switch word {
	case "check_policy_service", "warn_if_reject", "sleep", "reject_rbl_client", "reject_rhsbl_client", "reject_rhsbl_helo",
		"reject_rhsbl_recipient", "reject_rhsbl_reverse_client", "reject_rhsbl_sender", "permit_dnswl_client", "permit_rhswl_client",
		"reject_rbl", "reject_rhsbl", "reject_maps_rbl":
		return word != "reject_maps_rbl"
	}
	return strings.HasPrefix(word, "check_") && strings.HasSuffix(word, "_access")
}

// restrictions parts a list. A bare type:name is an access table of what the
// list is about.
func restrictions(subject string, v value) []restriction {
	var all []restriction
	words := v.words()
	for i := 0; i < len(words); i++ {
		r := restriction{word: words[i]}
		switch {
		case isTable(r.word.text):
			r = restriction{word: written("check_"+subject+"_access", r.word.place()), argument: r.word}
		case takesArgument(strings.ToLower(r.word.text)) && i+1 < len(words):
			i++
			r.argument = words[i]
		}
		all = append(all, r)
	}
	return all
}

// stages are the lists in the order in which smtpd asks them, and what a bare
// table in each is asked about. The first five are asked at RCPT.
var stages = []struct{ list, subject string }{
	{"smtpd_client_restrictions", "client"},
	{"smtpd_helo_restrictions", "helo"},
	{"smtpd_sender_restrictions", "sender"},
	{"smtpd_relay_restrictions", "recipient"},
	{"smtpd_recipient_restrictions", "recipient"},
	{"smtpd_data_restrictions", "recipient"},
	{"smtpd_end_of_data_restrictions", "recipient"},
}

// walk asks the restrictions of one list in turn. The first that permits or
// refuses ends it.
func (h *hearing) walk(list []restriction) (outcome, int, reason) {
	for i := 0; i < len(list); i++ {
		r := list[i]
		o, why := h.ask(r)
		if strings.EqualFold(r.word.text, "warn_if_reject") && r.argument.text != "" {
			// What is warned of only, and its own argument, are one word further.
			if takesArgument(strings.ToLower(r.argument.text)) {
				i++
			}
			continue
		}
		if o == unknown {
			if o = dunno; h.bold {
				o = permit
			}
		}
		if o != dunno {
			why.rule = r
			return o, i, why
		}
	}
	return dunno, len(list), reason{}
}

// ask asks one restriction.
func (h *hearing) ask(r restriction) (outcome, reason) {
	word := strings.ToLower(r.word.text)
	switch word {
	case "permit":
		return permit, reason{}
	case "reject", "defer", "defer_if_permit":
		return refuse, reason{}
	case "reject_unauth_destination", "defer_unauth_destination", "check_relay_domains":
		if h.late {
			return dunno, reason{}
		}
		if h.ours() {
			return dunno, reason{}
		}
		return refuse, reason{}
	case "permit_auth_destination":
		if !h.late && h.ours() {
			return permit, reason{ground: h.to.by}
		}
		return dunno, reason{}
	case "permit_mx_backup":
		return h.askBackup()
	case "permit_mynetworks":
		return h.askClient("mynetworks")
	case "permit_inet_interfaces":
		return when(h.isOwn(h.client.addr)), reason{}
	case "permit_sasl_authenticated":
		return when(h.client.login && h.yes("smtpd_sasl_auth_enable")), reason{}
	case "permit_naked_ip_address":
		_, err := netip.ParseAddr(h.client.helo)
		return when(err == nil), reason{}
	case "permit_tls_all_clientcerts":
		return when(h.client.cert && h.asksCertificates()), reason{}
	case "permit_tls_clientcerts":
		return h.askFingerprint("relay_clientcerts")
	case "check_policy_service":
		return unknown, reason{undecided: "a policy service answers as it runs"}
	}
	if subject, ok := strings.CutPrefix(word, "check_"); ok && strings.HasSuffix(subject, "_access") {
		return h.askTable(strings.TrimSuffix(subject, "_access"), r.argument)
	}
	if slices.ContainsFunc(h.get("smtpd_restriction_classes").words(), func(v value) bool { return v.text == r.word.text }) {
		return h.askClass(h.get(r.word.text))
	}
	// What is left can refuse a stranger or say nothing (reject_*), or is
	// ignored where it would relay (permit_dnswl_client).
	return dunno, reason{}
}

func when(yes bool) outcome {
	if yes {
		return permit
	}
	return dunno
}

// ours reports what reject_unauth_destination lets pass: a domain of this
// server, with no way on to another one.
func (h *hearing) ours() bool {
	return (!h.to.routed || h.yes("allow_untrusted_routing")) && h.to.class != foreign
}

// askClass asks a list inside a list: a restriction class, or an entry's
// restrictions. Only its own end is its end; what it says counts.
func (h *hearing) askClass(v value) (outcome, reason) {
	if h.deep > 8 {
		return dunno, reason{}
	}
	h.deep++
	defer func() { h.deep-- }()
	o, _, why := h.walk(restrictions("recipient", v))
	if why.ground.text == "" {
		why.ground = why.rule.word
	}
	return o, why
}

// askBackup is permit_mx_backup: it relays to every domain that names this
// server as an MX, unless permit_mx_backup_networks must hold the first MX.
func (h *hearing) askBackup() (outcome, reason) {
	if h.late || h.to.routed && !h.yes("allow_untrusted_routing") {
		return dunno, reason{}
	}
	if h.ours() {
		return permit, reason{ground: h.to.by}
	}
	if !h.mx {
		return dunno, reason{}
	}
	networks := h.get("permit_mx_backup_networks")
	if networks.text == "" {
		return permit, reason{}
	}
	// The first MX is the attacker's too, at an address of theirs.
	m := h.matchClient(networks, client{addr: h.client.addr, name: "unknown"}, 0)
	if m.undecided != "" {
		return unknown, reason{undecided: m.undecided}
	}
	return when(m.yes), reason{ground: m.pattern}
}

func (h *hearing) askClient(list string) (outcome, reason) {
	m := h.matchClient(h.get(list), h.client, 0)
	if m.undecided != "" {
		return unknown, reason{undecided: m.undecided}
	}
	return when(m.yes), reason{ground: m.pattern}
}

// asksCertificates: without being asked for one, no client shows a certificate.
func (h *hearing) asksCertificates() bool {
	return h.offersTLS() && (h.yes("smtpd_tls_ask_ccert") || h.yes("smtpd_tls_req_ccert"))
}

func (s *scope) offersTLS() bool {
	level := s.text("smtpd_tls_security_level")
	return level == "may" || level == "encrypt" || s.yes("smtpd_use_tls") || s.yes("smtpd_enforce_tls") || s.yes("smtpd_tls_wrappermode")
}

// anyFingerprint stands for a certificate of the stranger's own making.
const anyFingerprint = "00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00"

func (h *hearing) askFingerprint(parameter string) (outcome, reason) {
	if !h.client.cert || !h.asksCertificates() {
		return dunno, reason{}
	}
	for _, w := range h.get(parameter).words() {
		if !isTable(w.text) {
			continue
		}
		t := h.table(w)
		if t.unread != "" {
			return unknown, reason{undecided: t.name + ": " + t.unread}
		}
		if e := t.find(anyFingerprint); e != nil {
			return permit, reason{ground: w}
		}
	}
	return dunno, reason{}
}
