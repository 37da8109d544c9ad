package doctor

import (
	"net/netip"
	"strings"
)

// A class is what Postfix calls a destination's address class
// (ADDRESS_CLASS_README).
type class int

const (
	foreign class = iota // default: somebody else's domain
	final                // local, virtual alias or virtual mailbox
	relayed              // relay_domains
)

// A resolved is an address as trivial-rewrite hands it to smtpd.
type resolved struct {
	local, domain string
	class         class
	list          string // the parameter that has the domain
	isLocal       bool   // of class final: mydestination, or a literal of this machine
	routed        bool   // the local part holds a way on, for another server to follow
	by            value  // what made the domain one of ours
	doubt         doubt  // a list that could make it one of ours, and cannot be read
}

// address is written as tables are asked for it.
func (r resolved) address() string { return quoted(r.local) + "@" + r.domain }

// quoted writes a local part with quotes where it needs them.
func quoted(local string) string {
	if local != "" && strings.IndexFunc(local, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`()<>[]:;@\,"`, r)
	}) < 0 && local[0] != '.' && local[len(local)-1] != '.' && !strings.Contains(local, "..") {
		return local
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
}

// An address is a path taken apart: a local part, quoted or not, and a domain
// that may be missing.
type address struct {
	local  string // without its quotes
	quoted bool
	domain string
	whole  bool // there is an at sign
}

// parseAddress takes a path apart as Postfix's scanner does: white space and
// comments go, the last at sign outside quotes parts it, a source route is
// dropped. What this does not understand is not ok, and is then not judged.
func parseAddress(s string) (address, bool) {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' && s[i] != '\t' || s[i] > '~' || strings.IndexByte("<>\\,;", s[i]) >= 0 && !strings.HasPrefix(s, "@") {
			return address{}, false
		}
	}
	if strings.HasPrefix(s, "@") { // RFC 5321 appendix C; the route is stripped
		_, after, ok := strings.Cut(s, ":")
		if !ok {
			return address{}, false
		}
		s = after
	}
	if i := strings.IndexByte(s, '('); i >= 0 {
		end := strings.IndexByte(s[i:], ')')
		if end < 0 {
			return address{}, false
		}
		s = s[:i] + s[i+end+1:]
	}
	var a address
	if strings.HasPrefix(s, `"`) {
		end := strings.LastIndexByte(s, '"')
		if end == 0 || end+1 < len(s) && s[end+1] != '@' {
			return address{}, false
		}
		a.local, a.quoted = s[1:end], true
		if end+1 < len(s) {
			a.domain, a.whole = s[end+2:], true
		}
	} else {
		s = strings.Join(strings.Fields(s), "")
		a = cutAt(s)
	}
	a.domain = strings.ToLower(strings.TrimSuffix(a.domain, "."))
	return a, !strings.ContainsRune(a.domain, '"')
}

func cutAt(s string) address {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return address{local: s}
	}
	return address{local: s[:i], domain: strings.ToLower(strings.TrimSuffix(s[i+1:], ".")), whole: true}
}

// router is the configuration as the service sees it that rewrites addresses
// and tells their class: what stands behind -o of smtpd is not known there.
func (s *scope) router() *scope {
	if s.routes != nil {
		return s.routes
	}
	name := s.text("rewrite_service_name")
	v := service{name: name}
	for _, w := range s.services {
		if w.name == name && (w.kind == "unix" || w.kind == "fifo") {
			v = w
			break
		}
	}
	s.routes = s.scope(v)
	s.routes.routes = s.routes
	return s.routes
}

// canonical is what rewriting makes of an address: without a domain, a bang
// path and a percent sign become ways on, and what is left gets $myorigin; a
// domain without a dot may get $mydomain.
func (s *scope) canonical(a address) address {
	if !a.whole {
		a = s.withDomain(a)
	}
	if a.domain != "" && !strings.ContainsAny(a.domain, ".[") && s.yes("append_dot_mydomain") {
		a.domain += "." + strings.ToLower(s.text("mydomain"))
	}
	return a
}

func (s *scope) withDomain(a address) address {
	if !a.quoted {
		if site, user, ok := strings.Cut(a.local, "!"); ok && s.yes("swap_bangpath") {
			return address{local: user, domain: strings.ToLower(site), whole: true}
		}
		if i := strings.LastIndexByte(a.local, '%'); i >= 0 && s.yes("allow_percent_hack") {
			return address{local: a.local[:i], domain: strings.ToLower(a.local[i+1:]), whole: true}
		}
	}
	if name := s.origin(); s.yes("append_at_myorigin") && name != "" {
		a.domain, a.whole = strings.ToLower(name), true
		return a
	}
	a.domain, a.whole = strings.ToLower(s.text("myhostname")), true
	return a
}

// origin is $myorigin, which Debian keeps in a file.
func (s *scope) origin() string {
	name := s.text("myorigin")
	if !strings.HasPrefix(name, "/") {
		return name
	}
	_, text, err := s.read(name)
	if first := strings.Fields(text); err == nil && len(first) > 0 {
		return first[0]
	}
	return ""
}

// way reports a way on in a local part that this server itself follows.
func (s *scope) way(local string) bool {
	return strings.Contains(local, "@") || strings.Contains(local, "%") && s.yes("allow_percent_hack") ||
		strings.Contains(local, "!") && s.yes("swap_bangpath")
}

// isRouted reports a way on that another server might follow. Postfix does not
// ask here what it would follow itself: it cannot know what the next one does.
func isRouted(local string) bool { return strings.ContainsAny(local, "@!%") }

// resolve finds where an address leads: as long as the domain is local, it is
// taken off and the way on in the local part is followed. The way on behind
// another's domain is left to that server, and makes the address routed.
func (s *scope) resolve(path string) (resolved, bool) {
	a, ok := parseAddress(path)
	if !ok {
		return resolved{}, false
	}
	a = s.canonical(a)
	for range len(path) + 10 {
		if a.domain == "" && s.yes("resolve_null_domain") {
			a = s.canonical(address{local: a.local})
		}
		local := s.isLocal(a.domain)
		r := resolved{local: a.local, domain: a.domain, routed: isRouted(a.local), doubt: local.doubt}
		if !local.yes {
			s.classify(&r)
			return r, isDestination(a.domain)
		}
		if !s.way(a.local) || a.quoted && !s.yes("resolve_dequoted_address") {
			r.class, r.list, r.isLocal, r.by = final, "mydestination", true, local.pattern
			return r, true
		}
		a = s.canonical(cutAt(a.local))
	}
	return resolved{}, false
}

// isDestination reports whether Postfix takes a domain for one: a literal, or a
// name of letters, digits, hyphens and underscores that is not all numbers.
func isDestination(domain string) bool {
	if strings.HasPrefix(domain, "[") {
		return strings.HasSuffix(domain, "]")
	}
	return isHostname(domain)
}

func isHostname(name string) bool {
	if name == "" || len(name) > 255 || strings.Trim(name, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || nameLength(strings.ReplaceAll(label, "-", "")) != len(strings.ReplaceAll(label, "-", "")) {
			return false
		}
	}
	return true
}

// isLocal reports whether a domain is in mydestination, or a literal of this
// machine.
func (s *scope) isLocal(domain string) match {
	m := s.member("mydestination", false, subject{domain, asText})
	literal, ok := strings.CutPrefix(domain, "[")
	if m.yes || m.doubt.flaw != "" || !ok {
		return m
	}
	literal = strings.TrimPrefix(strings.TrimSuffix(literal, "]"), "ipv6:")
	a, err := netip.ParseAddr(literal)
	if err == nil && (s.isOwn(a) || a == s.target() || s.isProxied(a)) {
		m.yes = true
	}
	return m
}

// isProxied reports an address of proxy_interfaces: of a device in front that
// passes connections on.
func (s *scope) isProxied(a netip.Addr) bool {
	for _, w := range s.get("proxy_interfaces").words() {
		if own, err := netip.ParseAddr(strings.Trim(w.text, "[]")); err == nil && own == a {
			return true
		}
	}
	return false
}

func (s *scope) isOwn(a netip.Addr) bool {
	for _, i := range s.own {
		if i.Prefix.Addr().Unmap() == a.Unmap() {
			return true
		}
	}
	return a.IsLoopback()
}

// target is the address that strangers reach: an own public one, where one is
// known, or one that stands for it.
func (s *scope) target() netip.Addr {
	for _, i := range s.own {
		if a := i.Prefix.Addr(); a.Is4() && !a.IsLoopback() && !a.IsPrivate() {
			return a
		}
	}
	return netip.MustParseAddr("198.18.0.25")
}

// domainLists are the lists besides mydestination that make a domain one of
// ours, in Postfix's order. Only the last knows names under a domain.
var domainLists = []struct {
	name  string
	class class
	how   matcher
}{
	{"virtual_alias_domains", final, asText},
	{"virtual_mailbox_domains", final, asText},
	{"relay_domains", relayed, asName},
}

func (s *scope) classify(r *resolved) {
	for _, list := range domainLists {
		m := s.member(list.name, list.how == asName && s.isParent(list.name), subject{r.domain, list.how})
		if m.yes {
			r.class, r.list, r.by = list.class, list.name, m.pattern
			return
		}
		if m.doubt.flaw != "" || m.doubt.any() && !r.doubt.any() {
			r.doubt = doubt{undecided: inFront(list.name+" =", m.doubt.undecided), flaw: inFront(list.name+" =", m.doubt.flaw)}
		}
		if m.doubt.flaw != "" {
			return
		}
	}
}

// undeliverable reports that Postfix refuses a recipient because no transport
// or table knows it (reject_unlisted_recipient, which is asked of all unless
// it is switched off).
func (s *scope) undeliverable(r resolved) bool {
	for _, list := range []string{"recipient_canonical_maps", "canonical_maps", "virtual_alias_maps"} {
		if e, d := s.findMail(list, r); e != nil || d.any() {
			return false
		}
	}
	maps := map[string]string{
		"mydestination": "local_recipient_maps", "virtual_mailbox_domains": "virtual_mailbox_maps", "relay_domains": "relay_recipient_maps",
	}[r.list]
	switch {
	case r.list == "virtual_alias_domains":
		return true
	case r.class != final && s.router().isUndelivered(r):
		return true
	case maps == "" || s.text(maps) == "":
		return false
	case r.isLocal && (strings.EqualFold(r.local, "postmaster") || strings.EqualFold(r.local, "mailer-daemon") || strings.EqualFold(r.local, "double-bounce")):
		return false
	}
	e, d := s.findMail(maps, r)
	return e == nil && !d.any()
}

// isUndelivered reports a transport that only returns mail.
func (s *scope) isUndelivered(r resolved) bool {
	return isDeadEnd(s.transport(r))
}

// transport is how mail to a foreign or relayed domain goes on. What is told
// for each sender is not followed: it may be anything.
func (s *scope) transport(r resolved) string {
	name := "relay_transport"
	if r.class == foreign {
		name = "default_transport"
	}
	transport := s.text(name)
	if name == "default_transport" && s.text("sender_dependent_default_transport_maps") != "" {
		transport = ""
	}
	keys := []key{{text: r.address()}}
	if bare, ok := s.withoutExtension(r.local); ok {
		keys = append(keys, key{quoted(bare) + "@" + r.domain, true})
	}
	for _, k := range domainKeys(r.domain, s.isParent("transport_maps")) {
		keys = append(keys, key{k.text, true})
	}
	e, d := s.findIn("transport_maps", append(keys, key{text: "*"}))
	switch {
	case d.any():
		return ""
	case e != nil && !strings.HasPrefix(e.result.text, ":"):
		return e.result.text
	}
	return transport
}

// findMail looks an address up as mail_addr_find(3) does.
func (s *scope) findMail(list string, r resolved) (*entry, doubt) {
	locals := []string{r.local}
	if bare, ok := s.withoutExtension(r.local); ok {
		locals = append(locals, bare)
	}
	var keys []key
	for i, local := range locals {
		keys = append(keys, key{quoted(local) + "@" + r.domain, i > 0})
	}
	if r.isLocal || strings.EqualFold(r.domain, s.origin()) {
		for _, local := range locals {
			keys = append(keys, key{quoted(local), true})
		}
	}
	return s.findIn(list, append(keys, key{"@" + r.domain, true}))
}

// findIn asks all tables of a parameter for each key in turn.
func (s *scope) findIn(list string, keys []key) (*entry, doubt) {
	words := s.get(list).words()
	for _, k := range keys {
		for _, w := range words {
			if !isTable(w.text) {
				return nil, doubt{undecided: list + " names no table"}
			}
			if e, d := s.table(w).find(k, true); e != nil || d.any() {
				return e, d
			}
		}
	}
	return nil, doubt{}
}
