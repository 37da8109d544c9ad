package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// sightings are the networks and keys that lists and tables gave weight to
// while they were asked. Each is a stranger to be tried.
type sightings struct {
	networks   []netip.Prefix
	senders    []string
	helos      []string
	names      []string // verified names of clients
	unverified []string // names that a client's PTR record claims
}

// maxSightings bounds how many are tried: a table may have a million lines.
const maxSightings = 200

func sight(list *[]string, name string) {
	if len(*list) < maxSightings && !slices.Contains(*list, name) {
		*list = append(*list, name)
	}
}

func (s *sightings) network(p netip.Prefix) {
	if len(s.networks) < maxSightings && !slices.Contains(s.networks, p) {
		s.networks = append(s.networks, p)
	}
}

// wide reports whether strangers stand in a network: of public IPv4 addresses
// more than a /24, of IPv6 more than a /48, is more than one owner's.
func wide(p netip.Prefix) bool {
	a := p.Addr()
	for _, inside := range privateNetworks {
		if inside.Contains(a) && p.Bits() >= inside.Bits() {
			return false
		}
	}
	if a.Is4() {
		return p.Bits() < 24
	}
	return p.Bits() < 48
}

// privateNetworks do not come from the internet: RFC 1918, RFC 4193, loopback,
// link-local. RFC 6598's 100.64/10 is not among them: a provider's customers
// share it.
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// A match is what a list said of a client or a domain.
type match struct {
	yes       bool
	pattern   value  // what matched
	undecided string // why it cannot be said; then yes is false
}

// matchClient looks a client up in a list of hosts and networks, as mynetworks
// is one: the first pattern that matches decides.
func (s *scope) matchClient(list value, c client, depth int) match {
	var undecided string
	for _, w := range list.words() {
		pattern, not := w, false
		for strings.HasPrefix(pattern.text, "!") {
			pattern, not = pattern.cut(1, len(pattern.text)), !not
		}
		m := s.matchOne(pattern, c, depth)
		if m.undecided != "" && undecided == "" {
			undecided = m.undecided
		}
		if m.yes {
			if not {
				return match{}
			}
			if m.pattern.text == "" {
				m.pattern = w
			}
			return m
		}
	}
	return match{undecided: undecided}
}

func (s *scope) matchOne(pattern value, c client, depth int) match {
	switch {
	case strings.HasPrefix(pattern.text, "/"):
		file, text, err := s.read(pattern.text)
		if err != nil || depth > 4 {
			return match{undecided: "the list " + pattern.text + " cannot be read"}
		}
		return s.matchClient(concat(spaced(logicalLines(file, text))), c, depth+1)
	case isTable(pattern.text):
		t := s.table(pattern)
		for _, p := range t.networks() {
			s.seen.network(p)
		}
		if t.unread != "" {
			return match{undecided: t.name + ": " + t.unread}
		}
		e := t.find(c.addr.String())
		if e == nil {
			e = t.find(c.name)
		}
		if e == nil {
			return match{}
		}
		return match{yes: true, pattern: written(e.key, e.at)}
	}
	if p, ok := parseNetwork(pattern.text); ok {
		s.seen.network(p)
		return match{yes: p.Contains(c.addr)}
	}
	return match{yes: pattern.text == "all" || domainMatches(pattern.text, c.name, true)}
}

// spaced sets white space between lines that become one list.
func spaced(lines []value) []value {
	for i := range lines {
		lines[i] = concat([]value{lines[i], written(" ", place{})})
	}
	return lines
}

// matchDomain looks a domain up in a list like relay_domains.
func (s *scope) matchDomain(name, domain string, depth int, list value) match {
	var undecided string
	parents := slices.ContainsFunc(s.get("parent_domain_matches_subdomains").words(), func(v value) bool { return v.text == name })
	for _, w := range list.words() {
		pattern, not := strings.CutPrefix(w.text, "!")
		var yes bool
		switch {
		case strings.HasPrefix(pattern, "/"):
			file, text, err := s.read(pattern)
			if err != nil || depth > 4 {
				undecided = fmt.Sprintf("the list %s cannot be read", pattern)
				continue
			}
			m := s.matchDomain(name, domain, depth+1, concat(spaced(logicalLines(file, text))))
			yes = m.yes
		case isTable(pattern):
			t := s.table(w.cut(len(w.text)-len(pattern), len(w.text)))
			if t.unread != "" {
				undecided = t.name + ": " + t.unread
				continue
			}
			yes = t.find(domain) != nil
			for _, up, _ := strings.Cut(domain, "."); up != "" && !yes; _, up, _ = strings.Cut(up, ".") {
				yes = parents && t.find(up) != nil || !parents && t.find("."+up) != nil
			}
		default:
			yes = domainMatches(pattern, domain, parents)
		}
		if yes {
			return match{yes: !not, pattern: w}
		}
	}
	return match{undecided: undecided}
}

// domainMatches reports whether a pattern is the name, or is above it and
// meant for what is below: ".domain", or with parents "domain" as well.
func domainMatches(pattern, name string, parents bool) bool {
	pattern, name = strings.ToLower(pattern), strings.ToLower(name)
	switch {
	case pattern == "" || name == "":
		return false
	case pattern == name:
		return true
	case pattern[0] == '.':
		return strings.HasSuffix(name, pattern)
	}
	return parents && strings.HasSuffix(name, "."+pattern)
}
