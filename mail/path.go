package mail

import "strings"

// MaxPath is the greatest length of a path in octets, brackets included
// (RFC 5321 section 4.5.3.1.3).
const MaxPath = 256

// A ReversePath is the argument of MAIL FROM: a mailbox, or the null path <>
// of notices that nobody must answer (RFC 5321 section 4.5.5). The zero value
// is no path at all; it is not the null path.
type ReversePath struct {
	path path
	null bool
}

// A ForwardPath is the argument of RCPT TO: a mailbox, or <postmaster>, which
// alone needs no domain (RFC 5321 section 4.5.1). A source route is kept as
// written; nothing in Postern follows one.
type ForwardPath struct{ path path }

type path struct {
	route   string // "@a,@b" as written, or empty
	mailbox Address
}

// NullPath returns the null reverse-path <>.
func NullPath() ReversePath { return ReversePath{null: true} }

// ReverseTo and ForwardTo make the path of one mailbox.
func ReverseTo(a Address) ReversePath { return ReversePath{path: path{mailbox: a}} }

// ForwardTo makes the forward-path of one mailbox.
func ForwardTo(a Address) ForwardPath { return ForwardPath{path: path{mailbox: a}} }

// ParseReversePath reads a path in its brackets; the whole of s must be one.
func ParseReversePath(s string) (ReversePath, error) {
	p, rest, err := CutReversePath(s)
	if err == nil && rest != "" {
		err = &SyntaxError{Text: s, At: len(s) - len(rest), What: "nothing may follow the path"}
	}
	if err != nil {
		return ReversePath{}, err
	}
	return p, nil
}

// ParseForwardPath reads a path in its brackets; the whole of s must be one.
func ParseForwardPath(s string) (ForwardPath, error) {
	p, rest, err := CutForwardPath(s)
	if err == nil && rest != "" {
		err = &SyntaxError{Text: s, At: len(s) - len(rest), What: "nothing may follow the path"}
	}
	if err != nil {
		return ForwardPath{}, err
	}
	return p, nil
}

// CutReversePath reads a path at the start of s and returns what follows it.
func CutReversePath(s string) (ReversePath, string, error) {
	if strings.HasPrefix(s, "<>") {
		return NullPath(), s[2:], nil
	}
	p, rest, err := cutPath(s)
	if err == nil && p.mailbox.domain.IsZero() {
		err = &SyntaxError{Text: s, At: len(s) - len(rest) - 1, What: `"@" and a domain are missing`}
	}
	if err != nil {
		return ReversePath{}, s, err
	}
	return ReversePath{path: p}, rest, nil
}

// CutForwardPath reads a path at the start of s and returns what follows it.
func CutForwardPath(s string) (ForwardPath, string, error) {
	p, rest, err := cutPath(s)
	if err != nil {
		return ForwardPath{}, s, err
	}
	return ForwardPath{path: p}, rest, nil
}

// cutPath reads "<" [ A-d-l ":" ] Mailbox ">" (RFC 5321 section 4.1.2). Where
// the path ends is decided by the grammar alone, never by a search for ">":
// a quoted local part may hold one.
func cutPath(s string) (path, string, error) {
	c := &cursor{text: s}
	if !c.accept('<') {
		return path{}, s, c.fail(`an address stands in brackets, as <name@domain>`)
	}
	var p path
	if c.peek() == '@' {
		route, err := c.route()
		if err != nil {
			return path{}, s, err
		}
		p.route = route
	}
	start := c.at
	a, err := c.mailbox()
	if err != nil {
		if p.route != "" || !isPostmaster(c, start) {
			return path{}, s, err
		}
		a = Address{local: c.text[start:c.at]}
	}
	p.mailbox = a
	if !c.accept('>') {
		return path{}, s, c.fail(`the closing ">" is missing`)
	}
	if c.at > MaxPath {
		c.at = MaxPath
		return path{}, s, c.fail("the path is longer than 256 octets")
	}
	return p, c.rest(), nil
}

// isPostmaster reports whether the failed mailbox at start is the bare
// "postmaster", in any case; the cursor then stands behind it.
func isPostmaster(c *cursor, start int) bool {
	const name = "postmaster"
	if len(c.text) < start+len(name)+1 || !strings.EqualFold(c.text[start:start+len(name)], name) || c.text[start+len(name)] != '>' {
		return false
	}
	c.at = start + len(name)
	return true
}

func (c *cursor) route() (string, error) {
	start := c.at
	for {
		if !c.accept('@') {
			return "", c.fail(`"@" and a domain are missing in the source route`)
		}
		if _, err := c.domain(); err != nil {
			return "", err
		}
		if c.accept(':') {
			return c.text[start : c.at-1], nil
		}
		if !c.accept(',') {
			return "", c.fail(`the source route lacks its ":"`)
		}
	}
}

// Null reports whether p is the null path <>.
func (p ReversePath) Null() bool { return p.null }

// IsZero reports whether p is no path at all.
func (p ReversePath) IsZero() bool { return !p.null && p.path.mailbox.IsZero() }

// Address returns the mailbox; it is zero of the null path.
func (p ReversePath) Address() Address { return p.path.mailbox }

// Route returns the source route as written ("@a,@b"), or "".
func (p ReversePath) Route() string { return p.path.route }

// String returns the path in its brackets.
func (p ReversePath) String() string {
	if p.null {
		return "<>"
	}
	return p.path.String()
}

// IsZero reports whether p is no path at all.
func (p ForwardPath) IsZero() bool { return p.path.mailbox.IsZero() }

// Address returns the mailbox; its domain is zero of the bare <postmaster>.
func (p ForwardPath) Address() Address { return p.path.mailbox }

// Route returns the source route as written ("@a,@b"), or "".
func (p ForwardPath) Route() string { return p.path.route }

// String returns the path in its brackets.
func (p ForwardPath) String() string { return p.path.String() }

func (p path) String() string {
	if p.mailbox.IsZero() {
		return ""
	}
	if p.route != "" {
		return "<" + p.route + ":" + p.mailbox.String() + ">"
	}
	return "<" + p.mailbox.String() + ">"
}
