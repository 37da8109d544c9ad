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
	routed        bool   // the local part holds a way on, for another server to follow
	by            value  // what made the domain one of ours
	undecided     string // a list that could make it one of ours, and cannot be read
}

func (r resolved) address() string { return r.local + "@" + r.domain }

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

// canonical is what rewriting makes of an address without domain: a bang path
// and a percent sign become ways on, and what is left gets $myorigin.
func (s *scope) canonical(a address) address {
	if a.whole {
		return a
	}
	if !a.quoted {
		if site, user, ok := strings.Cut(a.local, "!"); ok && s.yes("swap_bangpath") {
			return address{local: user, domain: strings.ToLower(site), whole: true}
		}
		if i := strings.LastIndexByte(a.local, '%'); i >= 0 && s.yes("allow_percent_hack") {
			return address{local: a.local[:i], domain: strings.ToLower(a.local[i+1:]), whole: true}
		}
	}
	a.domain, a.whole = strings.ToLower(s.origin()), true
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

// ways are the signs of a way on in a local part.
func (s *scope) way(local string) bool {
	return strings.Contains(local, "@") || strings.Contains(local, "%") && s.yes("allow_percent_hack") ||
		strings.Contains(local, "!") && s.yes("swap_bangpath")
}

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
		local := s.isLocal(a.domain)
		if !local.yes {
			r := resolved{local: a.local, domain: a.domain, routed: s.way(a.local)}
			s.classify(&r)
			if r.undecided == "" {
				r.undecided = local.undecided
			}
			return r, a.domain != ""
		}
		if !s.way(a.local) || a.quoted && !s.yes("resolve_dequoted_address") {
			return resolved{local: a.local, domain: a.domain, class: final, by: local.pattern}, true
		}
		next := cutAt(a.local)
		a = s.canonical(next)
	}
	return resolved{}, false
}

// isLocal reports whether a domain is in mydestination, or a literal of this
// machine.
func (s *scope) isLocal(domain string) match {
	if literal, ok := strings.CutPrefix(domain, "["); ok {
		literal = strings.TrimPrefix(strings.TrimSuffix(literal, "]"), "ipv6:")
		a, err := netip.ParseAddr(literal)
		return match{yes: err == nil && (s.isOwn(a) || a == s.target())}
	}
	return s.matchDomain("mydestination", domain, 0, s.get("mydestination"))
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

func (s *scope) classify(r *resolved) {
	for _, list := range []struct {
		name  string
		class class
	}{
		{"virtual_alias_domains", final},
		{"virtual_mailbox_domains", final},
		{"relay_domains", relayed},
	} {
		m := s.matchDomain(list.name, r.domain, 0, s.get(list.name))
		if m.yes {
			r.class, r.by = list.class, m.pattern
			return
		}
		if m.undecided != "" && r.undecided == "" {
			r.undecided = list.name + " = " + m.undecided
		}
	}
}
