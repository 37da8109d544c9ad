package doctor

import (
	"net/netip"
	"slices"
	"strings"
)

// askTable is check_*_access: it looks up what the client brought, whole and
// then in parts (access(5)).
func (h *hearing) askTable(subject string, name value) (outcome, reason) {
	if subject == "ccert" {
		name = tableOf(name)
	}
	if !isTable(name.text) || name.text[0] == '{' {
		return h.refusal("check_" + subject + "_access is not followed by type:name")
	}
	keys, ok := h.keys(subject)
	if !ok {
		return dunno, reason{}
	}
	t := h.table(name)
	for _, k := range keys {
		e, d := t.find(k, true)
		switch {
		case d.flaw != "":
			return h.refusal(d.flaw)
		case d.undecided != "":
			return unknown, reason{undecided: d.undecided}
		case e == nil:
			continue
		}
		return h.answer(subject, e)
	}
	return dunno, reason{}
}

// answer is what the entry that was found says of the subject.
func (h *hearing) answer(subject string, e *entry) (outcome, reason) {
	o, why := h.action(e)
	if o == permit {
		switch {
		case subject == "recipient" && h.to.routed && !h.yes("allow_untrusted_routing"):
			return dunno, reason{} // smtpd_check.c takes no OK for an address with a way on
		case !mayPermit(subject):
			// "This is not allowed for security reasons": Postfix answers 451.
			return h.refusal("check_" + subject + "_access answers OK to " + e.key + ", which Postfix does not take")
		}
	}
	why.ground, why.key = e.ground(), e.key
	return o, why
}

// mayPermit reports whether a check's OK is one. What a client's PTR record
// claims, and what its servers are, may only be held against it.
func mayPermit(subject string) bool {
	switch subject {
	case "client", "helo", "sender", "recipient", "ccert", "sasl":
		return true
	}
	return false
}

// tableOf returns the table of an argument in braces, as check_ccert_access
// may have: { type:name, search_order = ... }.
func tableOf(name value) value {
	if !strings.HasPrefix(name.text, "{") {
		return name
	}
	words := name.unbraced().words()
	if len(words) == 0 {
		return value{}
	}
	return words[0]
}

// keys are what a table is asked for, in turn. ok is false where smtpd does not
// ask it at all.
func (h *hearing) keys(subject string) (keys []key, ok bool) {
	parents := h.isParent("smtpd_access_maps")
	switch subject {
	case "client":
		return append(domainKeys(h.client.name, parents), addressKeys(h.client.addr)...), true
	case "reverse_client_hostname":
		name := h.client.unverified
		if name == "" {
			name = "unknown"
		}
		return append(domainKeys(name, parents), addressKeys(h.client.addr)...), true
	case "helo":
		return domainKeys(h.client.helo, parents), h.client.helo != ""
	case "sender":
		if h.early {
			return nil, false
		}
		return h.senderKeys(parents), true
	case "recipient":
		if h.late {
			return nil, false
		}
		return h.mailKeys(h.to, parents), true
	case "ccert":
		return []key{{text: anyFingerprint}}, h.client.cert && h.asksCertificates()
	}
	return nil, false // a login's table; or one that could only refuse, for what a stranger may choose
}

// actions of an access table that say nothing of who may relay.
var passive = []string{"DUNNO", "DEFER_IF_REJECT", "FILTER", "HOLD", "PREPEND", "BCC", "INFO", "WARN"}

// action reads the right side of an access table.
func (h *hearing) action(e *entry) (outcome, reason) {
	text := strings.TrimSpace(e.result.text)
	word, rest, _ := strings.Cut(text, " ")
	word = strings.ToUpper(word)
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	switch {
	case word == "OK" || word == "RELAY":
		return permit, reason{}
	case slices.Contains([]string{"REJECT", "DEFER", "DEFER_IF_PERMIT", "DISCARD", "REDIRECT"}, word):
		return refuse, reason{}
	case word == "FILTER" && isDeadEnd(rest):
		return refuse, reason{} // taken, and returned or thrown away: nothing is relayed
	case slices.Contains(passive, word):
		return dunno, reason{}
	case digits(text): // a code without a text is a number, and a number is OK
		return permit, reason{}
	case len(word) == 3 && digits(word) && (word[0] == '4' || word[0] == '5') && strings.TrimSpace(rest) != "":
		return refuse, reason{}
	case strings.Contains(text, ":"):
		return h.refusal("the entry " + e.key + " names a table; Postfix takes only the name of a restriction class")
	case text == "":
		return h.refusal("the entry " + e.key + " has no value")
	}
	return h.askClass(e.result)
}

// isDeadEnd reports a transport that delivers nothing.
func isDeadEnd(transport string) bool {
	name, _, _ := strings.Cut(strings.TrimSpace(transport), ":")
	return name == "error" || name == "retry" || name == "discard"
}

// refusal is Postfix's answer to a mistake: 451, to everybody who comes so far.
func (h *hearing) refusal(flaw string) (outcome, reason) {
	return refuse, reason{flaw: flaw}
}

// domainKeys are a name and the names above it. An address has none above it.
func domainKeys(name string, parents bool) []key {
	name = strings.ToLower(name)
	keys := []key{{text: name}}
	if _, err := netip.ParseAddr(name); err == nil || name == "" {
		return keys
	}
	for {
		i := strings.IndexByte(name[1:], '.')
		if i < 0 {
			return keys
		}
		if name = name[1+i:]; parents {
			name = name[1:]
		}
		if name == "" {
			return keys
		}
		keys = append(keys, key{name, true})
	}
}

// addressKeys are an address and the networks that its leading numbers name.
func addressKeys(a netip.Addr) []key {
	separator := ":"
	if a.Is4() {
		separator = "."
	}
	text := a.String()
	keys := []key{{text: text}}
	for {
		i := strings.LastIndex(text, separator)
		if i <= 0 {
			return keys
		}
		text = text[:i]
		keys = append(keys, key{text, true})
	}
}

func (h *hearing) senderKeys(parents bool) []key {
	if h.sender == "" {
		return []key{{text: h.text("smtpd_null_access_lookup_key")}}
	}
	r, ok := h.router().resolve(h.sender)
	if !ok {
		return nil
	}
	return h.mailKeys(r, parents)
}

// mailKeys are an address, without its extension, its domain and those above
// it, and its local part.
func (h *hearing) mailKeys(r resolved, parents bool) []key {
	bare, extended := h.withoutExtension(r.local)
	keys := []key{{text: r.address()}}
	if extended {
		keys = append(keys, key{quoted(bare) + "@" + r.domain, true})
	}
	for _, k := range domainKeys(r.domain, parents) {
		keys = append(keys, key{k.text, true})
	}
	keys = append(keys, key{quoted(r.local) + "@", true})
	if extended {
		keys = append(keys, key{quoted(bare) + "@", true})
	}
	return keys
}

// withoutExtension is split_addr(3).
func (s *scope) withoutExtension(local string) (string, bool) {
	set := s.text("recipient_delimiter")
	for _, whole := range []string{"postmaster", "mailer-daemon", "double-bounce"} {
		if strings.EqualFold(local, whole) {
			return local, false
		}
	}
	small := strings.ToLower(local)
	if strings.Contains(set, "-") && (strings.HasPrefix(small, "owner-") || strings.HasSuffix(small, "-request") && len(small) > 8) {
		return local, false
	}
	i := strings.IndexAny(local, set)
	if set == "" || i <= 0 {
		return local, false
	}
	return local[:i], true
}
