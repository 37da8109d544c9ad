package smtp

import (
	"slices"
	"strings"

	"postern/mail"
)

// An extension is what one EHLO keyword adds (RFC 5321 section 2.2). Its verbs
// stand in the table of commands.
type extension struct {
	keyword string
	offered func(c *connection) bool   // nil: always
	args    func(c *connection) string // what follows the keyword; nil: nothing

	// mail and rcpt read one parameter; known is false of other extensions'
	// parameters, a reply refuses the value.
	mail func(p *mail.SenderParams, q parameter) (known bool, r mail.Reply)
	rcpt func(p *mail.RecipientParams, q parameter) (known bool, r mail.Reply)
}

// extensions are offered in this order. One more: a file of its own, and a row here.
var extensions = []*extension{
	&pipelining,
	&size,
	&startTLS,
	&auth,
	&enhancedStatusCodes,
	&eightBitMIME,
	&dsn,
	&smtpUTF8,
	&chunking,
	&limitsExtension,
	&xclient,
}

// in reports whether the client may use e now.
func (e *extension) in(c *connection) bool {
	for _, w := range c.server.Without {
		if strings.EqualFold(w, e.keyword) {
			return false
		}
	}
	return e.offered == nil || e.offered(c)
}

// keywords returns the lines that follow the greeting in the reply to EHLO.
func (c *connection) keywords() []string {
	var lines []string
	for _, e := range extensions {
		if !e.in(c) {
			continue
		}
		line := e.keyword
		if e.args != nil {
			if args := e.args(c); args != "" {
				line += " " + args
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// A parameter is one of MAIL or RCPT; its name is in upper case.
type parameter struct {
	name, value string
	given       bool // there was a "=" and a value
}

func (q parameter) bad() mail.Reply {
	return mail.NewReply(501, "5.5.4", "The value of parameter "+q.name+" is not valid")
}

// parameters reads what follows a path and gives each to the extensions that
// are offered. RFC 5321 section 4.1.1.11: what no one knows is 555.
func (c *connection) parameters(text, verb string, take func(*extension, parameter) (bool, mail.Reply)) mail.Reply {
	if text == "" {
		return mail.Reply{}
	}
	if text[0] != ' ' {
		return mail.NewReply(501, "5.5.4", "Only parameters may follow the address, after a space")
	}
	var seen []string
	for word := range strings.SplitSeq(text[1:], " ") {
		if word == "" {
			continue // two spaces: not in the grammar, and nothing hangs on it
		}
		q, ok := parseParameter(word)
		if !ok {
			return mail.NewReply(501, "5.5.4", "A parameter is written NAME or NAME=VALUE")
		}
		if slices.Contains(seen, q.name) {
			return mail.NewReply(501, "5.5.4", "Parameter "+q.name+" is given twice")
		}
		seen = append(seen, q.name)
		if r := c.parameter(verb, q, take); !r.IsZero() {
			return r
		}
	}
	return mail.Reply{}
}

func (c *connection) parameter(verb string, q parameter, take func(*extension, parameter) (bool, mail.Reply)) mail.Reply {
	for _, e := range extensions {
		if !c.peer.ESMTP || !e.in(c) {
			continue
		}
		if known, r := take(e, q); known {
			return r
		}
	}
	return mail.NewReply(555, "5.5.4", verb+" parameter "+q.name+" is not supported")
}

// parseParameter reads esmtp-param of RFC 5321 section 4.1.2; values may be
// UTF-8 by RFC 6531 section 3.3.
func parseParameter(s string) (parameter, bool) {
	name, value, given := strings.Cut(s, "=")
	if name == "" || name[0] == '-' || given && value == "" || strings.ContainsRune(value, '=') || len(name) > 32 {
		return parameter{}, false
	}
	for i := range len(name) {
		b := name[i]
		if !('a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-') {
			return parameter{}, false
		}
	}
	return parameter{strings.ToUpper(name), value, given}, true
}

// isXtext reports whether s is xtext (RFC 3461 section 4).
func isXtext(s string) bool {
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case b == '+':
			if i+2 >= len(s) || !isUpperHex(s[i+1]) || !isUpperHex(s[i+2]) {
				return false
			}
			i += 2
		case b < '!' || b > '~' || b == '=':
			return false
		}
	}
	return true
}

func isUpperHex(b byte) bool { return '0' <= b && b <= '9' || 'A' <= b && b <= 'F' }

func unhex(b byte) byte {
	if b <= '9' {
		return b - '0'
	}
	return b - 'A' + 10
}

// decodeXtext returns what s stands for; s is xtext.
func decodeXtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '+' {
			b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
