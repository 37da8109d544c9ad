package mail

import (
	"strings"
	"unicode/utf8"
)

// ParseAddressList reads the body of an unfolded header field that names
// people, as From and Sender do: mailboxes and groups of them, with the
// obsolete forms of RFC 5322 section 4.4, and returns the addresses, in their
// order. Display names and comments are passed over: encoded words of any
// charset (RFC 2047) and octets that are no UTF-8 among them, since they say
// nothing of the address.
//
// An address is read exactly or the whole field is refused: what two readers
// could read as two different lists of addresses is an error. So is a source
// route, an at sign or comma in a display name without quotes, and a comment
// within an address that holds what addresses are made of.
func ParseAddressList(s string) ([]Address, error) {
	l := &addressList{cursor: cursor{text: s}}
	if err := l.charset(); err != nil {
		return nil, err
	}
	if err := l.elements(false); err != nil {
		return nil, err
	}
	return l.found, nil
}

// An addressList is one field on its way.
type addressList struct {
	cursor
	found []Address
}

// charset refuses what a reader that decodes first may part otherwise than we
// do: the second octet of a character of Shift JIS, GBK or Big5 can be a
// backslash, a bracket or an at sign.
func (l *addressList) charset() error {
	if utf8.ValidString(l.text) {
		return nil
	}
	for i := 1; i < len(l.text); i++ {
		if l.text[i-1] >= 0x80 && strings.IndexByte(`@[\]`, l.text[i]) >= 0 {
			l.at = i
			return l.fail("what this octet means depends on a charset that is not told")
		}
	}
	return nil
}

// elements reads mailboxes and groups up to the end, or in a group up to its
// ";". Elements may be empty (RFC 5322 section 4.4, obs-addr-list).
func (l *addressList) elements(group bool) error {
	for {
		if _, err := l.skip(); err != nil {
			return err
		}
		switch {
		case l.accept(','):
			continue
		case group && l.accept(';'):
			return nil
		case l.done() && !group:
			return nil
		}
		if err := l.element(group); err != nil {
			return err
		}
		if _, err := l.skip(); err != nil {
			return err
		}
		if !l.done() && l.peek() != ',' && (!group || l.peek() != ';') {
			return l.fail("a comma is missing between two addresses")
		}
	}
}

// element reads a mailbox or, outside of one, a group. Which it is shows
// behind its first words.
func (l *addressList) element(group bool) error {
	w, err := l.words()
	if err != nil {
		return err
	}
	switch {
	case l.peek() == '@':
		return l.address(w)
	case l.accept('<'):
		if _, err := l.skip(); err != nil {
			return err
		}
		if w, err = l.words(); err != nil {
			return err
		}
		if err := l.address(w); err != nil {
			return err
		}
		if tricky, err := l.skip(); err != nil || tricky {
			return l.within(err)
		}
		if !l.accept('>') {
			return l.fail(`the closing ">" is missing`)
		}
		return nil
	case !group && w.count > 0 && l.accept(':'):
		return l.elements(true)
	}
	return l.fail("an address is missing")
}

// words are what a display name or a local part is made of.
type words struct {
	text   []byte // without quoting and what stands between them, up to the length of an address
	long   bool   // there is more of it
	count  int    // of words, dots among them
	spaced bool   // two words have no dot between them: no local part
	tricky bool   // a comment behind the first word holds what addresses are made of
}

// keep adds s to the text. A display name may be as long as the field, and
// nobody needs it: what is too long for an address is not kept.
func (w *words) keep(s string) {
	if w.long = w.long || len(w.text)+len(s) > maxAddress; !w.long {
		w.text = append(w.text, s...)
	}
}

// words reads atoms, quoted strings and dots, and what stands between and
// behind them.
func (l *addressList) words() (w words, err error) {
	for dot := true; ; w.count++ {
		start := l.at
		switch {
		case l.accept('.'):
			w.keep(".")
			dot = true
		case l.peek() == '"':
			text, err := l.quoted(true)
			if err != nil {
				return w, err
			}
			w.keep(text)
			w.spaced = w.spaced || !dot
			dot = false
		case !l.done() && isAtext(l.peek()):
			for !l.done() && isAtext(l.peek()) {
				l.at++
			}
			w.keep(l.text[start:l.at])
			w.spaced = w.spaced || !dot
			dot = false
		default:
			return w, nil
		}
		tricky, err := l.skip()
		if err != nil {
			return w, err
		}
		w.tricky = w.tricky || tricky
	}
}

// address reads "@" and a domain behind the words of a local part.
func (l *addressList) address(local words) error {
	start, text := l.at, string(local.text)
	switch {
	case l.peek() != '@':
		return l.fail(`"@" and a domain are missing`)
	case local.tricky:
		return l.within(nil)
	case local.count == 0, local.spaced, local.long:
		return l.fail("what stands before the at sign is no local part")
	case strings.Contains(text, "=?") && strings.Contains(text, "?="):
		return l.fail("an encoded word is no part of an address") // RFC 2047 section 5
	}
	l.at++
	tricky, err := l.skip()
	if err != nil || tricky {
		return l.within(err)
	}
	d, err := l.labels()
	if err != nil {
		return err
	}
	a, err := NewAddress(text, d)
	if err != nil {
		l.at = start
		return l.fail("what stands before the at sign is no local part")
	}
	l.found = append(l.found, a)
	return nil
}

// labels reads a domain, in which white space and comments may stand around
// dots (RFC 5322 section 4.4, obs-domain).
func (l *addressList) labels() (Domain, error) {
	if l.peek() == '[' {
		return l.literal()
	}
	start := l.at
	var name strings.Builder
	for name.Len() <= MaxDomain {
		label := l.at
		for !l.done() && (isHostname(l.peek()) || l.peek() >= 0x80) {
			l.at++
		}
		name.WriteString(l.text[label:l.at])
		end := l.at
		before, err := l.skip()
		if err != nil {
			return Domain{}, err
		}
		if !l.accept('.') {
			l.at = end // a comment that stands behind the address is not within it
			break
		}
		name.WriteByte('.')
		if behind, err := l.skip(); err != nil || before || behind {
			return Domain{}, l.within(err)
		}
	}
	d, err := ParseDomain(name.String())
	if err != nil {
		l.at = start
		return Domain{}, l.fail("what follows the at sign is no domain")
	}
	return d, nil
}

// within is why a comment cannot stand where it does.
func (l *addressList) within(err error) error {
	if err != nil {
		return err
	}
	return l.fail("a comment within an address holds what addresses are made of")
}

// skip passes over white space and comments, which nest (RFC 5322 section
// 3.2.2). tricky reports a comment in which a careless reader finds the parts
// of an address.
func (l *addressList) skip() (tricky bool, err error) {
	depth := 0
	for ; !l.done(); l.at++ {
		switch b := l.peek(); {
		case b == '(':
			depth++
		case depth == 0 && b != ' ' && b != '\t':
			return tricky, nil
		case b == ')':
			depth--
		case b == '\\':
			if l.at++; l.done() || isControl(l.peek()) && l.peek() != '\t' {
				return tricky, l.fail("this character cannot be quoted")
			}
			tricky = true
		case isControl(b) && b != '\t':
			return tricky, l.fail("control characters are not allowed")
		case strings.IndexByte(`<>@,:;"`, b) >= 0:
			tricky = true
		}
	}
	if depth > 0 {
		return tricky, l.fail("the closing parenthesis of a comment is missing")
	}
	return tricky, nil
}
