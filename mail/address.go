package mail

import (
	"strings"
	"unicode/utf8"
)

// MaxLocal is the greatest length of a local part in octets (RFC 5321 section 4.5.3.1.1).
const MaxLocal = 64

// An Address is a mailbox of RFC 5321 section 4.1.2, local part and domain.
// The local part is opaque: a percent sign, a bang or a quoted at sign in it
// is kept and never read as a route (RFC 5321 section 2.3.11). The zero
// Address is none.
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
	return Address{local: local, domain: d}, nil
}

// local reads Dot-string or Quoted-string (RFC 5321 section 4.1.2).
func (c *cursor) local() (string, error) {
	start := c.at
	var local string
	var err error
	if c.peek() == '"' {
		local, err = c.quoted()
	} else {
		local, err = c.dotString()
	}
	if err != nil {
		return "", err
	}
	written := c.text[start:c.at]
	c.at, start = start, c.at
	switch {
	case local == "":
		// "" is a valid Quoted-string; no system has a mailbox of that name,
		// and an empty local part is what address tricks are made of.
		return "", c.fail("the local part is empty")
	case len(written) > MaxLocal || len(quoteLocal(local)) > MaxLocal:
		return "", c.fail("the local part is longer than 64 octets")
	case !utf8.ValidString(local):
		return "", c.fail("the local part is not valid UTF-8")
	}
	c.at = start
	return local, nil
}

func (c *cursor) dotString() (string, error) {
	start := c.at
	for {
		atom := c.at
		for !c.done() && isAtext(c.peek()) {
			c.at++
		}
		if c.at == atom {
			return "", c.fail("a letter, digit or other atom character is missing")
		}
		if !c.accept('.') {
			return c.text[start:c.at], nil
		}
	}
}

func (c *cursor) quoted() (string, error) {
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
			if ch < ' ' || ch > '~' {
				return "", c.fail("this character cannot be quoted")
			}
		case ch < ' ' || ch == 0x7f:
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
	c := &cursor{text: s}
	_, err := c.dotString()
	return err == nil && c.done()
}
