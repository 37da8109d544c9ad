package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A pattern is one member of a list, as Postfix's match_list(3) takes it.
type pattern struct {
	text  value  // without the exclamation marks before it
	not   bool   // an odd number of them
	table *table // of type:name
	doubt doubt  // a list in a file that cannot be read
}

// A doubt is why a lookup has no answer.
type doubt struct {
	undecided string // it depends on what is no text
	flaw      string // Postfix has none either, and answers 451
}

func (d doubt) any() bool { return d != doubt{} }

// A match is what a list said of a client or a domain.
type match struct {
	yes     bool
	pattern value // what matched
	doubt   doubt // why it cannot be said; then yes is false
}

// A subject is what is looked for in a list, and how.
type subject struct {
	text string
	how  matcher
}

type matcher int

const (
	asText matcher = iota // whole: string_list(3)
	asName                // with the names above it: domain_list(3)
	asAddr                // as an address in networks
)

// patterns are the members of a list: with what stands in the files that it
// names, and without what stands behind a comment.
func (s *scope) patterns(list value) []pattern {
	if p, ok := s.lists[list.text]; ok {
		return p
	}
	p := s.parsePatterns(list, false, 0)
	s.lists[list.text] = p
	return p
}

func (s *scope) parsePatterns(list value, not bool, depth int) []pattern {
	var all []pattern
	for _, w := range list.words() {
		if w.text[0] == '#' {
			break // "comment at end of line is not supported"
		}
		p := pattern{text: w, not: not}
		for strings.HasPrefix(p.text.text, "!") {
			p.text, p.not = p.text.cut(1, len(p.text.text)), !p.not
		}
		switch {
		case p.text.text == "":
			p.doubt.flaw = "has no pattern after its exclamation mark"
		case p.text.text[0] == '/':
			file, text, err := s.read(p.text.text)
			if err == nil && depth < 4 {
				all = append(all, s.filePatterns(file, text, p.not, depth+1)...)
				continue
			}
			p.doubt.undecided = "the list " + p.text.text + " cannot be read"
		case isTable(p.text.text):
			p.table = s.table(p.text)
		}
		all = append(all, p)
	}
	return all
}

// filePatterns reads a list in a file. Each of its lines is for itself: there
// is no continuation.
func (s *scope) filePatterns(file int32, text string, not bool, depth int) []pattern {
	var all []pattern
	number := int32(0)
	for line := range strings.Lines(text) {
		number++
		if line[0] != '#' {
			all = append(all, s.parsePatterns(written(line, place{file, number}), not, depth)...)
		}
	}
	return all
}

// member looks for subjects in a list. The first pattern that matches any of
// them decides; one that Postfix cannot read ends the search with an error.
func (s *scope) member(list string, parents bool, subjects ...subject) match {
	var undecided string
	for _, p := range s.patterns(s.get(list)) {
		for _, what := range subjects {
			yes, by, d := p.match(what, parents)
			switch {
			case d.flaw != "":
				return match{doubt: d}
			case d.undecided != "":
				if undecided == "" {
					undecided = d.undecided
				}
			case yes && p.not:
				return match{doubt: doubt{undecided: undecided}}
			case yes:
				return match{yes: true, pattern: by}
			}
		}
	}
	return match{doubt: doubt{undecided: undecided}}
}

// isParent reports whether a domain in this list stands for the names under it.
func (s *scope) isParent(list string) bool {
	return s.member("parent_domain_matches_subdomains", false, subject{list, asText}).yes
}

// hasClient looks a client up in a list of hosts and networks, as mynetworks
// is one.
func (s *scope) hasClient(list string, c client) match {
	return s.member(list, s.isParent(list), subject{c.name, asName}, subject{c.addr.String(), asAddr})
}

// match asks one pattern. by is what it was that matched.
func (p *pattern) match(what subject, parents bool) (yes bool, by value, d doubt) {
	if p.doubt.any() {
		return false, by, p.doubt
	}
	text := strings.ToLower(what.text)
	if p.table != nil {
		keys := []key{{text: text}}
		if what.how == asName && text != "" {
			keys = domainKeys(text, parents)
		}
		for _, k := range keys {
			e, d := p.table.find(k, false)
			if d.any() {
				return false, by, d
			}
			switch {
			case e != nil && e.test != nil && e.test.always:
				return true, p.text, d
			case e != nil:
				return true, e.ground(), d
			}
		}
		return false, by, d
	}
	own := strings.ToLower(p.text.text)
	switch what.how {
	case asText:
		yes = text == own
	case asName:
		yes = domainMatches(own, text, parents)
	case asAddr:
		var flaw string
		yes, flaw = addressMatches(own, text)
		d.flaw = flaw
	}
	return yes, p.text, d
}

// domainMatches reports whether a pattern is the name, or is above it and
// meant for what is below: with parents "domain", else ".domain".
func domainMatches(pattern, name string, parents bool) bool {
	switch {
	case pattern == name:
		return true
	case pattern == "" || name == "":
		return false
	case parents:
		return strings.HasSuffix(name, "."+pattern)
	}
	return pattern[0] == '.' && strings.HasSuffix(name, pattern)
}

const (
	digitsOfFour = "0123456789."
	digitsOfSix  = digitsOfFour + "abcdefABCDEF:"
)

// addressMatches is match_hostaddr of match_ops(3): what cannot be a network
// is passed over as a name, what looks like one and is wrong is a flaw.
func addressMatches(pattern, addr string) (yes bool, flaw string) {
	if pattern == addr || pattern == "["+addr+"]" {
		return true, ""
	}
	if !isNetwork(pattern) || strings.Contains(pattern, ":") != strings.Contains(addr, ":") {
		return false, ""
	}
	p, flaw := parseNetwork(pattern)
	if flaw != "" {
		return false, flaw
	}
	a, err := netip.ParseAddr(addr)
	return err == nil && p.Contains(a), ""
}

// isNetwork reports whether Postfix takes a pattern for an address or a network.
func isNetwork(pattern string) bool {
	return strings.ContainsAny(pattern, ":/") && strings.Trim(pattern, digitsOfSix+"[]/") == ""
}

// parseNetwork reads an address or a network, with brackets or without, as
// cidr_match(3) does. flaw says what Postfix does not take of it.
func parseNetwork(s string) (p netip.Prefix, flaw string) {
	address, length, ranged := strings.Cut(s, "/")
	if inside, ok := strings.CutPrefix(s, "["); ok {
		inside, after, closed := strings.Cut(inside, "]")
		switch {
		case !closed:
			return p, "has no closing bracket"
		case after != "" && after[0] != '/':
			return p, "has more behind its bracket"
		case after != "":
			address, length, ranged = inside, after[1:], true
		default:
			address, length, ranged = strings.Cut(inside, "/")
		}
	}
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" {
		return p, "is no address"
	}
	bits := a.BitLen()
	if ranged {
		if length == "" || strings.Trim(length, "0123456789") != "" || len(length) > 3 {
			return p, "has no number for a length"
		}
		bits = 0
		for _, digit := range length {
			bits = 10*bits + int(digit-'0')
		}
	}
	if p, err = a.Prefix(bits); err != nil {
		return p, fmt.Sprintf("has a length of more than %d bits", a.BitLen())
	}
	if p.Addr() != a {
		return p, fmt.Sprintf("has bits behind its length; Postfix wants %s", inBrackets(p))
	}
	return p, ""
}

// inBrackets writes a network as a list needs it.
func inBrackets(p netip.Prefix) string {
	if p.Addr().Is4() {
		return p.String()
	}
	return fmt.Sprintf("[%s]/%d", p.Addr(), p.Bits())
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
	netip.MustParsePrefix("::ffff:0:0/96"), // Postfix turns them into IPv4 before it looks
}

// isWord reports whether a list of words, as Postfix compares them, has one.
func isWord(list []value, word string) bool {
	return slices.ContainsFunc(list, func(v value) bool { return strings.EqualFold(v.text, word) })
}
