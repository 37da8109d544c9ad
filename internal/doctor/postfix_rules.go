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
	encrypted  bool
}

// An attempt is one stranger's try: a client, a sender, a recipient.
type attempt struct {
	from   netip.Addr // where the stranger really is
	form   string     // of package plan; "" is a try of what tables and lists favour
	client client
	sender string
	path   string // of the recipient, as it stands in RCPT
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
	warns          bool // it stands behind warn_if_reject: its refusal is only logged
}

func (r restriction) text() string {
	text := strings.TrimSpace(r.word.text + " " + r.argument.text)
	if r.warns {
		return "warn_if_reject " + text
	}
	return text
}

// A reason says which restriction answered, and on what ground.
type reason struct {
	rule      restriction
	ground    value  // the pattern, entry or parameter that decided; empty: the restriction itself
	key       string // of an entry
	undecided string // what it depends on
	flaw      string // what Postfix cannot do: it refuses, whatever warn_if_reject says
}

// A hearing is one attempt before the lists of one service. When bold is set,
// what cannot be known is taken to permit; else to say nothing.
type hearing struct {
	*scope
	attempt
	subject string // what a bare table in this list is asked about
	bold    bool
	early   bool // nobody was named as sender yet
	late    bool // no recipient is seen: not yet, or no longer
	deep    int
}

// words are all restrictions that smtpd knows, with the number of arguments
// that follow each.
var words = func() map[string]int {
	known := map[string]int{}
	for _, w := range strings.Fields(`permit reject defer defer_if_permit defer_if_reject reject_plaintext_session reject_unauth_pipelining
		reject_unknown_client reject_unknown_client_hostname reject_unknown_reverse_client_hostname reject_unknown_forward_client_hostname
		permit_inet_interfaces permit_mynetworks permit_naked_ip_address reject_maps_rbl
		reject_invalid_helo_hostname reject_invalid_hostname reject_unknown_helo_hostname reject_unknown_hostname
		reject_non_fqdn_helo_hostname reject_non_fqdn_hostname reject_non_fqdn_sender reject_non_fqdn_recipient
		reject_unknown_sender_domain reject_unknown_recipient_domain reject_unknown_address reject_unlisted_sender
		reject_unlisted_recipient check_recipient_maps reject_unverified_recipient reject_unverified_sender
		reject_multi_recipient_bounce permit_auth_destination reject_unauth_destination defer_unauth_destination
		check_relay_domains permit_sasl_authenticated permit_tls_clientcerts permit_tls_all_clientcerts permit_mx_backup
		reject_sender_login_mismatch reject_authenticated_sender_login_mismatch reject_known_sender_login_mismatch
		reject_unauthenticated_sender_login_mismatch`) {
		known[w] = 0
	}
	for _, w := range strings.Fields(`check_policy_service sleep reject_rbl reject_rbl_client reject_rhsbl_client
		reject_rhsbl_reverse_client reject_rhsbl_helo reject_rhsbl_sender reject_rhsbl_recipient permit_dnswl_client permit_rhswl_client`) {
		known[w] = 1
	}
	for _, who := range []string{"client", "reverse_client_hostname", "helo", "sender", "recipient"} {
		for _, what := range []string{"", "_a", "_mx", "_ns"} {
			known["check_"+who+what+"_access"] = 1
		}
	}
	known["check_ccert_access"], known["check_sasl_access"], known["check_etrn_access"] = 1, 1, 1
	return known
}()

// restrictions parts a list. A bare type:name is an access table of what the
// list is about.
func restrictions(subject string, v value) []restriction {
	var all []restriction
	list := v.words()
	warns := false
	for i := 0; i < len(list); i++ {
		r := restriction{word: list[i], warns: warns}
		name := strings.ToLower(r.word.text)
		switch {
		case name == "warn_if_reject":
			warns = true
			continue
		case strings.Contains(r.word.text, ":"):
			r.word, r.argument = written("check_"+subject+"_access", r.word.place()), r.word
		case words[name] > 0 && i+1 < len(list):
			i++
			r.argument = list[i]
		}
		all, warns = append(all, r), false
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
	for i, r := range list {
		o, why := h.ask(r)
		if o == unknown {
			if o = dunno; h.bold {
				o = permit
			}
		}
		if o == refuse && r.warns && why.flaw == "" {
			continue // what is warned of only may still permit, and not refuse
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
	if words[word] > 0 && r.argument.text == "" && !strings.HasPrefix(word, "reject_") && !strings.HasPrefix(word, "permit_") {
		return h.refusal(word + " has no argument")
	}
	switch word {
	case "sleep":
		if strings.Trim(r.argument.text, "0123456789") != "" {
			return h.refusal("sleep is not followed by a number")
		}
		return dunno, reason{}
	case "permit":
		return permit, reason{}
	case "reject", "defer", "defer_if_permit":
		return refuse, reason{}
	case "reject_unauth_destination", "defer_unauth_destination":
		if h.late || h.ours() {
			return dunno, reason{}
		}
		return refuse, reason{}
	case "check_relay_domains":
		return h.askRelayDomains()
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
		if h.client.helo == "" || strings.Trim(h.client.helo, "0123456789.:") != "" {
			return dunno, reason{}
		}
		if a, err := netip.ParseAddr(h.client.helo); err != nil || !a.Is4() {
			return refuse, reason{} // an IPv6 address needs its tag there
		}
		return permit, reason{}
	case "permit_tls_all_clientcerts":
		return when(h.client.cert && h.asksCertificates()), reason{}
	case "permit_tls_clientcerts":
		return h.askFingerprint("relay_clientcerts")
	case "reject_plaintext_session":
		if !h.client.encrypted && !h.offersTLS() {
			return refuse, reason{}
		}
		return dunno, reason{}
	case "reject_sender_login_mismatch", "reject_unauthenticated_sender_login_mismatch", "reject_known_sender_login_mismatch":
		return h.askOwner()
	case "check_policy_service":
		if !strings.Contains(r.argument.text, ":") {
			return h.refusal("check_policy_service is not followed by type:name")
		}
		return unknown, reason{undecided: "a policy service answers as it runs"}
	}
	if subject, ok := strings.CutPrefix(word, "check_"); ok && words[word] > 0 {
		return h.askTable(strings.TrimSuffix(subject, "_access"), r.argument)
	}
	if _, ok := words[word]; ok {
		// What is left can refuse a stranger or say nothing (reject_*), or is
		// ignored where it would relay (permit_dnswl_client).
		return dunno, reason{}
	}
	if h.isRestrictionClass(r.word.text) {
		return h.askClass(h.get(r.word.text))
	}
	return h.refusal(r.word.text + " is no restriction that Postfix knows, and no class of smtpd_restriction_classes")
}

// isRestrictionClass compares with case, as Postfix does here and nowhere else.
func (s *scope) isRestrictionClass(name string) bool {
	return slices.ContainsFunc(s.get("smtpd_restriction_classes").words(), func(v value) bool { return v.text == name })
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
		return h.refusal("its restrictions name each other without an end")
	}
	h.deep++
	defer func() { h.deep-- }()
	o, _, why := h.walk(restrictions(h.subject, v))
	if why.ground.text == "" {
		why.ground = why.rule.word
	}
	return o, why
}

// askRelayDomains is check_relay_domains, from before Postfix 2.0: it also
// permits clients whose name is in relay_domains.
func (h *hearing) askRelayDomains() (outcome, reason) {
	if h.late {
		return dunno, reason{}
	}
	m := h.member("relay_domains", h.isParent("relay_domains"), subject{h.client.name, asName})
	switch {
	case m.yes:
		return permit, reason{ground: m.pattern}
	case h.ours():
		return permit, reason{ground: h.to.by}
	}
	return refuse, reason{}
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
	if h.text("permit_mx_backup_networks") == "" {
		return permit, reason{}
	}
	// The first MX is the attacker's too, at an address of theirs.
	m := h.hasClient("permit_mx_backup_networks", client{addr: h.client.addr, name: "unknown"})
	switch {
	case m.doubt.undecided != "":
		return unknown, reason{undecided: m.doubt.undecided}
	case m.yes:
		return permit, reason{ground: m.pattern}
	}
	return dunno, reason{}
}

func (h *hearing) askClient(list string) (outcome, reason) {
	m := h.hasClient(list, h.client)
	switch {
	case m.doubt.flaw != "":
		return h.refusal(list + ": " + m.doubt.flaw)
	case m.doubt.undecided != "":
		return unknown, reason{undecided: m.doubt.undecided}
	}
	return when(m.yes), reason{ground: m.pattern}
}

// askOwner: a sender that belongs to a login is refused of whoever has none.
func (h *hearing) askOwner() (outcome, reason) {
	if h.early || h.client.login || h.sender == "" || !h.yes("smtpd_sasl_auth_enable") || h.text("smtpd_sender_login_maps") == "" {
		return dunno, reason{}
	}
	r, ok := h.router().resolve(h.sender)
	if !ok {
		return dunno, reason{}
	}
	if e, d := h.findMail("smtpd_sender_login_maps", r); e != nil || d.flaw != "" {
		return refuse, reason{}
	}
	return dunno, reason{}
}

// asksCertificates: without being asked for one, no client shows a certificate.
func (h *hearing) asksCertificates() bool {
	return h.offersTLS() && (h.yes("smtpd_tls_ask_ccert") || h.yes("smtpd_tls_req_ccert"))
}

func (s *scope) offersTLS() bool {
	return s.is("smtpd_tls_security_level", "may") || s.demandsTLS() || s.yes("smtpd_use_tls") || s.yes("smtpd_tls_wrappermode")
}

// demandsTLS: nothing is taken in the clear.
func (s *scope) demandsTLS() bool {
	return s.is("smtpd_tls_security_level", "encrypt") || s.yes("smtpd_enforce_tls")
}

// anyFingerprint stands for a certificate of the stranger's own making.
const anyFingerprint = "00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00"

func (h *hearing) askFingerprint(parameter string) (outcome, reason) {
	if !h.client.cert || !h.asksCertificates() {
		return dunno, reason{}
	}
	e, d := h.findIn(parameter, []key{{text: anyFingerprint}})
	switch {
	case d.flaw != "":
		return h.refusal(d.flaw)
	case d.undecided != "":
		return unknown, reason{undecided: d.undecided}
	case e != nil:
		return permit, reason{ground: e.ground()}
	}
	return dunno, reason{}
}

// refuses reports whether a restriction would have turned strangers away.
func refuses(r restriction) bool {
	switch strings.ToLower(r.word.text) {
	case "reject", "defer", "defer_if_permit", "reject_unauth_destination", "defer_unauth_destination", "check_relay_domains":
		return !r.warns
	}
	return false
}

// turnsAway is what Postfix wants of one of two lists before it starts: a word
// that refuses, not behind a permit and not only warned of.
// It does not ask whether the word is another one's argument.
func (s *scope) turnsAway(v value, depth int) bool {
	list := v.words()
	for i := 0; i < len(list); i++ {
		switch word := list[i]; {
		case strings.EqualFold(word.text, "warn_if_reject") && i+1 < len(list):
			i++
		case strings.EqualFold(word.text, "permit"):
			return false
		case refuses(restriction{word: word}), depth < 8 && s.isRestrictionClass(word.text) && s.turnsAway(s.get(word.text), depth+1):
			return true
		}
	}
	return false
}

// serves reports whether smtpd starts at all with its lists.
func (s *scope) serves() bool {
	return s.turnsAway(s.get("smtpd_relay_restrictions"), 0) || s.turnsAway(s.get("smtpd_recipient_restrictions"), 0)
}
