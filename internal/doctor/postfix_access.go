package doctor

import (
	"net/netip"
	"strings"
)

// askTable is check_*_access: it looks up what the client brought, whole and
// then in parts (access(5)).
func (h *hearing) askTable(subject string, name value) (outcome, reason) {
	if !isTable(name.text) {
		return dunno, reason{}
	}
	var keys []string
	t := h.table(name)
	switch subject {
	case "client":
		keys = append(h.domainKeys(h.client.name), addressKeys(h.client.addr)...)
		for _, p := range t.networks() {
			h.seen.network(p)
		}
		h.sightNames(t, &h.seen.names)
	case "reverse_client_hostname":
		keys = h.domainKeys(h.client.unverified)
		h.sightNames(t, &h.seen.unverified)
	case "helo":
		keys = h.domainKeys(h.client.helo)
		h.sightNames(t, &h.seen.helos)
	case "sender":
		keys = h.senderKeys()
		h.sightNames(t, &h.seen.senders)
	case "recipient":
		if h.late {
			return dunno, reason{}
		}
		keys = h.mailKeys(h.to)
	case "ccert":
		if !h.client.cert || !h.asksCertificates() {
			return dunno, reason{}
		}
		keys = []string{anyFingerprint}
	default:
		// The answer of a MX, NS or address table is no permission (postconf(5)).
		return dunno, reason{}
	}
	if t.unread != "" {
		return unknown, reason{undecided: t.name + ": " + t.unread}
	}
	for _, key := range keys {
		e := t.find(key)
		if e == nil {
			continue
		}
		o, why := h.action(e)
		if o == permit && subject == "recipient" && h.to.routed && !h.yes("allow_untrusted_routing") {
			return dunno, reason{} // smtpd_check.c takes no OK for an address with a way on
		}
		why.ground, why.key = written(e.key, e.at), e.key
		return o, why
	}
	return dunno, reason{}
}

// sightNames notes keys that a stranger could bring.
func (h *hearing) sightNames(t *table, list *[]string) {
	for i := range t.entries {
		if o, _ := h.action(&t.entries[i]); o == permit && !t.cidr {
			sight(list, t.entries[i].key)
		}
	}
}

// action reads the right side of an access table.
func (h *hearing) action(e *entry) (outcome, reason) {
	word, _, _ := strings.Cut(e.result.text, " ")
	word = strings.ToUpper(strings.TrimSpace(word))
	digits := word != "" && strings.Trim(word, "0123456789") == ""
	switch {
	case digits && len(word) == 3 && (word[0] == '4' || word[0] == '5'):
		return refuse, reason{}
	case digits, word == "OK", word == "RELAY":
		return permit, reason{}
	}
	switch word {
	case "REJECT", "DEFER", "DEFER_IF_PERMIT", "DISCARD":
		return refuse, reason{}
	case "DUNNO", "DEFER_IF_REJECT", "FILTER", "HOLD", "PREPEND", "REDIRECT", "BCC", "INFO", "WARN", "":
		return dunno, reason{}
	}
	return h.askClass(e.result)
}

// domainKeys are a name and the names above it.
func (h *hearing) domainKeys(name string) []string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" {
		return nil
	}
	if strings.HasPrefix(name, "[") {
		return []string{name}
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return []string{name}
	}
	parents := false
	for _, w := range h.get("parent_domain_matches_subdomains").words() {
		parents = parents || w.text == "smtpd_access_maps"
	}
	keys := []string{name}
	for {
		_, up, ok := strings.Cut(name, ".")
		if !ok {
			return keys
		}
		if parents {
			keys = append(keys, up)
		} else {
			keys = append(keys, "."+up)
		}
		name = up
	}
}

// addressKeys are an address and the networks that its leading numbers name.
func addressKeys(a netip.Addr) []string {
	separator := ":"
	if a.Is4() {
		separator = "."
	}
	key := a.String()
	keys := []string{key}
	for {
		i := strings.LastIndex(key, separator)
		if i <= 0 {
			return keys
		}
		key = key[:i]
		keys = append(keys, key)
	}
}

func (h *hearing) senderKeys() []string {
	if h.sender == "" {
		return []string{h.text("smtpd_null_access_lookup_key")}
	}
	r, ok := h.resolve(h.sender)
	if !ok {
		return nil
	}
	return h.mailKeys(r)
}

// mailKeys are an address, without its extension, its domain and those above
// it, and its local part.
func (h *hearing) mailKeys(r resolved) []string {
	keys := []string{r.address()}
	if d := h.text("recipient_delimiter"); d != "" {
		if i := strings.IndexAny(r.local, d); i > 0 {
			keys = append(keys, r.local[:i]+"@"+r.domain)
		}
	}
	keys = append(keys, h.domainKeys(r.domain)...)
	return append(keys, r.local+"@")
}
