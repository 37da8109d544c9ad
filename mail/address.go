package mail

import (
	"strings"
	"unicode/utf8"
)

// MaxLocal is the length in octets up to which every server must take a local
// part (RFC 5321 section 4.5.3.1.1): what we invent for others keeps to it. We
// take longer ones, as VERP and SRS write them; the limit is the path's.
const MaxLocal = 64

// maxAddress is the greatest length of an address in octets: a longer one fits
// no path.
const maxAddress = MaxPath - len("<>")

// An Address is a mailbox of RFC 5321 section 4.1.2, local part and domain.
// The local part is opaque: a percent sign, a bang or a quoted at sign in it
// is kept and never read as a route (RFC 5321 section 2.3.11). Dots that the
// grammar has no place for, as in a..b@docomo.example, are read, since telephones
// have such addresses, and written as the Quoted-string that means the same
// mailbox. The zero Address is none.
type Address struct {
	local  string // without quoting: what the quoted form means
	domain Domain
}

// ParseAddress reads local-part@domain; the whole of s must be one.
func ParseAddress(s string) (Address, error) {
	c := &cursor{text: s}
	a, err := c.mailbox()
	if err != nil {
		return Address{}, err
	}
	if err := c.end(); err != nil {
		return Address{}, err
	}
	return a, nil
}

// NewAddress joins an unquoted local part and a domain.
func NewAddress(local string, d Domain) (Address, error) {
	if d.IsZero() {
		return Address{}, &SyntaxError{Text: local + "@", At: len(local) + 1, What: "a domain is missing"}
	}
	return ParseAddress(quoteLocal(local) + "@" + d.text)
}

// Local returns the local part without quoting.
func (a Address) Local() string { return a.local }

// Domain returns the domain; it is zero of the bare <postmaster> only.
func (a Address) Domain() Domain { return a.domain }

// IsZero reports whether a is no address at all.
func (a Address) IsZero() bool { return a.local == "" && a.domain.IsZero() }

// NeedsUTF8 reports whether a as written can pass only with SMTPUTF8 (RFC 6531).
func (a Address) NeedsUTF8() bool { return !isASCII(a.local) || a.domain.NeedsUTF8() }

// ALabels returns a with its domain in A-labels and lower case: the same
// mailbox, as every server reads it.
func (a Address) ALabels() Address {
	a.domain.text = a.domain.key
	return a
}

// Equal compares the local parts to the letter and the domains by their meaning.
func (a Address) Equal(o Address) bool { return a.local == o.local && a.domain.Equal(o.domain) }

// String returns the address with its local part quoted only where it must be.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	if a.domain.IsZero() {
		return quoteLocal(a.local)
	}
	return quoteLocal(a.local) + "@" + a.domain.text
}

func (c *cursor) mailbox() (Address, error) {
	start := c.at
	local, err := c.local()
	if err != nil {
		return Address{}, err
	}
	if !c.accept('@') {
		return Address{}, c.fail(`"@" and a domain are missing`)
	}
	d, err := c.domain()
	if err != nil {
		return Address{}, err
	}
	a := Address{local: local, domain: d}
	if c.at-start > maxAddress || len(a.String()) > maxAddress || len(a.ALabels().String()) > maxAddress {
		c.at = start
		return Address{}, c.fail("the address is longer than 254 octets")
	}
	return a, nil
}

// local reads Dot-string or Quoted-string (RFC 5321 section 4.1.2), and what
// would be a Dot-string but for dots at its ends or beside each other.
func (c *cursor) local() (string, error) {
	start := c.at
	var local string
	var err error
	if c.peek() == '"' {
		local, err = c.quoted(false)
	} else {
		local, err = c.dotted()
	}
	if err != nil {
		return "", err
	}
	c.at, start = start, c.at
	switch {
	case local == "":
		// "" is a valid Quoted-string; no system has a mailbox of that name,
		// and an empty local part is what address tricks are made of.
		return "", c.fail("the local part is empty")
	case !utf8.ValidString(local):
		return "", c.fail("the local part is not valid UTF-8")
	}
	c.at = start
	return local, nil
}

// dotted reads atom characters and dots.
func (c *cursor) dotted() (string, error) {
	start := c.at
	for !c.done() && (isAtext(c.peek()) || c.peek() == '.') {
		c.at++
	}
	if strings.Trim(c.text[start:c.at], ".") == "" {
		return "", c.fail("a letter, digit or other atom character is missing")
	}
	return c.text[start:c.at], nil
}

// quoted reads a quoted string. In a header field it may have been folded, and
// hold tabs and octets of any charset.
func (c *cursor) quoted(field bool) (string, error) {
	c.at++ // the opening quote
	var b strings.Builder
	for !c.done() {
		ch := c.text[c.at]
		switch {
		case ch == '"':
			c.at++
			return b.String(), nil
		case ch == '\\':
			c.at++
			if c.done() {
				return "", c.fail("a backslash quotes nothing")
			}
			ch = c.text[c.at]
			if isControl(ch) && (!field || ch != '\t') || ch > '~' && !field {
				return "", c.fail("this character cannot be quoted")
			}
		case isControl(ch) && (!field || ch != '\t'):
			return "", c.fail("control characters are not allowed")
		}
		b.WriteByte(ch)
		c.at++
	}
	return "", c.fail("the closing quote is missing")
}

// quoteLocal returns s as a Dot-string where it is one, else as a Quoted-string.
func quoteLocal(s string) string {
	if isDotString(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool { return r < utf8.RuneSelf && !isAtext(byte(r)) }) {
			return false
		}
	}
	return true
}
