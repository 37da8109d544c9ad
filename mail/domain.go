package mail

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// MaxDomain is the greatest length of a domain in octets (RFC 5321 section 4.5.3.1.2).
const MaxDomain = 255

// A Domain is the right side of an address or the name of a host: a name in
// the syntax of RFC 5321 section 4.1.2, with U-labels as RFC 6531 section 3.3
// admits, or an address literal (section 4.1.3). Underscores are taken too:
// hosts have such names, and the DNS carries them (RFC 2181 section 11). It
// keeps the text as written, but for a dot at its end, which says only that
// the name is whole; Equal compares what it means. The zero Domain is none.
type Domain struct {
	text string
	key  string // A-labels in lower case, or the canonical address literal
}

// dnsNames turns names with U-labels into A-labels, and looks at the A-labels of
// others. Hyphens in the third and fourth place are what RFC 5890 section 2.3.1
// reserves, which binds those who register names and not those who read them:
// namesHost looks at hyphens. Characters that IDNA would map into a
// dot or an at sign never get there: ParseDomain refuses them, because whoever
// maps them after the policy has judged reads another address than it did.
var dnsNames = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.CheckJoiners(true),
	idna.CheckHyphens(false), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

// ParseDomain reads a domain name or an address literal; the whole of s must be one.
func ParseDomain(s string) (Domain, error) {
	c := &cursor{text: s}
	d, err := c.domain()
	if err != nil {
		return Domain{}, err
	}
	if err := c.end(); err != nil {
		return Domain{}, err
	}
	return d, nil
}

// String returns the domain as it was written.
func (d Domain) String() string { return d.text }

// IsZero reports whether d is no domain at all.
func (d Domain) IsZero() bool { return d.text == "" }

// ASCII returns the name in A-labels and lower case, without a trailing dot;
// of an address literal it returns the canonical literal with its brackets.
func (d Domain) ASCII() string { return d.key }

// Equal reports whether the two name the same domain: case and the choice of
// U-label or A-label make no difference (RFC 5890 section 2.3.2.4).
func (d Domain) Equal(o Domain) bool { return d.key == o.key }

// Within reports whether d is parent or a name below it.
func (d Domain) Within(parent Domain) bool {
	if d.IsZero() || parent.IsZero() {
		return false
	}
	return d.key == parent.key || strings.HasSuffix(d.key, "."+parent.key)
}

// Parent returns the name without its first label, or the zero Domain of a
// top-level name or a literal.
func (d Domain) Parent() Domain {
	_, rest, ok := strings.Cut(d.key, ".")
	if !ok || d.IsLiteral() {
		return Domain{}
	}
	return Domain{text: rest, key: rest}
}

// IsLiteral reports whether d is an address literal.
func (d Domain) IsLiteral() bool { return strings.HasPrefix(d.text, "[") }

// Literal returns the address of an address literal.
func (d Domain) Literal() (netip.Addr, bool) {
	if !d.IsLiteral() {
		return netip.Addr{}, false
	}
	text := strings.TrimPrefix(d.key[1:len(d.key)-1], "IPv6:")
	a, err := netip.ParseAddr(text)
	return a, err == nil
}

// NeedsUTF8 reports whether d as written can pass only with SMTPUTF8 (RFC 6531).
func (d Domain) NeedsUTF8() bool { return !isASCII(d.text) }

// LiteralDomain returns the address literal of a (RFC 5321 section 4.1.3).
func LiteralDomain(a netip.Addr) Domain {
	if !a.IsValid() {
		return Domain{}
	}
	text := "[IPv6:" + a.WithZone("").String() + "]"
	if a.Is4() {
		text = "[" + a.String() + "]"
	}
	return Domain{text: text, key: text}
}

func (c *cursor) domain() (Domain, error) {
	if c.peek() == '[' {
		return c.literal()
	}
	start := c.at
	for !c.done() && (isHostname(c.peek()) || c.peek() == '.' || c.peek() >= 0x80) {
		c.at++
	}
	text := strings.TrimSuffix(c.text[start:c.at], ".") // RFC 1034 section 3.1: the name is whole
	fail := func(what string) (Domain, error) {
		c.at = start
		return Domain{}, c.fail(what)
	}
	switch {
	case text == "":
		return Domain{}, c.fail("a domain is missing")
	case len(text) > MaxDomain:
		return fail("the domain is longer than 255 octets")
	case strings.ContainsAny(text, "\u3002\uff0e\uff61\uff20\ufe52\ufe6b"):
		return fail("the domain holds a character that others read as a dot or an at sign")
	case !utf8.ValidString(text):
		return fail("the domain is not valid UTF-8")
	}
	key, ok := aLabels(text)
	if !ok {
		return fail("not a domain name")
	}
	if last := key[strings.LastIndexByte(key, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		// RFC 1123 section 2.1: a name whose last label is all digits is meant
		// as an address, and readers of inet_aton style take it for one.
		return fail("an address must stand in brackets, as [192.0.2.1]")
	}
	return Domain{text: text, key: key}, nil
}

// aLabels returns a name in A-labels and lower case, if it is one that the DNS
// can carry.
func aLabels(name string) (string, bool) {
	key := strings.ToLower(name)
	if !isASCII(name) || strings.HasPrefix(key, acePrefix) || strings.Contains(key, "."+acePrefix) {
		var err error
		if key, err = dnsNames.ToASCII(name); err != nil {
			return "", false
		}
		key = strings.ToLower(key)
	}
	return key, namesHost(key)
}

const acePrefix = "xn--" // of an A-label (RFC 5890 section 2.3.2.1)

// namesHost reports whether each label holds letters, digits, hyphens and
// underscores, without a hyphen at either end, and is as long as one can be
// (RFC 1035 section 2.3.4).
func namesHost(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !isHostname(label[i]) {
				return false
			}
		}
	}
	return true
}

// isHostname reports whether b may stand in a label of ASCII.
func isHostname(b byte) bool { return isAlnum(b) || b == '-' || b == '_' }

func (c *cursor) literal() (Domain, error) {
	start := c.at
	closing := strings.IndexByte(c.rest(), ']')
	if closing < 0 {
		return Domain{}, c.fail("the address literal has no closing bracket")
	}
	text := c.text[start : start+closing+1]
	inner := text[1 : len(text)-1]
	v6 := len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:")
	if v6 {
		inner = inner[5:]
	}
	a, err := netip.ParseAddr(inner)
	if err != nil || a.Zone() != "" || a.Is4() == v6 {
		return Domain{}, c.fail("not an address literal such as [192.0.2.1] or [IPv6:2001:db8::1]")
	}
	c.at += len(text)
	return Domain{text: text, key: LiteralDomain(a).text}, nil
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
